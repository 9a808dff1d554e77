"""Post-processing engine: turns rows of sums into outputs in the output scratchpad."""

from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Mux, Signal, Value, ValueLike, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..blocks import unit
from ..blocks.banks import BankWrite
from ..blocks.pipeline import delay, taps
from ..blocks.rules import never
from ..errors import PearrayError
from ..shell.commands import Parameter, Rounding
from ..shell.config import Config
from ..shell.load_port import LoadWrite
from .average import EARLY, Average, AverageWalk
from .lane import TABLE_BYTES, Lane, Settings
from .maxima import Greatest
from .pairs import PairSum, PairWrite
from .parameters import LineMemory, WordPort, beat_words, place_bits
from .products import ADDEND_BITS, PairProduct
from .sums import AccumulatorRead
from .transposed import Apart, shared_constants, state_rules
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
    averages : AverageWalk or None
        What the lanes do with states, of each group as it is walked.
    writes : Value or None
        Whether a group has outputs; None: always.
    window : Value or None
        With ``post.maxima``, whether its row opens a window, and whether it closes one.
    """

    valid: Value
    first: Value
    last: Value
    unit: Value
    averages: AverageWalk | None = None
    writes: Value | None = None
    window: Value | None = None

    @property
    def output(self) -> Value:
        """Whether a group has outputs."""
        return self.valid if self.writes is None else self.valid & self.writes


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

    With ``post.pairs`` or ``post.products``, sums and products of pairs take :meth:`pair_delay_of` cycles more: such a
    command reads its sums as ever, and all that is done with them comes so much later. It is kept so much longer, too,
    so that its groups meet none of another command's. So do averages, of ``post.averages``, whose groups come again
    and again (:class:`~.average.AverageWalk`).

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
        """Return the cycles by which what a pair makes comes later than a sum, at least one; 0 without pairs."""
        late = cls._sum_cycle_of(config) + PairSum.LATENCY - cls._lane_cycle_of(config)
        return late * (config.has_pairs or config.has_products)

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
        # Where a group may begin in the middle of a line, the walk counts entries and outputs.
        fine = config.post.lanes if config.has_transposed else 1
        m.submodules.walk = walk = PostWalk(config, lines * fine, lines * fine, units * fine,
                                            self._banks // config.operand_bytes,
                                            self.few_of(config, self._untouched))
        # Kept here, so that the next command may come to the queue's slot meanwhile.
        command = Signal.like(self.commands.payload, name="command", reset_less=True)
        if config.has_transposed:
            state_rules(m, command, walk.valid, self._groups)
        m.d.comb += walk.command.eq(command)

        # One tag of each kind goes with each group to the end; the lanes themselves know nothing of commands.
        settings_cycle = self.settings_cycle_of(config)
        write_cycle = self.latency - 1
        given = self._give(m, walk)
        valid = taps(m, given.output, write_cycle, "valid")
        first = delay(m, given.valid & given.first, settings_cycle - 1, "first")
        last = taps(m, given.valid & given.last, write_cycle, "last")

        reading = walk.valid if given.averages is None else walk.valid & given.averages.reads
        self._accept(m, walk, given, command, first, last[0])

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
            self.accumulators.en.eq(reading),
            self.accumulators.bank.eq(command.bank),
            self.accumulators.row.eq(walk.row),
        ]
        lanes = self._build_lanes(m, platform, lines, walk, given, settings)
        self._build_output(m, platform, lanes, command, given, raw, valid, first, last)
        m.d.sync += [self.events.group.eq(reading), self.events.accumulator_read.eq(reading)]

        return m

    def _accept(self, m, walk, given, command, first, last):
        """Take the next command with the last group of the one before, and tell when sums may be written over."""
        walked = Signal(init=1)
        settled = Signal(init=1)
        accepted = Signal()
        pending = Signal()
        told = Signal()
        m.d.comb += [
            self.commands.ready.eq((walked | last) & settled),
            accepted.eq(self.commands.valid & self.commands.ready),
            walk.start.eq(pending if given.averages is None else pending & given.averages.ripe),
            self.released.eq(walk.valid & walk.ending & ~told),
        ]
        m.d.sync += [
            pending.eq(accepted | pending & ~walk.start),
            walked.eq((walked | last) & ~accepted),
            settled.eq((settled | first) & ~accepted),
            told.eq((told | self.released) & walk.valid),
        ]
        with m.If(accepted):
            m.d.sync += command.eq(self.commands.payload)

    def _is_pair(self, command):
        """Whether something made of a pair takes the place of each sum."""
        if not self._config.has_products:
            return command.pair
        return command.pair | command.product if self._config.has_pairs else command.product

    def _give(self, m, walk):
        """Tell what belongs to each group; of a pair or an average as much later as its sums come."""
        late = self.pair_delay_of(self._config)
        window = Cat(walk.opens, walk.closes) if self._config.has_maxima else None
        if not late:
            return _Given(walk.valid, walk.first, walk.last, walk.unit, window=window)
        pair, averages, writes = self._is_pair(walk.command), None, None
        if self._config.has_averages:
            m.submodules.averages = averages = AverageWalk(self._config)
            m.d.comb += [
                averages.command.eq(walk.command),
                averages.start.eq(walk.start),
                averages.valid.eq(walk.valid),
                averages.last_of_tile.eq(walk.last_of_tile),
                walk.ripe.eq(averages.ripe),
            ]
            pair = pair | walk.command.average | walk.command.search
            writes = ~pair | delay(m, averages.writes, late, "writes")
        valid = taps(m, walk.valid & pair, late, "pair_valid")
        first, last = (delay(m, signal, late, f"pair_{signal.name}") for signal in (walk.first, walk.last))
        unit = delay(m, walk.unit, late, "pair_unit", reset_less=True)
        if window is not None:
            window = Mux(pair, delay(m, window, late, "pair_window", reset_less=True), window)
        return _Given(Mux(pair, valid[-1], walk.valid), Mux(pair, first, walk.first), Mux(pair, last, walk.last),
                      Mux(pair, unit, walk.unit), averages, writes, window)

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
        fine = ceil_log2(lanes) if config.has_transposed else 0
        biases, scales = ([memory.data[word] for word in range(count)]
                          for memory, count in ((bias, lanes), (scale, 2 * lanes)))
        for memory, line, latency, name in ((bias, walk.bias_line, self._bias_latency, "bias_line"),
                                            (scale, walk.scale_line, self._scale_latency, "scale_line")):
            m.d.comb += memory.line.eq(delay(m, line[fine:], cycle - latency, name, reset_less=True))
        if config.has_transposed:
            biases, scales = shared_constants(m, walk, cycle, biases, scales)

        lane_valid = delay(m, given.output, cycle, "lane_valid")
        rounding = delay(m, command.rounding, cycle, "rounding", reset_less=True)
        use_bias = delay(m, command.bias, cycle - 1, "use_bias", reset_less=True)
        group = taps(m, walk.group, cycle, "group", reset_less=True)
        sum_cycle = self._sum_cycle_of(config)
        factors = self._factors(m, command) if config.has_products else None
        column_bits, lane_bits = ceil_log2(TABLE_BYTES // config.beat_bytes), ceil_log2(lanes)
        units = [Lane(config) for _ in range(lanes)]
        control = None
        if given.averages is not None:
            control = delay(m, given.averages.control, sum_cycle - EARLY, "average", reset_less=True)
        for index, lane in enumerate(units):
            unit.add(m, f"lane_{index}", lane, platform)
            columns = [self.accumulators.data[number * lanes + index] for number in range(self._groups)]
            total = _select(m, columns, group[AccumulatorRead.LATENCY], f"sum_{index}")
            waited = delay(m, total, cycle - sum_cycle, f"sum_{index}", reset_less=True)
            if config.has_pairs:
                waited = self._pair(m, f"pair_{index}", platform, total, waited, command, port, control)
            if factors is not None:
                waited = self._product(m, f"product_{index}", platform, total, waited, command, factors)
            offset = Signal(signed(32), name=f"bias_{index}", reset_less=True)
            m.d.sync += offset.eq(Mux(use_bias, biases[index], 0))
            m.d.comb += [
                lane.valid.eq(lane_valid),
                lane.group.eq(group[cycle]),
                lane.rounding.eq(rounding),
                lane.accumulator.eq(waited),
                lane.bias.eq(offset),
                lane.scale.eq(scales[2 * index]),
                lane.shift.eq(scales[2 * index + 1]),
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

    def _pair(self, m, name, platform, total, waited, command, port, control):
        """Put a sum of two table entries, or what a search has found, in the place of a sum, as the command says."""
        config = self._config
        if control is None:
            tables, chosen = PairSum(), command.pair
            m.d.comb += tables.pair.eq(total)
        else:
            tables, chosen = Average(), command.pair | command.average | command.search
            m.d.comb += [tables.control.eq(control), tables.total.eq(total)]
        unit.add(m, name, tables, platform)
        enable = port.destination == config.pair_memory
        for table, (en, entry, word) in enumerate(PairWrite.of(config, port.write, enable)):
            m.d.comb += [
                tables.write.en[table].eq(en),
                tables.write.entry[table].eq(entry),
                tables.write.data[table].eq(word),
            ]
        pair = delay(m, chosen, self._lane_cycle, name, reset_less=True)
        return Mux(pair, tables.sum, waited)

    def _factors(self, m, command):
        """Bring what belongs to products of pairs to the cycle of their sums: zero points, and what is added."""
        cycle = self._sum_cycle_of(self._config)
        addend = Cat(command.bias_nstep, command.bias_mstep)[:ADDEND_BITS]
        early = command.bias | command.per_channel | command.table | command.scale_nstep.any()
        never(m, "product", command.product & early,
              "bias, per_channel, table and scale_nstep must be zero")
        return (delay(m, command.bias_base, cycle, "product_zeros", reset_less=True),
                delay(m, addend, cycle, "product_addend", reset_less=True))

    def _product(self, m, name, platform, total, waited, command, factors):
        """Put a product of two bytes in the place of a sum, where the command says so."""
        zeros, addend = factors
        unit.add(m, name, product := PairProduct(), platform)
        m.d.comb += [product.pair.eq(total), product.zeros.eq(zeros), product.addend.eq(addend)]
        chosen = delay(m, command.product, self._lane_cycle, name, reset_less=True)
        return Mux(chosen, product.product, waited)

    def _build_output(self, m, platform, lanes, command, given, raw, valid, first, last):
        """Write each group to its banks: it is offered to every slot of a line, and one takes it.

        Outputs of a transposed command are rotated, and each has a line of its own.
        """
        config = self._config
        size, sum_size = len(lanes) * config.operand_bytes, len(lanes) * config.sum_bytes
        write_cycle = len(valid) - 1
        raw = delay(m, raw, write_cycle, "raw", reset_less=True)
        places = taps(m, given.unit, write_cycle, "unit", reset_less=True)
        outputs, closes = self._reduce(m, platform, lanes, command, given.window, write_cycle)
        written = valid[-1] if closes is None else valid[-1] & closes
        place, apart = places[-1], None
        if config.has_transposed:
            apart = Apart(m, config, self._banks, self._lines, command)
            apart.follow(m, places, first, self.settings_cycle_of(config) - 1)
            place, outputs = place[ceil_log2(len(lanes)):], apart.ordered(outputs)
        slots = self._banks // size
        slot = place[:ceil_log2(slots)]

        value = Signal(data.ArrayLayout(8, sum_size), name="output_bytes", reset_less=True)
        line = Signal(range(self._lines), name="output_line", reset_less=True)
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
        enables, lines = [enable[bank // size] for bank in range(self._banks)], [line] * self._banks
        if apart is not None:
            enables, lines = apart.offered(m, written, enables, line)
        for bank in range(self._banks):
            m.d.comb += [
                self.output.en[bank].eq(enables[bank]),
                self.output.line[bank].eq(lines[bank]),
                self.output.data[bank].eq(value[bank % sum_size]),
            ]
        m.d.comb += self.events.output_write.eq(delay(m, written, 1, "written"))
        m.d.comb += self.done.eq(delay(m, last[-1], 2, "done"))

    def _reduce(self, m, platform, lanes, command, window, write_cycle):
        """Outputs of the lanes, the greatest of their windows so far, and whether they are to be written; None: all."""
        if window is None:
            return [lane.output for lane in lanes], None
        opens, closes = delay(m, window, write_cycle, "window", reset_less=True)
        is_unsigned = delay(m, command.reduce_unsigned, write_cycle, "is_unsigned", reset_less=True)
        outputs = []
        for index, lane in enumerate(lanes):
            greatest = Greatest(8 * self._config.operand_bytes, self._groups)
            unit.add(m, f"greatest_{index}", greatest, platform)
            m.d.comb += [greatest.value.eq(lane.output), greatest.opens.eq(opens),
                         greatest.is_unsigned.eq(is_unsigned)]
            outputs.append(greatest.greatest)
        return outputs, closes
