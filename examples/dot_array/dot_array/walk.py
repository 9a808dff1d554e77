"""The walk of an EXECUTE over tiles, pixels and the lines of their sums."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from pearray.hdl.shell.commands import ADDRESS_BITS

from .commands import LOOPS, DotBody

__all__ = ["LineWalk", "Place"]

class Place(data.Struct):
    """Where the operands of a line stand, and where the sum goes that it ends."""

    a_line: unsigned(ADDRESS_BITS)
    w_line: unsigned(ADDRESS_BITS)
    row: unsigned(16)
    #: The line begins a sum, ends it, and ends the last sum of its command.
    begin: unsigned(1)
    end: unsigned(1)
    last: unsigned(1)
    first: unsigned(1)
    maximum: unsigned(1)
    bank: unsigned(1)
    a_unsigned: unsigned(1)
    w_unsigned: unsigned(1)
    a_zero_point: signed(9)
    w_zero_point: signed(9)


class LineWalk(wiring.Component):
    """Walk the lines of a command, one a cycle, from the cycle after it was taken.

    The next command is taken in the cycle after the last line, if ``quiet`` or it begins its sums anew: a sum that
    is added to must not be on its way.

    Members
    -------
    commands : In(stream.Signature(DotBody))
        Commands.
    quiet : In(1)
        Nothing is on its way to the accumulators.
    valid : Out(1)
        There is a line in this cycle.
    place : Out(Place)
        The line.
    """

    commands: In(stream.Signature(DotBody))
    quiet: In(1)
    valid: Out(1)
    place: Out(Place)

    def elaborate(self, platform):
        """Build a counter for each loop, and for each the address at which its present turn began."""
        m = Module()

        body = Signal(DotBody)
        counts = [body[f"count_{loop}"] for loop in LOOPS]
        turns = [Signal.like(count, name=f"turn_{loop}") for loop, count in zip(LOOPS, counts, strict=True)]
        starts = [Signal(ADDRESS_BITS, name=f"start_{loop}") for loop in LOOPS]
        tile_row = Signal(16)
        tile_line = Signal(ADDRESS_BITS)
        place = self.place

        ends = [turn == count for turn, count in zip(turns, counts, strict=True)]
        turning, inner = self._choose_loop(m, ends)
        done = Signal()
        sum_ends = Signal()
        m.d.comb += [
            done.eq(inner),
            sum_ends.eq(Cat(ends[:3]).all()),
            place.a_line.eq(starts[0]),
            place.begin.eq(~Cat(turns[:3]).any()),
            place.end.eq(sum_ends),
            place.last.eq(done),
        ]
        m.d.comb += [place[name].eq(body[name]) for name in (
            "first", "maximum", "bank", "a_unsigned", "w_unsigned", "a_zero_point", "w_zero_point")]

        with m.If(self.valid):
            m.d.sync += place.w_line.eq(Mux(sum_ends, tile_line, place.w_line + 1))
            with m.If(sum_ends):
                m.d.sync += place.row.eq(place.row + 1)
            with m.If(done):
                m.d.sync += self.valid.eq(0)
            for loop, (name, turn) in enumerate(zip(LOOPS, turns, strict=True)):
                with m.If(turning[loop]):
                    at = starts[loop] + body[f"a_{name}"]
                    m.d.sync += turn.eq(turn + 1)
                    m.d.sync += [starts[index].eq(at) for index in range(loop + 1)]
                    m.d.sync += [turns[index].eq(0) for index in range(loop)]
            with m.If(turning[-1]):
                m.d.sync += [
                    tile_row.eq(tile_row + body.acc_n), place.row.eq(tile_row + body.acc_n),
                    tile_line.eq(tile_line + body.w_n), place.w_line.eq(tile_line + body.w_n),
                ]

        command = self.commands.p
        m.d.comb += self.commands.ready.eq(~self.valid & (self.quiet | command.first))
        with m.If(self.commands.valid & self.commands.ready):
            m.d.sync += [body.eq(command), self.valid.eq(1)]
            m.d.sync += [turn.eq(0) for turn in turns]
            m.d.sync += [start.eq(command.a_base) for start in starts]
            m.d.sync += [
                place.w_line.eq(command.w_base), tile_line.eq(command.w_base),
                place.row.eq(command.acc_base), tile_row.eq(command.acc_base),
            ]

        return m

    def _choose_loop(self, m, ends):
        """Return the loop that turns, when all inside it are in their last turn, and whether all of them are."""
        turning = [Signal(name=f"turning_{loop}") for loop in LOOPS]
        inner = 1
        for loop, end in enumerate(ends):
            m.d.comb += turning[loop].eq(inner & ~end)
            inner = inner & end
        return turning, inner
