"""Rows of processing elements, and blocks of rows: the wiring of the systolic array, no logic."""

from amaranth.hdl import Module, signed
from amaranth.lib.wiring import In, Member, Out

from .pe import PEControl, ProcessingElement
from .unit import Unit, add

__all__ = ["PEBlock", "PERow"]

#: What passes down from PE to PE, and what right.
_DOWN = ("weight", "token", "psum", "sum")
_RIGHT = ("a", "control", "weight", "token")


def _down(cols: int, operand_bits: int, psum_bits: int) -> dict[str, Member]:
    """Declare what enters from above and leaves below."""
    members: dict[str, Member] = {}
    shapes = (signed(operand_bits), 1, signed(psum_bits), signed(psum_bits))
    for name, shape in zip(_DOWN, shapes, strict=True):
        members[f"{name}_above"] = In(shape).array(cols)
        members[name] = Out(shape).array(cols)
    return members


class PERow(Unit):
    """Row of processing elements, wired side by side.

    Timing is that of :class:`ProcessingElement`; column c works c cycles after column 0.

    Parameters
    ----------
    cols : int
        Processing elements.
    operand_bits, psum_bits : int
        See :class:`ProcessingElement`.

    Members
    -------
    a_left, control_left, weight_left, token_left : In
        What enters the first element from the left.
    weight_above, token_above, psum_above, sum_above : In, arrays of cols
        What enters from above.
    weight, token, psum, sum : Out, arrays of cols
        What leaves below.
    """

    unit_name = "pe_row"

    def __init__(self, cols: int, operand_bits: int, psum_bits: int):
        self._cols = cols
        self._operand_bits = operand_bits
        self._psum_bits = psum_bits
        super().__init__({
            "a_left": In(signed(operand_bits)),
            "control_left": In(PEControl),
            "weight_left": In(signed(operand_bits)),
            "token_left": In(1),
            **_down(cols, operand_bits, psum_bits),
        })

    def elaborate(self, platform):
        """Build the row."""
        m = Module()

        left = None
        for col in range(self._cols):
            pe = ProcessingElement(self._operand_bits, self._psum_bits)
            add(m, f"pe_{col}", pe, platform)
            for name in _DOWN:
                m.d.comb += [
                    getattr(pe, f"{name}_above").eq(getattr(self, f"{name}_above")[col]),
                    getattr(self, name)[col].eq(getattr(pe, name)),
                ]
            for name in _RIGHT:
                source = getattr(left, name) if left else getattr(self, f"{name}_left")
                m.d.comb += getattr(pe, f"{name}_left").eq(source)
            left = pe

        return m


class PEBlock(Unit):
    """Block of rows of processing elements, wired one above the other.

    A block consists of up to four blocks of a quarter of the rows each, or of rows. So a large array
    has few distinct modules, none with more than four times its own number of wires.

    Parameters
    ----------
    rows, cols : int
        Processing elements.
    operand_bits, psum_bits : int
        See :class:`ProcessingElement`.

    Members
    -------
    a_left, control_left, weight_left, token_left : In, arrays of rows
        What enters the first element of each row from the left.
    weight_above, token_above, psum_above, sum_above : In, arrays of cols
        What enters from above.
    weight, token, psum, sum : Out, arrays of cols
        What leaves below.
    """

    def __init__(self, rows: int, cols: int, operand_bits: int, psum_bits: int):
        self._rows = rows
        self._parameters = cols, operand_bits, psum_bits
        super().__init__({
            "a_left": In(signed(operand_bits)).array(rows),
            "control_left": In(PEControl).array(rows),
            "weight_left": In(signed(operand_bits)).array(rows),
            "token_left": In(1).array(rows),
            **_down(cols, operand_bits, psum_bits),
        })

    @property
    def unit_name(self) -> str:
        """Name of the Verilog module."""
        return f"pe_rows_{self._rows}"

    def elaborate(self, platform):
        """Build the block."""
        m = Module()

        size = 1
        while 4 * size < self._rows:
            size *= 4
        above = None
        for first in range(0, self._rows, size):
            count = min(size, self._rows - first)
            part = PERow(*self._parameters) if count == 1 else PEBlock(count, *self._parameters)
            add(m, f"row_{first}" if count == 1 else f"rows_{first}", part, platform)
            for name in _RIGHT:
                target = getattr(part, f"{name}_left")
                sources = getattr(self, f"{name}_left")[first:first + count]
                for wire, source in zip([target] if count == 1 else target, sources, strict=True):
                    m.d.comb += wire.eq(source)
            for name in _DOWN:
                sources = getattr(above, name) if above else getattr(self, f"{name}_above")
                for wire, source in zip(getattr(part, f"{name}_above"), sources, strict=True):
                    m.d.comb += wire.eq(source)
            above = part
        for name in _DOWN:
            for wire, source in zip(getattr(self, name), getattr(above, name), strict=True):
                m.d.comb += wire.eq(source)

        return m
