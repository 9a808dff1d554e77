"""Streamer: walks the pixels of tiles and presents an activation vector a cycle to the array."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..blocks.banks import BankRead
from ..blocks.pipeline import delay
from ..blocks.rotate import Rotator
from ..post.sums import ShiftWrite
from ..shell.commands import ADDRESS_BITS
from ..shell.config import Config
from .accumulator import control_layout
from .array import array_control
from .shifts import RowShifts
from .slots import drain_cycles
from .tile_layouts import line_bits, tile_layout, weight_vector_layout
from .walker import AddressWalk, LoopCounter

__all__ = ["Streamer"]


class Streamer(wiring.Component):
    """Turns tiles into activation vectors, one a cycle, without idle cycles between tiles.

    Element j of a tile stands ``displacement[j]`` lines further than ``address + j``, hence in bank
    ``(address + j) % B``, whatever its displacement. So displacements are rotated to the banks,
    added to the line of ``address``, and the data are rotated back. Only then do they lose their
    zero point.

    Where several output-stationary sums take turns in a PE, each address is walked once for each of them, R
    operands further on every time, against the same weights.

    Latency is :attr:`latency` cycles from a vector's address (in the cycle after its tile was
    taken, for the first one) to ``a``.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.

    Members
    -------
    tile : In(stream.Signature(tile_layout(config)))
        Tiles. One is taken in the last cycle of the one before, or when idle; an
        output-stationary one perhaps later, so that drains lie far enough apart.
    output_stationary : In(1)
        Mode; presented to the array also in idle cycles.
    busy : Out(1)
        A vector's address is walked in this cycle.
    weight : Out(weight_vector_layout(config))
        Weight vector of an output-stationary element, together with the element's address; both edges of a tile
        whose weights are passed on diagonally, behind its first address.
    read : Out(BankRead)
        Port of the activation scratchpad.
    a, control : Out
        Activation vector and its control bits, for :class:`SystolicArray`. Zero in idle cycles.
    sums : Out(control_layout)
        What happens to the sums of the vector in ``a``, or, with an output-stationary one that
        ends its tile, to the sums of the array's last row.
    shifts : In(ShiftWrite(depth))
        Only with ``post.softmax``: by how much rows of rescaling commands are shifted.
    """

    def __init__(self, config: Config):
        self._config = config
        banks = config.banks
        lines = 1 << line_bits(config, config.scratchpads.activation_bytes)
        super().__init__({
            "tile": In(stream.Signature(tile_layout(config))),
            "output_stationary": In(1),
            "busy": Out(1),
            "weight": Out(weight_vector_layout(config)),
            "read": Out(BankRead(banks, lines, 8 * config.operand_bytes)),
            "a": Out(data.ArrayLayout(config.arithmetic.word, config.array.rows)),
            "control": Out(array_control(config.has_toeplitz)),
            "sums": Out(control_layout(config.accumulators.depth, rescales=config.has_softmax)),
            **({"shifts": In(ShiftWrite(config.accumulators.depth))} if config.has_softmax else {}),
        })

    @property
    def latency(self) -> int:
        """Cycles from a vector's address to the vector."""
        return self.latency_of(self._config)

    @staticmethod
    def latency_of(config: Config) -> int:
        """Return the latency for a configuration: two rotations, addition, reading, zero point."""
        return 2 * Rotator.latency_of(config.banks) + BankRead.LATENCY + 2

    def elaborate(self, platform):
        """Build the walk, then the way of a vector through the banks."""
        m = Module()

        tile = Signal(tile_layout(self._config), reset_less=True)
        take = Signal()
        address, weight_address, free, drains = self._walk(m, tile, take)
        row, first_pixel = self._take(m, tile, take, free, drains)
        operands, valid = self._read(m, tile, address)
        self._subtract_zero_point(m, tile, operands, valid)
        self._ask_for_weight(m, tile, weight_address)
        if self._config.has_toeplitz:
            self._ask_for_edges(m, tile, first_pixel)
        self._control(m, tile, row, first_pixel, drains)
        if self._config.has_softmax:
            self._find_shift(m, tile, take)

        return m

    def _walk(self, m, tile, take):
        """Walk the pixels of the tile.

        Return the addresses of activations and weights, whether the next tile may follow, as far as vectors of this one
        go, and whether the vector drains its tile's sums.
        """
        offered = self.tile.p
        last_pixel = Signal()
        m.submodules.counter = counter = LoopCounter()
        m.submodules.activations = walk = AddressWalk()
        m.submodules.weights = weight_walk = AddressWalk()
        m.d.comb += [
            counter.counts_load.eq(offered.counts),
            counter.counts.eq(tile.counts),
            last_pixel.eq(counter.end),
            walk.start.eq(offered.activation),
            walk.steps.eq(tile.activation_steps),
            weight_walk.start.eq(offered.weight),
            weight_walk.steps.eq(tile.weight_steps),
        ]
        address, step, ends, drains = walk.address, self.busy, last_pixel, last_pixel
        goes_on = Signal()
        free = Signal(init=1)
        if self._config.arithmetic.add_latency > 1:
            further, first_turn, last_turn = self._take_turns(m, tile)
            address, step = address + further, step & last_turn
            ends, drains = last_pixel & last_turn, last_pixel & first_turn
            m.d.comb += free.eq(~self.busy | ends)
        else:
            # From a register, because the tile walker waits for it.
            m.d.sync += free.eq(~goes_on | counter.end_next)
        m.d.comb += goes_on.eq(take | self.busy & ~ends)
        m.d.sync += self.busy.eq(goes_on)
        for part in (counter, walk, weight_walk):
            m.d.comb += [part.load.eq(take), part.step.eq(step)]
            if part is not counter:
                m.d.comb += part.last.eq(counter.last)
        return address, weight_walk.address, free, drains

    def _take(self, m, tile, take, free, drains):
        """Take the next tile when it may follow; return the row of sums, and whether the pixel is the first."""
        config, offered = self._config, self.tile.p
        # Sums of the tile before leave the array row by row; a tile must not drain into them. All that
        # decides whether a tile is taken comes from registers.
        draining = Signal(range(drain_cycles(config) + 1))
        unsafe = Signal()   # draining, or streaming what will have to drain
        stationary = Signal()
        with m.If(drains & tile.output_stationary):
            m.d.sync += draining.eq(drain_cycles(config))
        with m.Elif(draining != 0):
            m.d.sync += draining.eq(draining - 1)
        m.d.comb += [
            stationary.eq(self.busy & tile.output_stationary),
            self.tile.ready.eq(free & (offered.long | ~unsafe)),
            take.eq(self.tile.valid & self.tile.ready),
        ]
        m.d.sync += unsafe.eq(stationary | (draining > 1) | take & offered.output_stationary)

        first_pixel = Signal()
        row = Signal(range(config.accumulators.depth), reset_less=True)
        m.d.sync += first_pixel.eq(take)
        with m.If(take):
            m.d.sync += [tile.eq(offered), row.eq(offered.row)]
        # All vectors of an output-stationary tile keep the row that it came with.
        with m.Elif(~tile.output_stationary):
            m.d.sync += row.eq(row + 1)
        return row, first_pixel

    def _read(self, m, tile, address):
        """Read a vector from the banks; return its operands in order, and whether there are any."""
        config = self._config
        rows, banks = config.array.rows, config.banks
        # Rows that the array lacks have no displacement; nothing depends on it.
        rotation = ceil_log2(banks)
        lines = line_bits(config, config.scratchpads.activation_bytes)
        line = address[rotation:rotation + lines]
        amount = address[:rotation]
        m.submodules.spread = spread = Rotator(banks, lines, reverse=True)
        m.d.comb += spread.amount.eq(amount)
        m.d.comb += [spread.i[index].eq(tile.displacement[index]) for index in range(1, rows)]

        line = delay(m, line, spread.latency, "line", reset_less=True)
        amount = delay(m, amount, spread.latency - 1, "amount", reset_less=True)
        wraps = Signal(banks, reset_less=True)
        m.d.sync += wraps.eq(Cat(bank < amount for bank in range(banks)))
        amount = delay(m, amount, 1, "amount_spread", reset_less=True)
        for bank in range(banks):
            # One addition with carry: line + displacement + (bank < amount).
            address = Signal(lines, name=f"line_bank_{bank}", reset_less=True)
            m.d.sync += address.eq((Cat(wraps[bank], line) + Cat(1, spread.o[bank]))[1:])
            m.d.comb += self.read.line[bank].eq(address)

        m.submodules.order = order = Rotator(banks, config.array.operand_bits)
        m.d.comb += order.amount.eq(delay(m, amount, 1 + BankRead.LATENCY, "amount_read", reset_less=True))
        for bank in range(banks):
            m.d.comb += order.i[bank].eq(self.read.data[bank][:config.array.operand_bits])

        valid_read = delay(m, self.busy, spread.latency + 1, "valid")
        m.d.comb += self.read.en.eq(valid_read)
        return order.o, delay(m, valid_read, self.latency - spread.latency - 2, "valid_late")

    def _subtract_zero_point(self, m, tile, operands, valid):
        """Give the array the vector without its zero point."""
        late = self.latency - 1
        arithmetic = self._config.arithmetic
        zero_point = delay(m, tile.a_zero_point, late, "zero_point", reset_less=True)
        is_unsigned = delay(m, tile.a_unsigned, late, "unsigned", reset_less=True)
        for index in range(self._config.array.rows):
            operand = operands[index]
            value = Signal(arithmetic.word, name=f"value_{index}", reset_less=True)
            m.d.sync += value.eq(arithmetic.prepare(operand, operand[-1] & ~is_unsigned, zero_point))
            # Idle cycles of an output-stationary sum must add nothing.
            with m.If(~valid):
                m.d.sync += value.eq(0)
            m.d.comb += self.a[index].eq(value)

    def _ask_for_weight(self, m, tile, address):
        """Ask for the weight vector of an output-stationary element."""
        m.d.comb += [
            self.weight.valid.eq(self.busy & tile.output_stationary),
            self.weight.first.eq(1),
            self.weight.unsigned.eq(tile.w_unsigned),
            self.weight.zero_point.eq(tile.w_zero_point),
            self.weight.address.eq(address),
        ]

    def _ask_for_edges(self, m, tile, first_pixel):
        """Ask for column 0, then row 0, of a tile whose weights are passed on diagonally.

        Row 0 comes to the array a cycle behind the first activation vector.
        """
        rows = self._config.array.rows
        column, row = Signal(name="column_asked"), Signal(name="row_asked")
        m.d.sync += [column.eq(first_pixel & tile.passed), row.eq(column)]
        with m.If(column | row):
            m.d.comb += [
                self.weight.valid.eq(1),
                self.weight.first.eq(0),
                self.weight.left.eq(column),
                self.weight.elements.eq(rows),
                self.weight.passed.eq(row),
                self.weight.address.eq(tile.weight.now - Mux(column, rows, 0)),
            ]

    def _control(self, m, tile, row, first_pixel, drains):
        """Tell the array, and the accumulators below it, what to do with the vector."""
        control = Signal(array_control(self._config.has_toeplitz))
        sums = Signal.like(self.sums)
        m.d.comb += [
            control.swap.eq(first_pixel & ~tile.output_stationary),
            control.clear.eq(first_pixel & tile.output_stationary),
            control.drain.eq(drains & tile.output_stationary),
            sums.valid.eq(Mux(tile.output_stationary, drains, self.busy)),
            sums.bank.eq(tile.bank),
            sums.row.eq(row),
            sums.first.eq(tile.first),
            sums.maximum.eq(tile.maximum),
            sums.last.eq(drains & tile.last),
        ]
        if self._config.has_toeplitz:
            m.d.comb += control.diagonal.eq(first_pixel & tile.passed)
        m.d.comb += [
            self.control.eq(delay(m, control, self.latency, "control")),
            self.control.output_stationary.eq(self.output_stationary),
            self.sums.eq(delay(m, sums, self.latency, "sums")),
        ]

    def _find_shift(self, m, tile, take):
        """Find by how much the vector's row of sums is shifted."""
        depth = self._config.accumulators.depth
        m.submodules.row_shifts = shifts = RowShifts(depth)
        row = Signal(range(depth), name="shift_row", reset_less=True)
        m.d.sync += row.eq(Mux(take, self.tile.p.shift_base, row + 1))
        m.d.comb += [
            shifts.request.rescale.eq(self.busy & tile.rescale),
            shifts.request.old.eq(tile.shifts_old),
            shifts.request.low_part.eq(tile.low_part),
            shifts.request.row.eq(row),
            self.sums.shift.eq(delay(m, shifts.shift, self.latency - RowShifts.LATENCY, "shift")),
        ]
        wiring.connect(m, wiring.flipped(self.shifts), shifts.write)

    def _take_turns(self, m, tile):
        """Count the output-stationary sums of a PE that take turns.

        Return how much further the present one's operands stand than the walk's address, and whether it is the
        first, and the last, of its group. In weight-stationary mode every vector is both.
        """
        turns, rows = self._config.arithmetic.add_latency, self._config.array.rows
        turn = Signal(range(turns))
        further = Signal(ADDRESS_BITS)
        last = Signal()
        m.d.comb += last.eq(~tile.output_stationary | (turn == turns - 1))
        with m.If(self.busy & ~last):
            m.d.sync += [turn.eq(turn + 1), further.eq(further + rows)]
        with m.Else():
            m.d.sync += [turn.eq(0), further.eq(0)]
        return further, turn == 0, last
