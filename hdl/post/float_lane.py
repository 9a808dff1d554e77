"""One lane of post-processing of floats: from a float32 sum to an output."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value, unsigned
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from ..arithmetic.float_add import FloatAdd
from ..arithmetic.float_convert import FloatNarrow, widened
from ..arithmetic.floating import less_than
from ..blocks.pipeline import delay
from ..shell.commands import Rounding
from ..shell.config import Config
from .post_lane import PostLane

__all__ = ["FloatLane", "FloatSettings", "bound_of", "field_of"]

#: Bit of a command's ``low`` and ``high`` that says that there is such a bound, of the format below it. It is the sign.
_BOUND = 16


def field_of(bits: int) -> int:
    """Field of a command, ``low`` or ``high``, for a bound of these bits; without a bound it is zero."""
    return bits - (1 << _BOUND)


def bound_of(field):
    """Bits of a command's bound, and whether there is one, of such a field: a signal or a number."""
    if isinstance(field, Value):
        return field[:_BOUND], field[_BOUND]
    return field & (1 << _BOUND) - 1, field >> _BOUND & 1


class FloatSettings(data.Struct):
    """What is the same for all values of a command: bounds, and whether there are any."""

    low: unsigned(32)
    high: unsigned(32)
    has_low: unsigned(1)
    has_high: unsigned(1)

    @staticmethod
    def of(m: Module, config: Config, command: Any, raw: Value) -> dict[str, Value]:
        """Fields of a command's settings, by name.

        Bounds of a command are numbers of the operands' format. If sums are written as they are, ``table`` is set for
        those that are zero at least.
        """
        form = config.arithmetic.format
        (low, has_low), (high, has_high) = bound_of(command.low), bound_of(command.high)
        low, high = (widened(m, form, bits[:form.bits]) for bits in (low, high))
        return {"low": Mux(raw, 0, low), "high": high, "has_low": Mux(raw, command.table, has_low),
                "has_high": ~raw & has_high}


class FloatLane(PostLane):
    """Bias, bounds and conversion of one output per cycle.

    Ports are as of :class:`.lane.Lane`, which has more of them.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.

    Members
    -------
    valid : :py:`In(1)`
        Whether a value is given.
    rounding : :py:`In(Rounding)`
        ``NONE``, or any other for a conversion.
    accumulator, bias : :py:`In(32)`
        Sum and bias, float32.
    settings : :py:`In(FloatSettings)`
        Settings of the value that came in ``settings_cycle`` cycles ago.
    output_valid : :py:`Out(1)`
        ``valid``, ``latency`` cycles later.
    output : :py:`Out(32)`
        The float32 value, or in the lowest bytes what it is rounded to, to nearest, halves to even.
    """

    SETTINGS = FloatSettings

    #: Cycles in which a value is compared with its bounds, and takes one of them.
    _BOUNDS = 2

    def __init__(self, config: Config):
        super().__init__(config, {
            "valid": In(1),
            "rounding": In(Rounding),
            "accumulator": In(32),
            "bias": In(32),
            "settings": In(FloatSettings),
            "output_valid": Out(1),
            "output": Out(32),
        })

    @classmethod
    def settings_cycle_of(cls, config: Config) -> int:
        """Return the cycles from a value to its settings: the bias's addition."""
        return config.arithmetic.add_latency

    @classmethod
    def latency_of(cls, config: Config) -> int:
        """Return the cycles from a value to its output."""
        return cls.settings_cycle_of(config) + cls._BOUNDS + FloatNarrow.MOST + 1

    def elaborate(self, platform):
        """Build the lane."""
        m = Module()

        m.d.comb += self.output_valid.eq(delay(m, self.valid, self.latency, "valid"))
        m.submodules.adder = adder = FloatAdd(self.settings_cycle)
        m.d.comb += [adder.a.eq(self.accumulator), adder.b.eq(self.bias)]

        settings, total = self.settings, adder.sum
        below, above = Signal(reset_less=True), Signal(reset_less=True)
        m.d.sync += [
            below.eq(settings.has_low & less_than(total, settings.low)),
            above.eq(settings.has_high & less_than(settings.high, total)),
        ]
        compared = delay(m, total, 1, "compared", reset_less=True)
        later = delay(m, settings, 1, "settings", reset_less=True)
        bounded = Signal(32, reset_less=True)
        m.d.sync += bounded.eq(Mux(below, later.low, Mux(above, later.high, compared)))

        m.submodules.conversion = narrow = FloatNarrow(self._config.arithmetic.format, FloatNarrow.MOST)
        m.d.comb += narrow.number.eq(bounded)
        plain = delay(m, bounded, FloatNarrow.MOST, "plain", reset_less=True)
        raw = delay(m, self.rounding == Rounding.NONE, self.latency - 1, "raw", reset_less=True)
        m.d.sync += self.output.eq(Mux(raw, plain, narrow.narrow))

        return m
