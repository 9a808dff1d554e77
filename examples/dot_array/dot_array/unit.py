"""Dot-product unit: K products, an adder tree, and the sum that stays."""

from amaranth.hdl import Module, Mux, Signal, signed, unsigned
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from pearray.hdl.blocks.pipeline import delay
from pearray.hdl.blocks.unit import Unit

__all__ = ["DotUnit", "LineControl"]


class LineControl(data.Struct):
    """What goes along with the operands of a line."""

    valid: unsigned(1)
    #: The sum begins with this line.
    begin: unsigned(1)
    #: The sum is the greatest of its lines' sums.
    maximum: unsigned(1)


class DotUnit(Unit):
    """K products a cycle, added by a tree with a register at each level, and added up over the lines of a sum.

    There is no flow control: a line may enter every cycle, and its sum so far stands in ``sum`` after
    :attr:`latency` cycles.

    Parameters
    ----------
    products : int
        K, a power of two.
    operand_bits : int
        Bits of a signed operand, whose zero point has gone.
    sum_bits : int
        Bits of a sum, which wraps around.

    Members
    -------
    control : In(LineControl)
        Given with the operands.
    a, w : In(ArrayLayout(signed(operand_bits), products))
        Operands.
    sum : Out(signed(sum_bits))
        Sum of all lines since the last that began one.
    """

    def __init__(self, products: int, operand_bits: int, sum_bits: int):
        self._products = products
        self._operand = signed(operand_bits)
        self._sum = signed(sum_bits)
        operands = data.ArrayLayout(self._operand, products)
        super().__init__({
            "control": In(LineControl),
            "a": In(operands),
            "w": In(operands),
            "sum": Out(self._sum),
        })

    @staticmethod
    def latency_of(products: int) -> int:
        """Cycles from a line to its sum: products, the levels of the tree, and the sum itself."""
        return 2 + (products - 1).bit_length()

    @property
    def latency(self) -> int:
        """Cycles from a line to its sum."""
        return self.latency_of(self._products)

    def elaborate(self, platform):
        """Build the multipliers, the tree and the sum."""
        m = Module()

        level = []
        for index in range(self._products):
            product = Signal(signed(2 * self._operand.width), name=f"product_{index}", reset_less=True)
            m.d.sync += product.eq(self.a[index] * self.w[index])
            level.append(product)
        depth = 0
        while len(level) > 1:
            depth += 1
            above = []
            for index in range(0, len(level), 2):
                total = Signal(signed(len(level[0]) + 1), name=f"level_{depth}_{index // 2}", reset_less=True)
                m.d.sync += total.eq(level[index] + level[index + 1])
                above.append(total)
            level = above

        line = level[0]
        control = delay(m, self.control, self.latency - 1, "control")
        best = Mux(line > self.sum, line, self.sum)
        with m.If(control.valid):
            m.d.sync += self.sum.eq(Mux(control.begin, line, Mux(control.maximum, best, self.sum + line)))

        return m
