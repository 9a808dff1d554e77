"""Feeder: reads weight vectors and presents them to the array, from the top or from the left."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..blocks.banks import BankRead
from ..blocks.pipeline import delay
from ..blocks.rotate import Rotator
from ..shell.config import Config
from .array import WeightControl
from .streamer import Streamer
from .tile_layouts import line_bits, weight_vector_layout

__all__ = ["Feeder"]


class Feeder(wiring.Component):
    """Turns weight vectors' addresses into weight vectors, one a cycle.

    A vector of consecutive operands at any alignment is one line of each bank, rotated. Then the
    zero point is subtracted, and what doesn't belong to the tile is cleared: whole vectors that
    aren't valid; in a tile from the left, rows beyond its last element; in a diagonal tile, all but
    column j of vector j.

    Of a tile whose weights are passed on diagonally, the left gets the vector before, last operand first: that vector
    stands in memory before row 0, which the top gets.

    Latency is :attr:`latency` cycles from ``tiles`` or ``elements`` to the array.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.

    Members
    -------
    tiles : In(weight_vector_layout(config))
        Vectors of weight-stationary tiles.
    elements : In(weight_vector_layout(config))
        Vectors of output-stationary elements. They take precedence, but never meet the former.
    read : Out(BankRead)
        Port of the weight scratchpad.
    w_top, w_left, w_control : Out
        Weight vector for :class:`SystolicArray`. Both directions get the same operands; the array
        takes those of the tile's direction.
    """

    def __init__(self, config: Config):
        self._config = config
        lines = 1 << line_bits(config, config.scratchpads.weight_bytes)
        super().__init__({
            "tiles": In(weight_vector_layout(config)),
            "elements": In(weight_vector_layout(config)),
            "read": Out(BankRead(config.banks, lines, 8 * config.operand_bytes)),
            "w_top": Out(data.ArrayLayout(config.arithmetic.word, config.array.cols)),
            "w_left": Out(data.ArrayLayout(config.arithmetic.word, config.array.rows)),
            "w_control": Out(WeightControl),
        })

    @property
    def latency(self) -> int:
        """Cycles from an address to its vector: one less than that of the streamer.

        It is padded to this, since then the first vector of a tile may be asked for in the cycle
        in which the streamer walks the first address of the tile before, and an output-stationary
        vector (asked for by the streamer) comes one cycle before its activations.
        """
        return Streamer.latency_of(self._config) - 1

    def elaborate(self, platform):
        """Build the way of a vector through the banks."""
        m = Module()

        config = self._config
        m.submodules.order = order = Rotator(config.banks, config.array.operand_bits)
        chosen = Signal(weight_vector_layout(config))
        m.d.comb += chosen.eq(Mux(self.tiles.valid, self.tiles, self.elements))
        pad = self.latency - (1 + BankRead.LATENCY + order.latency + 1)
        vector = self._later(m, chosen, pad, "vector")
        self._read(m, vector, order)
        # Masks are made one cycle before the vector leaves the rotator.
        flags = self._later(m, vector, BankRead.LATENCY + order.latency, "flags")
        keep = self._keep(m, flags)
        flags = self._later(m, flags, 1, "flags_late")
        self._subtract_zero_point(m, flags, order.o, keep)
        flags = self._later(m, flags, 1, "flags_out")
        m.d.comb += [
            self.w_control.left.eq(flags.left),
            self.w_control.capture.eq(flags.valid & flags.first),
        ]

        return m

    def _later(self, m, vector, cycles, name):
        """Delay a vector. All of it follows from whether it is valid, which is all that is reset."""
        later = Signal.like(vector, name=f"{name}_later")
        m.d.comb += [
            later.eq(delay(m, vector, cycles, name, reset_less=True)),
            later.valid.eq(delay(m, vector.valid, cycles, f"{name}_valid")),
        ]
        return later

    def _read(self, m, vector, order):
        """Read the vector's operands, and rotate them to their places."""
        config, banks = self._config, self._config.banks
        rotation = ceil_log2(banks)
        lines = line_bits(config, config.scratchpads.weight_bytes)
        line = vector.address[rotation:rotation + lines]
        amount = vector.address[:rotation]
        for bank in range(banks):
            address = Signal(lines, name=f"line_bank_{bank}", reset_less=True)
            m.d.sync += address.eq((Cat(bank < amount, line) + 1)[1:])
            m.d.comb += [
                self.read.line[bank].eq(address),
                order.i[bank].eq(self.read.data[bank][:config.array.operand_bits]),
            ]
        amount = delay(m, amount, 1 + BankRead.LATENCY, "amount", reset_less=True)
        m.d.comb += order.amount.eq(amount)

        reading = Signal()
        m.d.sync += reading.eq(vector.valid)
        m.d.comb += self.read.en.eq(reading)

    def _keep(self, m, flags):
        """Return, a cycle later, which lanes of the vector belong to the tile."""
        rows, cols = self._config.array.rows, self._config.array.cols
        column = Signal(cols)
        column_after = Signal(cols, reset_less=True)
        m.d.comb += column.eq(Mux(flags.first, 1, column_after))
        m.d.sync += column_after.eq(column << 1)
        lanes = max(rows, cols)
        keep = Signal(lanes, reset_less=True)
        for lane in range(lanes):
            in_left = lane < flags.elements if lane < rows else 0
            in_top = ~flags.diagonal | column[lane] if lane < cols else 0
            m.d.sync += keep[lane].eq(flags.valid & Mux(flags.left, in_left, in_top))
        return keep

    def _subtract_zero_point(self, m, flags, operands, keep):
        """Give the array both forms of the vector without its zero point, and zeros where nothing is kept."""
        rows, cols, arithmetic = self._config.array.rows, self._config.array.cols, self._config.arithmetic
        values = []
        for lane in range(max(rows, cols)):
            operand = operands[lane]
            value = Signal(arithmetic.word, name=f"value_{lane}", reset_less=True)
            m.d.sync += value.eq(arithmetic.prepare(operand, operand[-1] & ~flags.unsigned, flags.zero_point))
            with m.If(~keep[lane]):
                m.d.sync += value.eq(0)
            if lane < cols:
                m.d.comb += self.w_top[lane].eq(value)
            values.append(value)
        for lane in range(rows):
            m.d.comb += self.w_left[lane].eq(values[lane])
        if self._config.has_toeplitz:
            before = [Signal.like(value, name=f"before_{lane}") for lane, value in enumerate(values[:rows])]
            passed = delay(m, flags.passed, 1, "passed")
            m.d.sync += [register.eq(value) for register, value in zip(before, values, strict=False)]
            with m.If(passed):
                m.d.comb += [self.w_left[lane].eq(before[rows - lane]) for lane in range(1, rows)]
