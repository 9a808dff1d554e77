"""One lane of post-processing: from a sum to an output."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..blocks.pipeline import delay
from ..shell.commands import Rounding
from ..shell.config import Config
from .numerators import SCORE_BITS
from .parameters import Table, WordWrite, beat_words
from .post_lane import PostLane
from .requantise import RESULT_BITS, WIDE_RESULT_BITS, Requantiser

__all__ = ["Lane", "Settings"]

#: Bytes of one column's table.
TABLE_BYTES = 256

#: Bits of the magnitude from which a negative sum hides the score that is made of it.
_HIDDEN_BITS = 29


class Settings(data.Struct):
    """What is the same for all values of a command.

    With ``Rounding.NONE``, ``zero_point``, ``clamp`` and ``table`` must be zero, otherwise ``relu``.
    """

    zero_point: signed(17)
    low: signed(17)
    high: signed(17)
    #: Whether ``low`` and ``high`` apply.
    clamp: unsigned(1)
    #: Whether the table is looked up.
    table: unsigned(1)
    #: Whether a negative sum becomes zero.
    relu: unsigned(1)

    @staticmethod
    def of(m: Module, config: Config, command: Any, raw: Value) -> dict[str, Value]:
        """Fields of a command's settings, by name."""
        return {"zero_point": Mux(raw, 0, command.zero_point), "low": command.low, "high": command.high, "clamp": ~raw,
                "table": ~raw & command.table, "relu": raw & command.table}


class Lane(PostLane):
    """Bias, requantisation, zero point, clamp and table of one output per cycle.

    Sums wrap at the width of an accumulator. With 16-bit operands a table's byte is zero-extended.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.

    Members
    -------
    valid : :py:`In(1)`
        Whether a value is given.
    group : :py:`In(range(sum_columns / lanes))`
        Which of the lane's columns the value belongs to; decides the table.
    rounding : :py:`In(Rounding)`
        Rule.
    accumulator : :py:`In(signed(accumulator_bits))`
        Sum.
    bias : :py:`In(signed(32))`
        Bias.
    scale : :py:`In(32)`, shift : :py:`In(signed(6))`
        See :class:`Requantiser`.
    settings : :py:`In(Settings)`
        Settings of the value that came in ``settings_cycle`` cycles ago.
    table : :py:`In(WordWrite(...))`
        Words of this lane's table; a place counts beats of ``(sum_columns / lanes) * 256`` bytes.
    output_valid : :py:`Out(1)`
        ``valid``, ``latency`` cycles later.
    output : :py:`Out(8 * sum_bytes)`
        With ``Rounding.NONE`` the biased sum, sign-extended, or zero if that is negative and ``relu``
        set; else an output in the lowest ``operand_bytes`` bytes, the others undefined.
    score : :py:`Out(signed(25))`, hidden : :py:`Out(1)`
        With ``post.softmax``, the rounded value without a zero point, ``settings_cycle`` cycles after it, saturated at
        ``2**24 - 1`` with ``Rounding.ONNX``; and whether the biased sum is less than ``-2**29``.
    """

    SETTINGS = Settings

    def __init__(self, config: Config):
        self._groups = config.sum_columns // config.post.lanes
        self._table_bytes = self._groups * TABLE_BYTES
        super().__init__(config, {
            "valid": In(1),
            "group": In(range(max(self._groups, 2))),
            "rounding": In(Rounding),
            "accumulator": In(config.arithmetic.accumulator),
            "bias": In(signed(32)),
            "scale": In(32),
            "shift": In(signed(6)),
            "settings": In(Settings),
            "table": In(WordWrite(beat_words(config), self.table_place_bits(config))),
            "output_valid": Out(1),
            "output": Out(8 * config.sum_bytes),
            **({"score": Out(signed(SCORE_BITS)), "hidden": Out(1)} if config.has_softmax else {}),
        })

    @staticmethod
    def table_place_bits(config: Config) -> int:
        """Bits of a beat's place in the table of one lane."""
        size = config.sum_columns // config.post.lanes * TABLE_BYTES
        return ceil_log2(max(2, size // config.beat_bytes))

    @classmethod
    def settings_cycle_of(cls, config: Config) -> int:
        """Return the cycles from a value to its settings: the bias's addition and the requantiser."""
        return config.arithmetic.add_latency + Requantiser.latency_of(config.accumulator_bits)

    @classmethod
    def latency_of(cls, config: Config) -> int:
        """Return the cycles from a value to its output."""
        return cls.settings_cycle_of(config) + 3 + Table.LATENCY + 1

    def elaborate(self, platform):
        """Build the lane."""
        m = Module()

        config, width = self._config, self._config.accumulator_bits
        m.d.comb += self.output_valid.eq(delay(m, self.valid, self.latency, "valid"))

        bits = WIDE_RESULT_BITS if config.has_softmax else RESULT_BITS
        m.submodules.requantiser = requantiser = Requantiser(width, bits)
        arithmetic = config.arithmetic
        total = arithmetic.add(m, self.accumulator, self.bias, arithmetic.accumulator, "total")
        m.d.comb += requantiser.sum.eq(total)
        for name in ("rounding", "scale", "shift"):
            value = delay(m, getattr(self, name), arithmetic.add_latency, name, reset_less=True)
            m.d.comb += getattr(requantiser, name).eq(value)
        self._score(m, total, requantiser.result)

        # Zero point, comparisons and clamp, a cycle each.
        later = [self.settings]
        for cycle in range(1, 3):
            later.append(Signal(Settings, name=f"settings_{cycle}", reset_less=True))
            m.d.sync += later[cycle].eq(later[cycle - 1])
        value = Signal(signed(bits + 1), reset_less=True)
        m.d.sync += value.eq(requantiser.result + self.settings.zero_point)
        below = Signal(reset_less=True)
        above = Signal(reset_less=True)
        m.d.sync += [
            below.eq(later[1].clamp & (value < later[1].low)),
            above.eq(later[1].clamp & (value > later[1].high)),
        ]
        output_bits = 8 * config.operand_bytes
        compared = delay(m, value, 1, "compared", reset_less=True)
        clamped = Signal(output_bits, reset_less=True)
        m.d.sync += clamped.eq(Mux(below, later[2].low, Mux(above, later[2].high, compared)))

        # Without a zero point the low bits of a raw sum are those of the value.
        same = bits - 1
        parts = [delay(m, compared[output_bits:same], 1, "raw_middle", reset_less=True)]
        parts += [delay(m, requantiser.raw[same:], 3, "raw_high", reset_less=True)]
        plain = delay(m, Cat(clamped, *parts), Table.LATENCY, "plain", reset_less=True)
        use_table = delay(m, later[2].table, 1 + Table.LATENCY, "use_table", reset_less=True)
        use_relu = delay(m, later[2].relu, 1 + Table.LATENCY, "use_relu", reset_less=True)

        m.submodules.table_memory = table = Table(beat_words(config), self._table_bytes)
        group = delay(m, self.group, self.settings_cycle + 3, "group", reset_less=True)
        m.d.comb += [
            table.address.eq(Cat(clamped[:8], group)),
            table.write.en.eq(self.table.en),
            table.write.place.eq(self.table.place),
            table.write.data.eq(self.table.data),
        ]
        output = Signal(8 * config.sum_bytes, reset_less=True)
        m.d.sync += output.eq(plain.as_signed())
        with m.If(use_table):
            m.d.sync += output[:output_bits].eq(table.value)
        with m.If(use_relu & plain[-1]):
            m.d.sync += output.eq(0)
        m.d.comb += self.output.eq(output)

        return m

    def _score(self, m, total, result):
        """Give softmax, where there is any, the rounded value, and tell whether its sum hides it."""
        if not self._config.has_softmax:
            return
        cycles = self.settings_cycle - self._config.arithmetic.add_latency
        hidden = delay(m, total[-1] & ~total[_HIDDEN_BITS:].all(), cycles, "hidden", reset_less=True)
        m.d.comb += [self.score.eq(result), self.hidden.eq(hidden)]
