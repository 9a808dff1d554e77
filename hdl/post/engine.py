"""Post-processing engine: turns rows of sums into outputs in the output scratchpad."""

from amaranth.hdl import Cat, Const, Module, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..blocks.banks import BankWrite
from ..blocks.pipeline import delay, taps
from ..blocks.rules import rests
from ..routines.engine import RoutineEngine
from ..shell.commands import Parameter, Rounding
from ..shell.config import Config
from ..shell.load_port import LoadWrite
from .float_rows import FloatShare
from .groups import follow_groups
from .lanes import Lanes, lane_of
from .norms import NormedElement, Norms
from .outputs import OutputWriter
from .pairs import PairSum
from .row_softmax import RowSoftmax
from .softmax import Softmax, state_softmax_rules
from .sums import AccumulatorRead, ShiftWrite
from .transposed import state_rules
from .turns import Turns
from .walk import PostWalk

__all__ = ["Post", "PostEvents"]


class PostEvents(data.Struct):
    """Pulses for performance counters, each up to once per cycle."""

    #: A group of lanes was given its sums.
    group: unsigned(1)
    #: A row of sums was read (once for each group).
    accumulator_read: unsigned(1)
    #: A group of outputs was written.
    output_write: unsigned(1)


class Post(wiring.Component):
    """Engine of the POST commands (:class:`PostBody`).

    One group of ``lanes`` outputs enters per cycle, whatever the rounding, and :attr:`latency`
    cycles later is on :py:`output`; nothing stalls on the way. A command is kept when it is accepted, and its
    first group enters :attr:`START` cycles later. The next is accepted together with its last group, so that
    between two commands there is one idle cycle, but not before its first group has met its zero point and
    clamp: commands of fewer than about 20 groups take about 20 cycles each.

    The row of sums is read again for each group. Since nothing stalls, it is known beforehand when the last
    will have been read: ``released`` tells it as much earlier as nobody who hears of it can reach the sums, or, where
    commands have a field ``release``, with as many rows left if these are more.
    Counts of zero are not allowed. Loads to the bias, scale and table memories must keep to words
    (:mod:`hdl.parameters`).

    With ``post.pairs`` or ``post.products``, sums and products of pairs take :meth:`pair_delay_of` cycles more: such a
    command reads its sums as ever, and all that is done with them comes so much later. It is kept so much longer, too,
    so that its groups meet none of another command's. So do averages, of ``post.averages``, whose groups come again
    and again (:class:`~.average.AverageWalk`).

    With ``post.softmax``, a command of softmax is read as ever, too, and written :meth:`softmax_delay_of` cycles later
    than others, for which it is kept longer. That is also why no row comes again before its state has been written. A
    command of normalised rows waits until the quotients of all rows before it have been found: its first group comes
    :meth:`quotient_delay_of` cycles after the last of softmax at the earliest.

    With ``post.row_softmax``, passes are as late as pairs, and a second or third one waits until what the one before
    found stands, :meth:`RowSoftmax.seen_of` or :meth:`RowSoftmax.settled_of` cycles.

    With ``post.routines``, commands with ``routine`` go to :class:`.RoutineEngine`, which begins when all others are
    done, and they when it is. They read no sums, so they count as released when they are accepted.

    With ``post.norms``, rows that are normalised are written :meth:`norm_delay_of` cycles later than others, and a
    command waits until as many rows have got their roots as it says.

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
        High for one cycle per command, in order: its last sums will have been read within ``untouched`` cycles, or by
        when what its ``release`` was meant for comes to them.
    done : :py:`Out(1)`
        High for one cycle per command, in the cycle after its last output was written.
    load : :py:`In(LoadWrite(config))`
        Bytes for the bias, scale and table memories.
    accumulators : :py:`Out(AccumulatorRead(config))`
        Sums, of the accumulators or of the global buffer.
    output : :py:`Out(BankWrite(config.output_banks, config.output_lines, 8))`
        Write port of the output scratchpad: byte ``a`` is line ``a // banks`` of bank ``a % banks``.
    events : :py:`Out(PostEvents)`
        Pulses to count.
    shifts : :py:`Out(ShiftWrite(config.score_rows))`
        With ``post.softmax``, shifts of rows; all of a command have been written before it is done.

    Raises
    ------
    PearrayError
        If the output scratchpad is too small for the lanes.
    """

    #: Cycles from the acceptance of a command to its first group.
    START = 2

    def __init__(self, config: Config, untouched: int = 0):
        self._config, self._untouched = config, untouched
        self._banks = config.output_banks
        self._lines = config.output_lines
        super().__init__({
            "commands": In(stream.Signature(config.commands.post)),
            "released": Out(1),
            "done": Out(1),
            "load": In(LoadWrite(config)),
            "accumulators": Out(AccumulatorRead(config)),
            "output": Out(BankWrite(self._banks, self._lines, 8)),
            "events": Out(PostEvents),
            **({"shifts": Out(ShiftWrite(config.score_rows))} if config.has_softmax else {}),
        })

    @property
    def latency(self) -> int:
        """Cycles from the read of a row of sums to the write of its outputs."""
        return self.latency_of(self._config)

    @staticmethod
    def latency_of(config: Config) -> int:
        """Return the cycles from the read of a row of sums to the write of its outputs."""
        return Lanes.cycle_of(config) + lane_of(config).latency_of(config) + 1

    @staticmethod
    def settings_cycle_of(config: Config) -> int:
        """Return the cycles from the read of a row to its settings, for which a command is kept."""
        return Lanes.cycle_of(config) + lane_of(config).settings_cycle_of(config)

    @staticmethod
    def few_of(config: Config, untouched: int) -> int:
        """Return the rows of the last tile with which a command gives its sums back; 0: with the last group."""
        return (untouched + 1) // (config.sum_columns // config.post.lanes)

    @staticmethod
    def pair_delay_of(config: Config) -> int:
        """Return the cycles by which what a pair makes comes later than a sum, at least one; 0 without pairs."""
        late = Lanes.sum_cycle_of(config) + PairSum.LATENCY - Lanes.cycle_of(config)
        return late * (config.has_pairs or config.has_products)

    @classmethod
    def softmax_delay_of(cls, config: Config) -> int:
        """Return the cycles by which what softmax makes of sums comes later than other outputs; 0 without it."""
        begun = cls._softmax_cycle_of(config)
        return (begun + Softmax.latency_of(config) - (cls.latency_of(config) - 1)) * config.has_softmax

    @staticmethod
    def _softmax_cycle_of(config: Config) -> int:
        """Return the cycles from the read of a row of scores to when softmax is told of it."""
        return Lanes.cycle_of(config) + lane_of(config).score_cycle_of(config) - Softmax.SCORE

    @classmethod
    def quotient_delay_of(cls, config: Config) -> int:
        """Return the cycles from the last group of softmax to the first of normalised rows, at least."""
        found = cls._softmax_cycle_of(config) + Softmax.settled_of(config)
        return found - (Lanes.cycle_of(config) - Softmax.QUOTIENT)

    @staticmethod
    def norm_delay_of(config: Config) -> int:
        """Return the cycles by which what is made of a row's elements comes later than a sum; 0 without norms."""
        return (Lanes.element_cycle_of(config) + NormedElement.LATENCY - Lanes.cycle_of(config)) * config.has_norms

    @staticmethod
    def root_delay_of(config: Config) -> int:
        """Return the cycles from the last group of a row to the first of a command that waits for its root alone."""
        return Norms.found_of(Lanes.element_cycle_of(config), config.post.lanes)

    def elaborate(self, platform):
        """Connect walk, memories, lanes and output."""
        m = Module()

        config = self._config
        lines = max(config.scratchpads.channels // config.post.lanes, 2)
        units = config.scratchpads.output_bytes // (config.post.lanes * config.operand_bytes)
        # Where a group may begin in the middle of a line, the walk counts entries and outputs.
        fine = config.post.lanes if config.has_transposed else 1
        # Quotients of rows are scales as well.
        scales = max(lines, config.score_rows) if config.has_softmax else lines
        m.submodules.walk = walk = PostWalk(config, lines * fine, scales * fine, units * fine,
                                            self._banks // config.operand_bytes, self.few_of(config, self._untouched))
        routines, turns = self._routines(m) if config.has_routines else (None, None)
        # Kept here, so that the next command may come to the queue's slot meanwhile.
        command = Signal.like(self.commands.payload, name="command", reset_less=True)
        if config.has_transposed:
            state_rules(m, command, walk.valid, config.sum_columns // config.post.lanes)
        m.d.comb += walk.command.eq(command)

        # One tag of each kind goes with each group to the end; the lanes themselves know nothing of commands.
        settings_cycle, write_cycle = self.settings_cycle_of(config), self.latency - 1
        groups = follow_groups(m, config, walk, self.pair_delay_of(config), self.softmax_delay_of(config),
                               self.norm_delay_of(config))
        valid = taps(m, groups.output, write_cycle, "valid")
        first = delay(m, groups.valid & groups.first, settings_cycle - 1, "first")
        last = taps(m, groups.valid & groups.last, write_cycle, "last")

        reading = walk.valid if groups.averages is None else walk.valid & groups.averages.reads
        softmax, rows, norms, ripe, busy = self._states(m, walk, groups, command)
        self._accept(m, turns, walk, groups, command, first, last[0], ripe)

        settings = Signal(lane_of(config).SETTINGS)
        raw = command.rounding == Rounding.NONE
        of_command = settings.shape().of(m, config, command, raw)
        with m.If(first):
            m.d.sync += [getattr(settings, name).eq(value) for name, value in of_command.items()]

        m.d.comb += [
            self.accumulators.en.eq(reading),
            self.accumulators.bank.eq(command.bank),
            self.accumulators.row.eq(walk.row),
        ]
        lanes = Lanes(config=config, lines=lines, walk=walk, groups=groups, settings=settings, load=self.load,
                      sums=self.accumulators, softmax=softmax, rows=rows, norms=norms,
                      routines=routines).build(m, platform)
        writer = OutputWriter(config=config, banks=self._banks, lines=self._lines, command=command, raw=raw,
                              groups=groups, valid=valid, first=first, settings_cycle=settings_cycle,
                              numerators=self._numerators(m, config, softmax, lanes))
        written = writer.build(m, platform, lanes, self._outputs(m, routines))
        write, done, group = delay(m, written, 1, "written"), delay(m, last[-1], 2, "done"), reading
        if routines is not None:
            m.d.comb += turns.sums_done.eq(done)
            done, group, write = turns.done, group | routines.group, write | routines.output.en.any()
        m.d.comb += self.events.output_write.eq(write)
        m.d.comb += self.done.eq(done)
        m.d.sync += [self.events.group.eq(group), self.events.accumulator_read.eq(reading)]
        self._rest(m, busy)

        return m

    def _rest(self, m, waiting):
        """State that nothing happens between commands, but for loads to the memories here."""
        config, load = self._config, self.load
        ours = [Parameter.BIAS, Parameter.SCALE, Parameter.TABLE]
        if config.has_pairs:
            ours.append(config.pair_memory)
        if config.has_routines:
            ours += [config.commands.destination[name].value for name in ("VECTOR", "ROUTINE")]
        loads = load.valid & Cat(load.destination == each for each in ours).any()
        shows = [self.released, self.done, self.output.en, self.accumulators.en, self.events.as_value()]
        if config.has_softmax:
            shows.append(self.shifts.en)
        # A command is done two cycles behind its last outputs, and a pulse must end.
        rests(m, self.commands.valid | ~self.commands.ready | loads | waiting.any(), Cat(shows),
              self.latency + self.pair_delay_of(config) + self.norm_delay_of(config)
              + self.softmax_delay_of(config) + FloatShare.LATENCY * config.has_float_softmax
              + RoutineEngine.SETTLED * config.has_routines + 3)

    def _softmax(self, m, walk, command):
        """Give softmax, where there is any, its groups; return it, and the cycles until its quotients may be read."""
        config = self._config
        if not config.has_softmax:
            return None, Const(0)
        m.submodules.softmax = softmax = Softmax(config)
        cycle = self._softmax_cycle_of(config)
        valid = walk.valid & command.softmax
        m.d.comb += [
            softmax.command.eq(command),
            softmax.valid.eq(delay(m, valid, cycle, "softmax_group")),
            softmax.first.eq(delay(m, walk.first, cycle, "softmax_first")),
        ]
        wiring.connect(m, wiring.flipped(self.shifts), softmax.shifts)
        unsettled = Signal(range(self.quotient_delay_of(config) - 1))
        with m.If(valid):
            m.d.sync += unsettled.eq(self.quotient_delay_of(config) - 2)
        with m.Elif(unsettled != 0):
            m.d.sync += unsettled.eq(unsettled - 1)
        state_softmax_rules(m, command, walk.valid)
        return softmax, unsettled

    def _rows(self, m, walk, groups, command):
        """Give softmax of rows, where there is any, its groups; return it."""
        if not self._config.has_row_softmax:
            return None
        m.submodules.rows = rows = RowSoftmax(self._config, Lanes.sum_cycle_of(self._config))
        m.d.comb += [rows.command.eq(command), rows.start.eq(walk.start), rows.valid.eq(walk.valid),
                     rows.group.eq(walk.group)]
        if self._config.has_float_softmax:
            m.d.comb += [rows.last_of_tile.eq(walk.last_of_tile), walk.ripe.eq(
                rows.tile_ripe if groups.averages is None else rows.tile_ripe & groups.averages.ripe)]
        return rows

    def _states(self, m, walk, groups, command):
        """Give softmax of either kind, and norms, where there are any, their groups.

        Return all, whether a command may read what it waits for, and what is not zero while there is more to find.
        """
        config = self._config
        softmax, unsettled = self._softmax(m, walk, command)
        rows = self._rows(m, walk, groups, command)
        ripe, busy = [], [unsettled]
        if config.has_softmax:
            ripe.append(~command.normalise | (unsettled == 0))
        if rows is not None:
            ripe.append(rows.ripe)
            busy.append(rows.working)
        if not config.has_norms:
            return softmax, rows, None, ripe, unsettled if len(busy) == 1 else Cat(busy)
        m.submodules.norms = norms = Norms(config, Lanes.element_cycle_of(config))
        m.d.comb += [
            norms.command.eq(command),
            norms.valid.eq(walk.valid),
            norms.first.eq(walk.first),
            norms.last_of_tile.eq(walk.last_of_tile),
        ]
        return softmax, rows, norms, [*ripe, norms.ripe], Cat(*busy, norms.busy)

    @staticmethod
    def _numerators(m, config, softmax, lanes):
        """Give softmax, where there is any, the lanes' scores; return its numerators, or bytes of them."""
        if softmax is None:
            return None
        for index, lane in enumerate(lanes):
            m.d.comb += [softmax.score[index].eq(lane.score), softmax.hidden[index].eq(lane.hidden),
                         *([softmax.none[index].eq(lane.none)] if config.has_floats else [])]
        return [softmax.output[index] for index in range(len(lanes))]

    def _routines(self, m):
        """Build the engine of routines, and what gives it its commands."""
        m.submodules.routines = routines = RoutineEngine(self._config)
        m.submodules.turns = turns = Turns(self._config)
        wiring.connect(m, wiring.flipped(self.commands), turns.commands)
        wiring.connect(m, turns.routines, routines.commands)
        wiring.connect(m, wiring.flipped(self.load), routines.load)
        m.d.comb += turns.routines_done.eq(routines.done)
        return routines, turns

    def _outputs(self, m, routines):
        """Return a write port for outputs of sums, which take turns with those of routines, if there are any."""
        if routines is None:
            return self.output
        port = BankWrite(self._banks, self._lines, 8).create(path=("sums",))
        theirs = routines.output
        m.d.comb += self.output.en.eq(port.en | theirs.en)
        with m.If(theirs.en.any()):
            m.d.comb += [self.output.line.eq(theirs.line), self.output.data.eq(theirs.data)]
        with m.Else():
            m.d.comb += [self.output.line.eq(port.line), self.output.data.eq(port.data)]
        return port

    def _accept(self, m, turns, walk, groups, command, first, last, ripe):
        """Take the next command with the last group of the one before, and tell when sums may be written over."""
        commands = self.commands if turns is None else turns.sums
        walked = Signal(init=1)
        settled = Signal(init=1)
        accepted = Signal()
        pending = Signal()
        told = Signal()
        ends = walk.valid & walk.ending & ~told
        begins = pending if groups.averages is None else pending & groups.averages.ripe
        for each in ripe:
            begins = begins & each
        m.d.comb += [
            commands.ready.eq((walked | last) & settled),
            accepted.eq(commands.valid & commands.ready),
            walk.start.eq(begins),
            self.released.eq(ends if turns is None else ends | turns.begun),
        ]
        m.d.sync += [
            pending.eq(accepted | pending & ~walk.start),
            walked.eq((walked | last) & ~accepted),
            settled.eq((settled | first) & ~accepted),
            told.eq((told | self.released) & walk.valid),
        ]
        # Whether a command comes is known late. Where all outputs come equally late, nothing of the one before is used
        # any more when one may come, so whatever stands there may take its place.
        late = (self.pair_delay_of(self._config) or self.softmax_delay_of(self._config)
                or self.norm_delay_of(self._config) or self._config.has_row_softmax)
        taken = accepted if late else commands.ready
        with m.If(taken):
            m.d.sync += command.eq(commands.payload)
