"""Outputs of post-processing on their way from the lanes to the banks of the output scratchpad."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data
from amaranth.utils import ceil_log2

from ..blocks import unit
from ..blocks.pipeline import delay, taps
from ..shell.config import Config
from .groups import Groups
from .lane import Lane
from .maxima import Greatest
from .transposed import Apart

__all__ = ["OutputWriter"]


@dataclass(frozen=True, kw_only=True)
class OutputWriter:
    """Writes each group to its banks: it is offered to every slot of a line, and one takes it.

    Outputs of a transposed command are rotated, and each has a line of its own. Of the rows of a window only the last
    is written.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.
    banks, lines : int
        Byte-wide banks of the output scratchpad, and lines of each.
    command : PostBody
        Command that is held.
    raw : Value
        Whether it writes sums as they are.
    groups : Groups
        What belongs to each group.
    valid : list of Value
        Whether a group has outputs, as many cycles after it; the last is that in which they leave the lanes.
    first : Value
        Whether a group is the first of its command, ``settings_cycle`` - 1 cycles after it.
    settings_cycle : int
        Cycles from a group to its settings, for which a command is kept.
    numerators : sequence of Value or None
        What a command of softmax writes in the place of the lanes' outputs, with them; None without such commands.
    """

    config: Config
    banks: int
    lines: int
    command: Any
    raw: Value
    groups: Groups
    valid: list[Value]
    first: Value
    settings_cycle: int
    numerators: Sequence[Value] | None = None

    def build(self, m: Module, platform, lanes: list[Lane], output) -> Value:
        """Bring outputs of lanes to a :class:`BankWrite`, a cycle later; return whether they are written."""
        config = self.config
        size, sum_size = len(lanes) * config.operand_bytes, len(lanes) * config.sum_bytes
        write_cycle = len(self.valid) - 1
        raw = delay(m, self.raw, write_cycle, "raw", reset_less=True)
        places = taps(m, self.groups.unit, write_cycle, "unit", reset_less=True)
        outputs, closes = self._reduce(m, platform, lanes, write_cycle)
        written = self.valid[-1] if closes is None else self.valid[-1] & closes
        place, apart = places[-1], None
        if config.has_transposed:
            apart = Apart(m, config, self.banks, self.lines, self.command)
            apart.follow(m, places, self.first, self.settings_cycle - 1)
            place, outputs = place[ceil_log2(len(lanes)):], apart.ordered(outputs)
        if self.numerators is not None:
            softmax = delay(m, self.command.softmax, write_cycle, "softmax", reset_less=True)
            outputs = [Mux(softmax, byte, output) for byte, output in zip(self.numerators, outputs, strict=True)]
        slots = self.banks // size
        slot = place[:ceil_log2(slots)]

        value = Signal(data.ArrayLayout(8, sum_size), name="output_bytes", reset_less=True)
        line = Signal(range(self.lines), name="output_line", reset_less=True)
        enable = Signal(slots, name="output_enable")
        m.d.sync += line.eq(place[len(slot):])
        for byte in range(sum_size):
            whole = lanes[byte // config.sum_bytes].output
            narrow = outputs[byte % size // config.operand_bytes]
            m.d.sync += value[byte].eq(Mux(raw, whole.word_select(byte % config.sum_bytes, 8),
                                           narrow.word_select(byte % config.operand_bytes, 8)))
        shift = ceil_log2(sum_size // size)
        for number in range(slots):
            taken = Mux(raw, slot[shift:] == number >> shift, slot == number)
            m.d.sync += enable[number].eq(written & taken)
        enables, lines = [enable[bank // size] for bank in range(self.banks)], [line] * self.banks
        if apart is not None:
            enables, lines = apart.offered(m, written, enables, line)
        for bank in range(self.banks):
            m.d.comb += [
                output.en[bank].eq(enables[bank]),
                output.line[bank].eq(lines[bank]),
                output.data[bank].eq(value[bank % sum_size]),
            ]
        return written

    def _reduce(self, m, platform, lanes, write_cycle):
        """Outputs of the lanes, the greatest of their windows so far, and whether they are to be written; None: all."""
        if self.groups.window is None:
            return [lane.output for lane in lanes], None
        opens, closes = delay(m, self.groups.window, write_cycle, "window", reset_less=True)
        is_unsigned = delay(m, self.command.reduce_unsigned, write_cycle, "is_unsigned", reset_less=True)
        outputs = []
        for index, lane in enumerate(lanes):
            greatest = Greatest(8 * self.config.operand_bytes, self.config.sum_columns // len(lanes))
            unit.add(m, f"greatest_{index}", greatest, platform)
            m.d.comb += [greatest.value.eq(lane.output), greatest.opens.eq(opens),
                         greatest.is_unsigned.eq(is_unsigned)]
            outputs.append(greatest.greatest)
        return outputs, closes
