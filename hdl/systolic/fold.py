"""Where the contracted elements of a pixel stand: the walk that folds runs into one tile."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..shell.commands import ADDRESS_BITS
from ..shell.config import Config
from .walker import COUNT_BITS

__all__ = ["FoldWalk"]


class FoldWalk(wiring.Component):
    """Offsets of a tile's elements behind the base of their pixel, one element a cycle.

    The walk gives two things of a tile: the offset of its first element, and by how many lines
    each element lies further than its number in the tile says (its displacement). Displacements
    enter a shift register, which is complete after as many cycles as the array has rows, less one,
    since that of the first row is zero.

    Members
    -------
    command : In(config.commands.execute)
        Command; uses ``run``, ``run_count``, ``jump1`` and ``jump2``. Stable from two cycles before
        ``restart`` on.
    restart : In(1)
        Go to element 0.
    tile : In(1)
        The next cycle is the first of a tile. Displacements are zero again.
    step : In(1)
        Go to the next element.
    shift : In(1)
        Move the displacement of the next element into the shift register.
    offset : Out(20)
        Offset of the current element.
    displacement : Out(ArrayLayout(line_bits, rows))
        Displacements of a tile's elements, once ``shift`` was set in ``rows - 1`` cycles.
    """

    def __init__(self, config: Config, line_bits: int):
        self._config = config
        self._line_bits = line_bits
        super().__init__({
            "command": In(config.commands.execute),
            "restart": In(1),
            "tile": In(1),
            "step": In(1),
            "shift": In(1),
            "offset": Out(ADDRESS_BITS),
            "displacement": Out(data.ArrayLayout(line_bits, config.array.rows)),
        })

    def elaborate(self, platform):
        """Build counters, offset and shift register."""
        m = Module()

        # Turns left minus two, so that the sign bit says "last".
        run = Signal(signed(COUNT_BITS), reset_less=True)
        run_left = Signal(signed(COUNT_BITS), reset_less=True)
        runs = Signal(signed(COUNT_BITS), reset_less=True)
        runs_left = Signal(signed(COUNT_BITS), reset_less=True)
        both_jumps = Signal(ADDRESS_BITS, reset_less=True)
        m.d.sync += [
            run.eq(self.command.run - 2),
            runs.eq(self.command.run_count - 2),
            both_jumps.eq(self.command.jump1 + self.command.jump2),
        ]
        with m.If(self.restart):
            m.d.sync += [run_left.eq(run), runs_left.eq(runs)]
        with m.Elif(self.step):
            m.d.sync += run_left.eq(Mux(run_left[-1], run, run_left - 1))
            with m.If(run_left[-1]):
                m.d.sync += runs_left.eq(Mux(runs_left[-1], runs, runs_left - 1))

        jump = Signal(ADDRESS_BITS)
        with m.If(run_left[-1]):
            m.d.comb += jump.eq(Mux(runs_left[-1], both_jumps, self.command.jump1))
        offset = Signal(ADDRESS_BITS, reset_less=True)
        m.d.comb += self.offset.eq(offset)
        with m.If(self.restart):
            m.d.sync += offset.eq(0)
        with m.Elif(self.step):
            # One addition with carry: offset + jump + 1.
            m.d.sync += offset.eq((Cat(1, offset) + Cat(1, jump))[1:])

        bank_bits = (self._config.banks - 1).bit_length()
        displacement = Signal(self._line_bits, reset_less=True)
        displacement_next = Signal(self._line_bits)
        m.d.comb += displacement_next.eq(Mux(self.step, displacement + jump[bank_bits:], displacement))
        m.d.sync += displacement.eq(Mux(self.tile, 0, displacement_next))
        rows = self._config.array.rows
        chain = [Signal(self._line_bits, name=f"displacement_{row}", reset_less=True)
                 for row in range(1, rows)]
        with m.If(self.shift):
            for register, source in zip(chain, [*chain[1:], displacement_next], strict=False):
                m.d.sync += register.eq(source)
        m.d.comb += [self.displacement[row].eq(register) for row, register in enumerate(chain, 1)]

        return m
