"""Post-processing engine: turns rows of sums into outputs in the output scratchpad."""

from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Mux, Signal, Value, ValueLike, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..blocks import unit
from ..blocks.banks import BankWrite
from ..blocks.pipeline import delay, taps
from ..errors import PearrayError
from ..shell.commands import Parameter, Rounding
from ..shell.config import Config
from ..shell.load_port import LoadWrite
from .lane import TABLE_BYTES, Lane, Settings
from .pairs import PairSum, PairWrite
from .parameters import LineMemory, WordPort, beat_words, place_bits
from .sums import AccumulatorRead
from .walk import PostWalk

__all__ = ["Post", "PostEvents", "output_banks", "output_lines"]

#: Low bits of the two words of a scale that are kept: a factor, and a shift.
SCALE_WIDTHS = (32, 6)


def output_banks(config: Config) -> int:
    """Return the byte-wide banks of the output scratchpad: a beat or a group of sums, the larger."""
    return max(config.beat_bytes, config.post.lanes * config.sum_bytes)


def output_lines(config: Config) -> int:
    """Return the lines of each bank of the output scratchpad.

    Raises
    ------
    PearrayError
        If the output scratchpad holds less than two lines.
    """
    banks = output_banks(config)
    if config.scratchpads.output_bytes < 2 * banks:
        raise PearrayError(f"scratchpads.output_bytes must be at least {2 * banks} (two groups of "
                           f"post.lanes = {config.post.lanes} sums), not {config.scratchpads.output_bytes}")
    return config.scratchpads.output_bytes // banks


class PostEvents(data.Struct):
    """Pulses for performance counters, each up to once per cycle."""

    #: A group of lanes was given its sums.
    group: unsigned(1)
    #: A row of sums was read (once for each group).
    accumulator_read: unsigned(1)
    #: A group of outputs was written.
    output_write: unsigned(1)


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


@dataclass(frozen=True)
class _Given:
    """A group as the lanes' part of the engine gets to know it.

    Parameters
    ----------
    valid, first, last, unit : Value
        As of :class:`PostWalk`.
    """

    valid: Value
    first: Value
    last: Value
    unit: Value


class Post(wiring.Component):
    """Engine of the POST commands (:class:`PostBody`).

    One group of ``lanes`` outputs enters per cycle, whatever the rounding, and :attr:`latency`
    cycles later is on :py:`output`; nothing stalls on the way. A command is kept when it is accepted, and its
    first group enters :attr:`START` cycles later. The next is accepted together with its last group, so that
    between two commands there is one idle cycle, but not before its first group has met its zero point and
    clamp: commands of fewer than about 20 groups take about 20 cycles each.

    The row of sums is read again for each group. Since nothing stalls, it is known beforehand when the last
    will have been read: ``released`` tells it as much earlier as nobody who hears of it can reach the sums.
    Counts of zero are not allowed. Loads to the bias, scale and table memories must keep to words
    (:mod:`hdl.parameters`).

    With ``post.pairs``, sums of pairs take :meth:`pair_delay_of` cycles more: such a command reads its sums as ever,
    and all that is done with them comes so much later. It is kept so much longer, too, so that its groups meet none of
    another command's.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.
    untouched : int
        Cycles behind that of ``released`` in which nothing that waits for it reads or writes sums.

    Members
    -------
    commands : :py:`In(stream.Signature(PostBody))`
        Commands; one is accepted when the last group of the one before is given to the lanes.
    released : :py:`Out(1)`
        High for one cycle per command, in order: its last sums will have been read within ``untouched`` cycles.
    done : :py:`Out(1)`
        High for one cycle per command, in the cycle after its last output was written.
    load : :py:`In(LoadWrite(config))`
        Bytes for the bias, scale and table memories.
    accumulators : :py:`Out(AccumulatorRead(config))`
        Sums, of the accumulators or of the global buffer.
    output : :py:`Out(BankWrite(output_banks(config), output_lines(config), 8))`
        Write port of the output scratchpad: byte ``a`` is line ``a // banks`` of bank ``a % banks``.
    events : :py:`Out(PostEvents)`
        Pulses to count.

    Raises
    ------
    PearrayError
        If the output scratchpad is too small for the lanes.
    """

    #: Cycles from the acceptance of a command to its first group.
    START = 2

    def __init__(self, config: Config, untouched: int = 0):
        self._config, self._untouched = config, untouched
        self._banks = output_banks(config)
        self._lines = output_lines(config)
        self._groups = config.sum_columns // config.post.lanes
        lanes, words = config.post.lanes, beat_words(config)
        self._bias_latency = LineMemory.latency_of(words, lanes) + 1
        self._scale_latency = LineMemory.latency_of(words, 2 * lanes)
        # Cycles from a group's addresses to the inputs of the lanes.
        self._lane_cycle = self._lane_cycle_of(config)
        super().__init__({
            "commands": In(stream.Signature(config.commands.post)),
            "released": Out(1),
            "done": Out(1),
            "load": In(LoadWrite(config)),
            "accumulators": Out(AccumulatorRead(config)),
            "output": Out(BankWrite(self._banks, self._lines, 8)),
            "events": Out(PostEvents),
        })

    @property
    def latency(self) -> int:
        """Cycles from the read of a row of sums to the write of its outputs."""
        return self.latency_of(self._config)

    @classmethod
    def latency_of(cls, config: Config) -> int:
        """Return the cycles from the read of a row of sums to the write of its outputs."""
        return cls._lane_cycle_of(config) + Lane.latency_of(config) + 1

    @classmethod
    def settings_cycle_of(cls, config: Config) -> int:
        """Return the cycles from the read of a row to its settings, for which a command is kept."""
        return cls._lane_cycle_of(config) + Lane.settings_cycle_of(config)

    @staticmethod
    def few_of(config: Config, untouched: int) -> int:
        """Return the rows of the last tile with which a command gives its sums back; 0: with the last group."""
        return (untouched + 1) // (config.sum_columns // config.post.lanes)

    @classmethod
    def pair_delay_of(cls, config: Config) -> int:
        """Return the cycles by which a sum of a pair comes later than a sum, at least one; 0 without ``post.pairs``."""
        return config.has_pairs * (cls._sum_cycle_of(config) + PairSum.LATENCY - cls._lane_cycle_of(config))

    @staticmethod
    def _sum_cycle_of(config: Config) -> int:
        """Cycles from a group's row to its sums, selected from the row."""
        return AccumulatorRead.LATENCY - (-ceil_log2(config.sum_columns // config.post.lanes) // 2)

    @classmethod
    def _lane_cycle_of(cls, config: Config) -> int:
        words, lanes = beat_words(config), config.post.lanes
        return max(cls._sum_cycle_of(config), LineMemory.latency_of(words, lanes) + 1,
                   LineMemory.latency_of(words, 2 * lanes))

    def elaborate(self, platform):
        """Connect walk, memories, lanes and output."""
        m = Module()

        config = self._config
        lines = max(config.scratchpads.channels // config.post.lanes, 2)
        units = config.scratchpads.output_bytes // (config.post.lanes * config.operand_bytes)
        m.submodules.walk = walk = PostWalk(config, lines, lines, units, self.few_of(config, self._untouched))
        # Kept here, so that the next command may come to the queue's slot meanwhile.
        command = Signal.like(self.commands.payload, name="command", reset_less=True)
        m.d.comb += walk.command.eq(command)

        # One tag of each kind goes with each group to the end; the lanes themselves know nothing of commands.
        settings_cycle = self.settings_cycle_of(config)
        write_cycle = self.latency - 1
        given = self._give(m, walk)
        valid = taps(m, given.valid, write_cycle, "valid")
        first = delay(m, given.valid & given.first, settings_cycle - 1, "first")
        last = taps(m, given.valid & given.last, write_cycle, "last")

        walked = Signal(init=1)
        settled = Signal(init=1)
        accepted = Signal()
        told = Signal()
        m.d.comb += [
            self.commands.ready.eq((walked | last[0]) & settled),
            accepted.eq(self.commands.valid & self.commands.ready),
            self.released.eq(walk.valid & walk.ending & ~told),
        ]
        m.d.sync += [
            walk.start.eq(accepted),
            walked.eq((walked | last[0]) & ~accepted),
            settled.eq((settled | first) & ~accepted),
            told.eq((told | self.released) & walk.valid),
        ]
        with m.If(accepted):
            m.d.sync += command.eq(self.commands.payload)

        settings = Signal(Settings)
        raw = command.rounding == Rounding.NONE
        with m.If(first):
            m.d.sync += [
                settings.zero_point.eq(Mux(raw, 0, command.zero_point)),
                settings.low.eq(command.low),
                settings.high.eq(command.high),
                settings.clamp.eq(~raw),
                settings.table.eq(~raw & command.table),
                settings.relu.eq(raw & command.table),
            ]

        m.d.comb += [
            self.accumulators.en.eq(walk.valid),
            self.accumulators.bank.eq(command.bank),
            self.accumulators.row.eq(walk.row),
        ]
        lanes = self._build_lanes(m, platform, lines, walk, given, settings)
        self._build_output(m, lanes, given.unit, raw, valid, last)
        m.d.sync += [self.events.group.eq(walk.valid), self.events.accumulator_read.eq(walk.valid)]

        return m

    def _give(self, m, walk):
        """Tell what belongs to each group; of a pair as much later as its sums come."""
        late = self.pair_delay_of(self._config)
        if not late:
            return _Given(walk.valid, walk.first, walk.last, walk.unit)
        pair = walk.command.pair
        valid = taps(m, walk.valid & pair, late, "pair_valid")
        first, last = (delay(m, signal, late, f"pair_{signal.name}") for signal in (walk.first, walk.last))
        unit = delay(m, walk.unit, late, "pair_unit", reset_less=True)
        return _Given(Mux(pair, valid[-1], walk.valid), Mux(pair, first, walk.first), Mux(pair, last, walk.last),
                      Mux(pair, unit, walk.unit))

    def _build_lanes(self, m, platform, lines, walk, given, settings):
        """Build the parameter memories and the lanes, and bring their inputs together in one cycle."""
        config, cycle, command = self._config, self._lane_cycle, walk.command
        words, lanes = beat_words(config), config.post.lanes
        m.submodules.word_port = port = WordPort(config)
        m.submodules.bias_memory = bias = LineMemory(words, place_bits(config), lanes, lines)
        m.submodules.scale_memory = scale = LineMemory(words, place_bits(config), 2 * lanes, lines,
                                                       SCALE_WIDTHS)
        wiring.connect(m, wiring.flipped(self.load), port.load)
        for memory, destination in ((bias, Parameter.BIAS), (scale, Parameter.SCALE)):
            m.d.comb += [
                memory.write.en.eq(Mux(port.destination == destination, port.write.en, 0)),
                memory.write.place.eq(port.write.place),
                memory.write.data.eq(port.write.data),
            ]
        for memory, line, latency, name in ((bias, walk.bias_line, self._bias_latency, "bias_line"),
                                            (scale, walk.scale_line, self._scale_latency, "scale_line")):
            m.d.comb += memory.line.eq(delay(m, line, cycle - latency, name, reset_less=True))

        lane_valid = delay(m, given.valid, cycle, "lane_valid")
        rounding = delay(m, command.rounding, cycle, "rounding", reset_less=True)
        use_bias = delay(m, command.bias, cycle - 1, "use_bias", reset_less=True)
        group = taps(m, walk.group, cycle, "group", reset_less=True)
        sum_cycle = self._sum_cycle_of(config)
        column_bits, lane_bits = ceil_log2(TABLE_BYTES // config.beat_bytes), ceil_log2(lanes)
        units = [Lane(config) for _ in range(lanes)]
        for index, lane in enumerate(units):
            unit.add(m, f"lane_{index}", lane, platform)
            columns = [self.accumulators.data[number * lanes + index] for number in range(self._groups)]
            total = _select(m, columns, group[AccumulatorRead.LATENCY], f"sum_{index}")
            waited = delay(m, total, cycle - sum_cycle, f"sum_{index}", reset_less=True)
            if config.has_pairs:
                waited = self._pair(m, f"pair_{index}", platform, total, waited, command, port)
            offset = Signal(signed(32), name=f"bias_{index}", reset_less=True)
            m.d.sync += offset.eq(Mux(use_bias, bias.data[index], 0))
            m.d.comb += [
                lane.valid.eq(lane_valid),
                lane.group.eq(group[cycle]),
                lane.rounding.eq(rounding),
                lane.accumulator.eq(waited),
                lane.bias.eq(offset),
                lane.scale.eq(scale.data[2 * index]),
                lane.shift.eq(scale.data[2 * index + 1]),
                lane.settings.eq(settings),
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

    def _pair(self, m, name, platform, total, waited, command, port):
        """Put a sum of two table entries in the place of a sum, where the command says so."""
        config = self._config
        tables = PairSum()
        unit.add(m, name, tables, platform)
        m.d.comb += tables.pair.eq(total)
        enable = port.destination == config.pair_memory
        for table, (en, entry, word) in enumerate(PairWrite.of(config, port.write, enable)):
            m.d.comb += [
                tables.write.en[table].eq(en),
                tables.write.entry[table].eq(entry),
                tables.write.data[table].eq(word),
            ]
        pair = delay(m, command.pair, self._lane_cycle, name, reset_less=True)
        return Mux(pair, tables.sum, waited)

    def _build_output(self, m, lanes, unit, raw, valid, last):
        """Write each group to its banks: it is offered to every slot of a line, and one takes it."""
        config = self._config
        size, sum_size = len(lanes) * config.operand_bytes, len(lanes) * config.sum_bytes
        write_cycle = len(valid) - 1
        raw = delay(m, raw, write_cycle, "raw", reset_less=True)
        place = delay(m, unit, write_cycle, "unit", reset_less=True)
        slots = self._banks // size
        slot = place[:ceil_log2(slots)]

        value = Signal(data.ArrayLayout(8, sum_size), name="output_bytes", reset_less=True)
        line = Signal(range(self._lines), name="output_line", reset_less=True)
        enable = Signal(slots, name="output_enable")
        m.d.sync += line.eq(place[len(slot):])
        for byte in range(sum_size):
            whole = lanes[byte // config.sum_bytes].output
            narrow = lanes[byte % size // config.operand_bytes].output
            m.d.sync += value[byte].eq(Mux(raw, whole.word_select(byte % config.sum_bytes, 8),
                                           narrow.word_select(byte % config.operand_bytes, 8)))
        shift = ceil_log2(sum_size // size)
        for number in range(slots):
            taken = Mux(raw, slot[shift:] == number >> shift, slot == number)
            m.d.sync += enable[number].eq(valid[-1] & taken)
        for bank in range(self._banks):
            m.d.comb += [
                self.output.en[bank].eq(enable[bank // size]),
                self.output.line[bank].eq(line),
                self.output.data[bank].eq(value[bank % sum_size]),
            ]
        m.d.comb += self.events.output_write.eq(delay(m, valid[-1], 1, "written"))
        m.d.comb += self.done.eq(delay(m, last[-1], 2, "done"))
