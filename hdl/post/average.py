"""Sums of float32 numbers, one term a tile, and the search of the step that a sum has reached."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..arithmetic.float_add import FloatAdd
from ..blocks.pipeline import delay, taps
from ..blocks.unit import Unit
from ..blocks.word_memory import word_memory
from ..shell.config import Config
from .pairs import PairSum, PairWrite

__all__ = ["SEARCH", "STATES", "Average", "AverageControl", "AverageWalk"]

#: States of a lane.
STATES = 256

#: Tiles of a search: bits of the number of an entry.
SEARCH = 8

#: Cycles of an addition.
_ADD = 7

#: Cycles from where a state is read to the group's sum.
EARLY = 2


class AverageControl(data.Struct):
    """What all lanes are to do with the states of a group."""

    #: State.
    place: unsigned(8)
    #: Whether a term is added, or the sum stored.
    term: unsigned(1)
    sum: unsigned(1)
    #: Whether the state is zero before.
    fresh: unsigned(1)
    #: Bit of the number that is searched for, none if all are zero; and whether states are float32 numbers.
    bit: unsigned(SEARCH)
    real: unsigned(1)


class AverageWalk(wiring.Component):
    """Tell what each group of a command of averages is to its states, and hold short tiles back.

    A state that has been read stands with its next term :attr:`PERIOD` cycles later.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.

    Members
    -------
    command : :py:`In(PostBody)`
        Command.
    start : :py:`In(1)`
        Whether the command begins in the next cycle.
    valid, last_of_tile : :py:`In(1)`
        Whether there is a group, and whether it is the last one of its tile.
    ripe : :py:`Out(1)`
        Whether the next tile, or command, may begin in the next cycle.
    reads, writes : :py:`Out(1)`
        Whether the group's sums are read, and whether it has outputs.
    control : :py:`Out(AverageControl)`
        What the lanes do.
    """

    #: Cycles from the read of a state to the next.
    PERIOD = EARLY + PairSum.LATENCY + _ADD

    def __init__(self, config: Config):
        super().__init__({
            "command": In(config.commands.post),
            "start": In(1),
            "valid": In(1),
            "last_of_tile": In(1),
            "ripe": Out(1),
            "reads": Out(1),
            "writes": Out(1),
            "control": Out(AverageControl),
        })

    def elaborate(self, platform):
        """Count groups and tiles."""
        m = Module()

        command, control = self.command, self.control
        place = Signal(8)
        # Cycles since the first group of the latest tile.
        age = Signal(range(self.PERIOD))
        tiles_left = Signal(16)
        first_tile = Signal()
        either = command.average | command.search
        is_first = self.valid & (place == 0)
        aged = age == self.PERIOD - 1
        m.d.comb += self.ripe.eq(~either | (aged & ~is_first))
        with m.If(~aged):
            m.d.sync += age.eq(age + 1)
        with m.If(self.start):
            m.d.sync += [place.eq(0), first_tile.eq(1), tiles_left.eq(command.n_count)]
        with m.Elif(self.valid):
            m.d.sync += place.eq(place + 1)
            with m.If(is_first):
                m.d.sync += age.eq(1)
            with m.If(self.last_of_tile):
                m.d.sync += [place.eq(0), first_tile.eq(0), tiles_left.eq(tiles_left - 1)]

        searching = Signal()
        m.d.comb += [
            searching.eq(command.search & (tiles_left <= SEARCH)),
            self.reads.eq(~searching),
            self.writes.eq(~either | (command.search & (tiles_left == 1))),
            control.place.eq(place),
            control.term.eq(self.valid & command.average & ~searching),
            control.sum.eq(self.valid & command.search & ~command.average & ~searching),
            control.fresh.eq(first_tile & ~command.resume),
            control.real.eq(command.average),
        ]
        m.d.comb += [control.bit[bit].eq(self.valid & searching & (tiles_left == bit + 1)) for bit in range(SEARCH)]

        return m


class Average(Unit):
    """Tables of pairs of a lane, with its states.

    One group per cycle. Its sum comes :data:`EARLY` cycles after its control, and what takes the place of the sum
    leaves :attr:`PairSum.LATENCY` cycles later.

    Members
    -------
    control : :py:`In(AverageControl)`
        What to do with the group's state.
    total : :py:`In(signed(32))`
        Sum of integers, of which bytes are looked up.
    write : :py:`In(PairWrite())`
        Words for the tables.
    sum : :py:`Out(signed(32))`
        Number of the entry that was found, or the sum of a pair.
    """

    def __init__(self):
        super().__init__({"control": In(AverageControl), "total": In(signed(32)), "write": In(PairWrite()),
                          "sum": Out(signed(32))})

    def elaborate(self, platform):
        """Build tables, states, adder and comparison; ``name[t]`` is a value t cycles after its control."""
        m = Module()

        looked, added = EARLY + PairSum.LATENCY - 1, EARLY + PairSum.LATENCY - 1 + _ADD
        control = taps(m, self.control, looked + 1, "control", reset_less=True)
        place = taps(m, self.control.place, added, "place", reset_less=True)
        term = delay(m, self.control.term, added, "term")
        m.submodules.tables = tables = PairSum(probed=True)
        m.submodules.adder = adder = FloatAdd(_ADD)

        stored, value = word_memory(m, "value", 32, STATES, self.control.place)
        number_write, number = word_memory(m, "number", SEARCH, STATES, self.control.place)
        wanted = control[EARLY].bit
        probe = Signal(SEARCH)
        m.d.comb += [
            # The search of a number begins with its highest bit, when nothing of it is known.
            probe.eq(Mux(wanted[-1], 0, number) | wanted),
            tables.pair.eq(self.total),
            tables.probing.eq(wanted.any()),
            tables.probe.eq(probe),
            tables.write.en.eq(self.write.en),
            tables.write.entry.eq(self.write.entry),
            tables.write.data.eq(self.write.data),
        ]

        value = delay(m, value, looked - EARLY, "value", reset_less=True)
        probe = delay(m, probe, looked - EARLY, "probe", reset_less=True)
        now = control[looked]
        m.d.comb += [adder.a.eq(Mux(now.fresh, 0, value)), adder.b.eq(tables.entries[0])]
        # As integers, magnitudes of negative numbers rise the other way.
        order = Cat(value[:31] ^ (now.real & value[31]).replicate(31), value[31]).as_signed()
        reached = Signal(reset_less=True)
        found = Signal(SEARCH, reset_less=True)
        m.d.sync += [
            reached.eq(order >= tables.entries[1].as_signed()),
            found.eq(probe),
        ]
        after = control[looked + 1]
        kept = Signal(SEARCH)
        m.d.comb += [
            kept.eq(found & ~Mux(reached, 0, after.bit)),
            self.sum.eq(Mux(after.bit.any(), kept, tables.sum)),
            number_write.en.eq(after.bit.any()),
            number_write.addr.eq(place[looked + 1]),
            number_write.data.eq(kept),
            # No command has both terms and sums.
            stored.en.eq(control[EARLY].sum | term),
            stored.addr.eq(Mux(term, place[added], place[EARLY])),
            stored.data.eq(Mux(term, adder.sum, self.total)),
        ]

        return m
