"""One lane of post-processing of floats: from a float32 sum to an output."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from ..arithmetic.float_convert import FloatNarrow, widened
from ..arithmetic.float_formats import FLOAT32
from ..arithmetic.float_multiply import FloatMultiply
from ..arithmetic.float_sum import FloatSum
from ..arithmetic.floating import less_than
from ..blocks.pipeline import delay
from ..shell.commands import Rounding
from ..shell.config import Config
from .float_numerators import FloatScore
from .numerators import SCORE_BITS
from .post_lane import PostLane

__all__ = ["FloatLane", "FloatSettings", "bound_of", "field_of"]

#: Bit of a command's ``low`` and ``high`` that says that there is such a bound, of the format below it. It is the sign.
_BOUND = 16

#: Sign of a float32.
_NEGATIVE = 1 << 31


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
    """Bias, factor, bounds and conversion of one output per cycle.

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
    factor : :py:`In(32)`
        With ``post.softmax``, what a biased sum is multiplied by: float32, as many cycles after it as an addition
        takes.
    settings : :py:`In(FloatSettings)`
        Settings of the value that came in ``settings_cycle`` cycles ago.
    output_valid : :py:`Out(1)`
        ``valid``, ``latency`` cycles later.
    output : :py:`Out(32)`
        The float32 value, or in the lowest bytes what it is rounded to, to nearest, halves to even.
    score : :py:`Out(signed(25))`, hidden : :py:`Out(1)`, none : :py:`Out(1)`
        With ``post.softmax``, the value as an integer (:class:`FloatScore`), :meth:`score_cycle_of` cycles after it;
        whether the biased sum is minus infinity; and whether it is another infinity, or no number.
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
            **({"factor": In(32), "score": Out(signed(SCORE_BITS)), "hidden": Out(1), "none": Out(1)}
               if config.has_softmax else {}),
        })

    @classmethod
    def settings_cycle_of(cls, config: Config) -> int:
        """Return the cycles from a value to its settings: the bias's addition, and a multiplication if there is one."""
        return config.arithmetic.add_latency + FloatMultiply.MOST * config.has_softmax

    @classmethod
    def score_cycle_of(cls, config: Config) -> int:
        """Return the cycles from a value to its score, with ``post.softmax``."""
        return cls.settings_cycle_of(config) + FloatScore.LATENCY

    @classmethod
    def latency_of(cls, config: Config) -> int:
        """Return the cycles from a value to its output."""
        return cls.settings_cycle_of(config) + cls._BOUNDS + FloatNarrow.MOST + 1

    def elaborate(self, platform):
        """Build the lane."""
        m = Module()

        m.d.comb += self.output_valid.eq(delay(m, self.valid, self.latency, "valid"))
        m.submodules.adder = adder = FloatSum(self._config.arithmetic.add_latency)
        m.d.comb += [adder.a.eq(self.accumulator), adder.b.eq(self.bias)]

        settings, total = self.settings, adder.sum
        if self._config.has_softmax:
            total = self._multiplied(m, total)
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

    def _multiplied(self, m, total):
        """Multiply a sum by its factor, and give softmax its score."""
        m.submodules.multiplier = multiplier = FloatMultiply(FLOAT32, FloatMultiply.MOST)
        m.submodules.integer = integer = FloatScore()
        cycles = FloatMultiply.MOST + FloatScore.LATENCY
        special, minus = total[FLOAT32.fraction:-1].all(), total == _NEGATIVE | FLOAT32.beyond
        m.d.comb += [
            multiplier.a.eq(total),
            multiplier.b.eq(self.factor),
            integer.number.eq(multiplier.product),
            self.score.eq(integer.score),
            self.hidden.eq(delay(m, minus, cycles, "hidden", reset_less=True)),
            self.none.eq(delay(m, special & ~minus, cycles, "none", reset_less=True)),
        ]
        return multiplier.product
