"""The lanes with the memories of their parameters, and what takes the place of each lane's sum."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, ValueLike, signed
from amaranth.lib import wiring
from amaranth.utils import ceil_log2

from ..blocks import unit
from ..blocks.pipeline import delay, taps
from ..blocks.rules import never
from ..routines.engine import RoutineEngine
from ..routines.instructions import INSTRUCTION_BYTES, INSTRUCTIONS
from ..shell.commands import Parameter
from ..shell.config import Config
from .average import EARLY, Average
from .float_lane import FloatLane
from .groups import Groups
from .lane import TABLE_BYTES, Lane
from .norms import NormedElement, Norms
from .pairs import PairSum, PairWrite, element_of
from .parameters import WORD_BYTES, LineMemory, WordPort, beat_words, place_bits
from .post_lane import PostLane
from .products import ADDEND_BITS, PairProduct
from .row_softmax import RowPass, RowSoftmax
from .softmax import Softmax
from .sums import AccumulatorRead
from .transposed import shared_constants
from .walk import PostWalk

__all__ = ["Lanes", "lane_of"]

#: Low bits of the two words of a scale that are kept: a factor, and a shift.
SCALE_WIDTHS = (32, 6)

#: A scale of 1.
_ONE = 0x3F800000


def lane_of(config: Config) -> type[PostLane]:
    """Return what a configuration's lanes are."""
    return FloatLane if config.has_floats else Lane


def _select(m: Module, candidates: list[ValueLike], index: Signal, name: str) -> Signal:
    """Select one of several values through registered stages of four to one."""
    level = 0
    values = [Signal.like(value, name=f"{name}_in_{number}") for number, value in enumerate(candidates)]
    m.d.comb += [signal.eq(value) for signal, value in zip(values, candidates, strict=True)]
    while len(values) > 1:
        chosen = []
        for number in range(0, len(values), 4):
            register = Signal.like(values[0], name=f"{name}_{level}_{number // 4}", reset_less=True)
            with m.Switch(index[:2]):
                for case, value in enumerate(values[number:number + 4]):
                    with m.Case(case):
                        m.d.sync += register.eq(value)
            chosen.append(register)
        values = chosen
        if len(values) > 1:
            index = delay(m, index[2:], 1, f"{name}_index_{level}", reset_less=True)
            level += 1
    return values[0]


@dataclass(frozen=True, kw_only=True)
class Lanes:
    """Brings what each lane needs for a group together in one cycle, :meth:`cycle_of` cycles after its addresses.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.
    lines : int
        Lines of the bias and scale memories.
    walk : PostWalk
        Addresses of each group, and the command.
    groups : Groups
        What belongs to each group.
    settings : Settings
        What the lanes know of the command.
    load : LoadWrite
        Bytes for the bias, scale and table memories.
    sums : AccumulatorRead
        Rows of sums.
    softmax : Softmax or None
        Where quotients of rows are kept, which normalised rows have as scales.
    rows : RowSoftmax or None
        Where what passes find of rows is kept: their greatest bytes, and scales of shares.
    norms : Norms or None
        States of rows of LayerNorm and RMSNorm.
    routines : RoutineEngine or None
        Engine of routines, which asks for instructions.
    """

    config: Config
    lines: int
    walk: PostWalk
    groups: Groups
    settings: Any
    load: Any
    sums: Any
    softmax: Softmax | None = None
    rows: RowSoftmax | None = None
    norms: Norms | None = None
    routines: RoutineEngine | None = None

    @staticmethod
    def sum_cycle_of(config: Config) -> int:
        """Return the cycles from a group's row to its sums, selected from the row."""
        return AccumulatorRead.LATENCY - (-ceil_log2(config.sum_columns // config.post.lanes) // 2)

    @classmethod
    def element_cycle_of(cls, config: Config) -> int:
        """Return the cycles from a group's row to its elements, which sums of two table entries may be."""
        return cls.sum_cycle_of(config) + PairSum.LATENCY * config.has_pairs

    @classmethod
    def cycle_of(cls, config: Config) -> int:
        """Return the cycles from a group's addresses to the inputs of the lanes."""
        return max(cls.sum_cycle_of(config), *cls._latencies_of(config))

    @staticmethod
    def _latencies_of(config: Config) -> tuple[int, ...]:
        """Return the cycles from an address to biases, and to scales where there are any."""
        words, lanes = beat_words(config), config.post.lanes
        if config.has_floats:
            return (LineMemory.latency_of(words, lanes) + 1,)
        return LineMemory.latency_of(words, lanes) + 1, LineMemory.latency_of(words, 2 * lanes)

    def build(self, m: Module, platform) -> Sequence[PostLane]:
        """Build the memories and the lanes; return these."""
        if self.config.has_floats:
            return self._floats(m, platform)
        config, command, cycle = self.config, self.walk.command, self.cycle_of(self.config)
        words = beat_words(config)
        m.submodules.word_port = port = WordPort(config)
        biases, scales = self._constants(m, port)

        lane_valid = delay(m, self.groups.output, cycle, "lane_valid")
        rounding = delay(m, command.rounding, cycle, "rounding", reset_less=True)
        use_bias = delay(m, command.bias, cycle - 1, "use_bias", reset_less=True)
        group = taps(m, self.walk.group, cycle, "group", reset_less=True)
        factors = self._factors(m) if config.has_products else None
        column_bits, lane_bits = ceil_log2(TABLE_BYTES // config.beat_bytes), ceil_log2(config.post.lanes)
        units = [Lane(config) for _ in range(config.post.lanes)]
        # Rows that are normalised have a scale of the command's, and biases in the place of scales.
        factor = normed = adds_scale = None
        if self.norms is not None:
            fields = Cat(command.bias_nstep, command.scale_nstep, command.normed)
            factor = delay(m, fields, cycle, "row_scale", reset_less=True)
            factor, normed = factor[:-1], factor[-1]
            adds_scale = delay(m, command.normed, cycle - 1, "adds_scale", reset_less=True)
        control = None
        if self.groups.averages is not None:
            control = delay(m, self.groups.averages.control, self.sum_cycle_of(config) - EARLY, "average",
                            reset_less=True)
        for index, lane in enumerate(units):
            unit.add(m, f"lane_{index}", lane, platform)
            addend = self._addend(m, platform, index, group[AccumulatorRead.LATENCY], port, control, factors,
                                  biases[index])
            offset = Signal(signed(32), name=f"bias_{index}", reset_less=True)
            added = biases[index] if factor is None else Mux(adds_scale, scales[2 * index], biases[index])
            m.d.sync += offset.eq(Mux(use_bias, added, 0))
            m.d.comb += [
                lane.valid.eq(lane_valid),
                lane.group.eq(group[cycle]),
                lane.rounding.eq(rounding),
                lane.accumulator.eq(addend),
                lane.bias.eq(offset),
                lane.scale.eq(scales[2 * index] if factor is None else Mux(normed, factor, scales[2 * index])),
                lane.shift.eq(scales[2 * index + 1]),
                lane.settings.eq(self.settings),
                lane.table.data.eq(port.write.data),
            ]
            for word in range(words):
                place = port.write.place[word]
                m.d.comb += [
                    lane.table.en[word].eq(port.write.en[word] & (port.destination == Parameter.TABLE)
                                           & (place[column_bits:column_bits + lane_bits] == index)),
                    lane.table.place[word].eq(Cat(place[:column_bits], place[column_bits + lane_bits:])),
                ]
        return units

    def _floats(self, m, platform):
        """Build the memory of biases and the lanes of floats, which have no other constants."""
        config, command, cycle = self.config, self.walk.command, self.cycle_of(self.config)
        m.submodules.word_port = port = WordPort(config)
        wiring.connect(m, wiring.flipped(self.load), port.load)
        (of_bias,) = self._latencies_of(config)
        m.submodules.bias_memory = biases = LineMemory(beat_words(config), place_bits(config), config.post.lanes,
                                                       self.lines)
        self._written(m, port, biases, Parameter.BIAS)
        if self.routines is not None:
            self._instructions(m, port)
        m.d.comb += biases.line.eq(delay(m, self.walk.bias_line, cycle - of_bias, "bias_line", reset_less=True))
        valid = delay(m, self.groups.output, cycle, "lane_valid")
        rounding = delay(m, command.rounding, cycle, "rounding", reset_less=True)
        use_bias = delay(m, command.bias, cycle - 1, "use_bias", reset_less=True)
        group = delay(m, self.walk.group, AccumulatorRead.LATENCY, "group", reset_less=True)
        units = [FloatLane(config) for _ in range(config.post.lanes)]
        for index, lane in enumerate(units):
            unit.add(m, f"lane_{index}", lane, platform)
            columns = [self.sums.data[number + index] for number in range(0, config.sum_columns, len(units))]
            total = _select(m, columns, group, f"sum_{index}")
            offset = Signal(32, name=f"bias_{index}", reset_less=True)
            m.d.sync += offset.eq(Mux(use_bias, biases.data[index], 0))
            m.d.comb += [
                lane.valid.eq(valid),
                lane.rounding.eq(rounding),
                lane.accumulator.eq(delay(m, total, cycle - self.sum_cycle_of(config), f"sum_{index}",
                                          reset_less=True)),
                lane.bias.eq(offset),
                lane.settings.eq(self.settings),
            ]
        return units

    def _instructions(self, m, port):
        """Build the memory of instructions, two words each."""
        config = self.config
        m.submodules.instruction_memory = memory = LineMemory(
            beat_words(config), place_bits(config), INSTRUCTION_BYTES // WORD_BYTES, INSTRUCTIONS)
        self._written(m, port, memory, config.commands.destination["ROUTINE"])
        m.d.comb += [memory.line.eq(self.routines.number), self.routines.instruction.eq(memory.data.as_value())]

    @staticmethod
    def _written(m, port, memory, destination):
        """Let a memory of lines be written by loads to its destination."""
        m.d.comb += [
            memory.write.en.eq(Mux(port.destination == destination, port.write.en, 0)),
            memory.write.place.eq(port.write.place),
            memory.write.data.eq(port.write.data),
        ]

    def _constants(self, m, port):
        """Build the memories of biases and scales; return their words, those of a lane side by side."""
        config, walk, cycle = self.config, self.walk, self.cycle_of(self.config)
        words, lanes = beat_words(config), config.post.lanes
        m.submodules.bias_memory = bias = LineMemory(words, place_bits(config), lanes, self.lines)
        m.submodules.scale_memory = scale = LineMemory(words, place_bits(config), 2 * lanes, self.lines,
                                                       SCALE_WIDTHS)
        wiring.connect(m, wiring.flipped(self.load), port.load)
        for memory, destination in ((bias, Parameter.BIAS), (scale, Parameter.SCALE)):
            self._written(m, port, memory, destination)
        fine = ceil_log2(lanes) if config.has_transposed else 0
        biases, scales = ([memory.data[word] for word in range(count)]
                          for memory, count in ((bias, lanes), (scale, 2 * lanes)))
        of_bias, of_scale = self._latencies_of(config)
        # Gains, which stand in the place of biases, are wanted a cycle before those, and biases a cycle before scales.
        late = self.element_cycle_of(config) + NormedElement.LATENCY - cycle - 1 if self.norms is not None else 0
        for memory, line, latency, name in ((bias, walk.bias_line, of_bias, "bias_line"),
                                            (scale, walk.scale_line, of_scale, "scale_line")):
            lines = taps(m, line[fine:], cycle - latency + late, name, reset_less=True)
            m.d.comb += memory.line.eq(self._line(m, name, lines, late))
        if config.has_transposed:
            biases, scales = shared_constants(m, walk, cycle, biases, scales)
        scales = scales if self.rows is None else self._shared(m, self.rows, scales)
        return biases, scales if self.softmax is None else self._normalised(m, self.softmax, scales, fine)

    def _shared(self, m, rows, scales):
        """Put what shares of a row are scaled by in the place of all lanes' scales, as the command says."""
        share = delay(m, self.walk.command.row_pass == RowPass.SHARE, self.cycle_of(self.config), "share",
                      reset_less=True)
        factor, shift = rows.inverse, rows.shift
        if self.config.has_float_softmax:
            factor = Mux(self.walk.command.float_row, _ONE, factor)
        return [Mux(share, shift if number % 2 else factor, word) for number, word in enumerate(scales)]

    def _line(self, m, name, lines, late):
        """Line of a group, which comes `late` cycles later where rows are normalised; the last of `lines` is that."""
        if not late:
            return lines[-1]
        valid = delay(m, self.walk.valid & self.walk.command.normed, len(lines) - 1, f"{name}_of_row")
        return Mux(valid, lines[-1], lines[-1 - late])

    def _normalised(self, m, softmax, scales, fine):
        """Put a row's quotient in the place of all lanes' scales, as the command says."""
        walk, cycle = self.walk, self.cycle_of(self.config)
        row = delay(m, walk.scale_line[fine:], cycle - Softmax.QUOTIENT, "quotient_row", reset_less=True)
        normalise = delay(m, walk.command.normalise, cycle, "normalise", reset_less=True)
        m.d.comb += softmax.quotient_row.eq(row)
        return [word if number % 2 else Mux(normalise, softmax.quotient, word) for number, word in enumerate(scales)]

    def _addend(self, m, platform, index, group, port, control, factors, gain):
        """Select a lane's sum from its row, and return what takes the place of it, as the command says."""
        config, lanes = self.config, self.config.post.lanes
        columns = [self.sums.data[number + index] for number in range(0, config.sum_columns, lanes)]
        total = _select(m, columns, group, f"sum_{index}")
        waited = delay(m, total, self.cycle_of(config) - self.sum_cycle_of(config), f"sum_{index}", reset_less=True)
        element = total
        if config.has_pairs:
            waited, found = self._pair(m, index, platform, total, waited, port, control)
            if self.norms is not None:
                element = self._element(m, f"element_{index}", total, found)
        if factors is not None:
            waited = self._product(m, f"product_{index}", platform, total, waited, factors)
        if self.norms is not None:
            waited = self._normed(m, index, platform, element, waited, gain)
        return waited

    def _element(self, m, name, total, found):
        """Select the element of a row: a sum, or what is found of a pair, as the command says."""
        pair = delay(m, self.walk.command.pair, self.element_cycle_of(self.config), f"{name}_pair", reset_less=True)
        plain = delay(m, total[:9].as_signed(), PairSum.LATENCY, name, reset_less=True)
        return Mux(pair, element_of(m, found, name), plain)

    def _normed(self, m, index, platform, element, waited, gain):
        """Put a normalised element in the place of a sum, where the command says so; give the row its element."""
        command, norms = self.walk.command, self.norms
        unit.add(m, f"normed_{index}", lane := NormedElement(), platform)
        m.d.comb += [
            lane.element.eq(element),
            lane.square.eq(norms.square),
            lane.elements.eq(norms.elements),
            lane.total.eq(norms.total),
            lane.root.eq(norms.root),
            lane.gain.eq(gain),
            norms.values[index].eq(lane.value),
            norms.squares[index].eq(lane.squared),
        ]
        chosen = delay(m, command.normed, self.cycle_of(self.config), f"normed_{index}", reset_less=True)
        return Mux(chosen, lane.product, waited)

    def _pair(self, m, index, platform, total, waited, port, control):
        """Put a sum of two table entries, or what a search has found, in the place of a sum, as the command says.

        Return what stands there, and the sum of the entries.
        """
        config, command, name, rows = self.config, self.walk.command, f"pair_{index}", self.rows
        looked_up = total if rows is None else Cat(self._row_byte(m, index, rows, total), total[8:])
        if control is None:
            tables, chosen = PairSum(), command.pair
            m.d.comb += tables.pair.eq(looked_up)
        else:
            tables, chosen = Average(), command.pair | command.average | command.search
            m.d.comb += [tables.control.eq(control), tables.total.eq(looked_up)]
        if rows is not None:
            chosen = chosen | (command.row_pass == RowPass.SHARE)
            m.d.comb += rows.term[index].eq(tables.sum)
        unit.add(m, name, tables, platform)
        enable = port.destination == config.pair_memory
        for table, (en, entry, word) in enumerate(PairWrite.of(config, port.write, enable)):
            m.d.comb += [
                tables.write.en[table].eq(en),
                tables.write.entry[table].eq(entry),
                tables.write.data[table].eq(word),
            ]
        pair = delay(m, chosen, self.cycle_of(config), name, reset_less=True)
        found = Mux(pair, tables.sum, waited)
        if not config.has_float_softmax:
            return found, tables.sum
        share = delay(m, command.float_row & (command.row_pass == RowPass.SHARE), self.cycle_of(config),
                      f"share_{index}", reset_less=True)
        return Mux(share, rows.share[index], found), tables.sum

    @staticmethod
    def _row_byte(m, index, rows, total):
        """What a byte is looked up by: how far it is below the greatest of its row, or itself, as the command says."""
        m.d.comb += rows.total[index].eq(total[:9])
        return Mux(rows.below, (rows.greatest - total[:8])[:8], total[:8])

    def _factors(self, m):
        """Bring what belongs to products of pairs to the cycle of their sums: zero points, and what is added."""
        command, cycle = self.walk.command, self.sum_cycle_of(self.config)
        addend = Cat(command.bias_nstep, command.bias_mstep)[:ADDEND_BITS]
        early = command.bias | command.per_channel | command.table | command.scale_nstep.any()
        never(m, "product", command.product & early,
              "bias, per_channel, table and scale_nstep must be zero")
        return (delay(m, command.bias_base, cycle, "product_zeros", reset_less=True),
                delay(m, addend, cycle, "product_addend", reset_less=True))

    def _product(self, m, name, platform, total, waited, factors):
        """Put a product of two bytes in the place of a sum, where the command says so."""
        zeros, addend = factors
        unit.add(m, name, product := PairProduct(), platform)
        m.d.comb += [product.pair.eq(total), product.zeros.eq(zeros), product.addend.eq(addend)]
        chosen = delay(m, self.walk.command.product, self.cycle_of(self.config), name, reset_less=True)
        return Mux(chosen, product.product, waited)
