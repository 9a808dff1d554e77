"""Rows of processing elements, and blocks of rows: the wiring of the systolic array, no logic."""

from amaranth.lib.wiring import In, Member, Out

from ..arithmetic.arithmetic import Arithmetic
from ..blocks.delay import Delay
from ..blocks.structure import Structure
from .pe import ProcessingElement, pe_control

__all__ = ["PEBlock", "PERow"]

#: What passes down from PE to PE, and what right.
_DOWN = ("weight", "token", "psum", "sum")
_RIGHT = ("a", "control", "weight", "token")


def _down(cols: int, arithmetic: Arithmetic, products: int, toeplitz: bool) -> dict[str, Member]:
    """Declare what enters from above and leaves below."""
    members: dict[str, Member] = {}
    if toeplitz:
        members |= {"active_above": In(arithmetic.word).array(cols - 1), "active": Out(arithmetic.word).array(cols - 1)}
    psum = arithmetic.psum(products)
    for name, shape in zip(_DOWN, (arithmetic.word, 1, psum, psum), strict=True):
        members[f"{name}_above"] = In(shape).array(cols)
        members[name] = Out(shape).array(cols)
    return members


class PERow(Structure):
    """Row of processing elements, wired side by side.

    Timing is that of :class:`ProcessingElement`; column c works c cycles after column 0. A sum takes the cycles of an
    addition to the row below. Weights and tokens keep up with it: where that is more than one cycle, they pass
    delay lines on their way down.

    Parameters
    ----------
    cols : int
        Processing elements.
    arithmetic, products : Arithmetic, int
        See :class:`ProcessingElement`.

    toeplitz : bool
        See :class:`ProcessingElement`. The first element takes from the left what others take from above on the left.

    Members
    -------
    a_left, control_left, weight_left, token_left : In
        What enters the first element from the left.
    weight_above, token_above, psum_above, sum_above : In, arrays of cols
        What enters from above.
    weight, token, psum, sum : Out, arrays of cols
        What leaves below.
    active_above, active : In, Out, arrays of cols - 1
        With ``toeplitz``: active weights that go down and one to the right.
    """

    unit_name = "pe_row"

    def __init__(self, cols: int, arithmetic: Arithmetic, products: int, toeplitz: bool = False):
        self._cols = cols
        self._toeplitz = toeplitz
        self._arithmetic = arithmetic
        self._products = products
        super().__init__({
            "a_left": In(arithmetic.word),
            "control_left": In(pe_control(toeplitz)),
            "weight_left": In(arithmetic.word),
            "token_left": In(1),
            **_down(cols, arithmetic, products, toeplitz),
        })

    def _delays(self):
        """Return, for each thing that is delayed on its way down, its bits and the cycles."""
        cycles = self._arithmetic.add_latency - 1
        return {"weight": (self._arithmetic.word.width, cycles), "token": (1, cycles)} if cycles else {}

    def parts(self):
        """Return the elements, and the delay lines below them."""
        pe = ProcessingElement, (self._arithmetic, self._products, self._toeplitz)
        parts = {f"pe_{c}": pe for c in range(self._cols)}
        for name, size in self._delays().items():
            parts |= {f"{name}_delay_{c}": (Delay, size) for c in range(self._cols)}
        return parts

    def wires(self):
        """Wire them side by side."""
        delayed = self._delays()
        for c in range(self._cols):
            for name in _DOWN:
                yield f"pe_{c}.{name}_above", f"{name}_above_{c}"
                if name in delayed:
                    yield f"{name}_delay_{c}.i", f"pe_{c}.{name}"
                yield f"{name}_{c}", f"{name}_delay_{c}.o" if name in delayed else f"pe_{c}.{name}"
            for name in _RIGHT:
                yield f"pe_{c}.{name}_left", f"pe_{c - 1}.{name}" if c else f"{name}_left"
            if self._toeplitz:
                yield f"pe_{c}.active_above", f"active_above_{c - 1}" if c else "weight_left"
                if c < self._cols - 1:
                    yield f"active_{c}", f"pe_{c}.active"


class PEBlock(Structure):
    """Block of rows of processing elements, wired one above the other.

    A block consists of up to four blocks of a quarter of the rows each, or of rows. So a large array
    has few distinct modules, none with more than four times its own number of wires.

    Parameters
    ----------
    rows, cols : int
        Processing elements.
    arithmetic, products, toeplitz : Arithmetic, int, bool
        See :class:`ProcessingElement`.

    Members
    -------
    a_left, control_left, weight_left, token_left : In, arrays of rows
        What enters the first element of each row from the left.
    weight_above, token_above, psum_above, sum_above : In, arrays of cols
        What enters from above.
    weight, token, psum, sum : Out, arrays of cols
        What leaves below.
    active_above, active : In, Out, arrays of cols - 1
        With ``toeplitz``: active weights that go down and one to the right.
    """

    def __init__(self, rows: int, cols: int, arithmetic: Arithmetic, products: int, toeplitz: bool = False):
        self._rows = rows
        self._parameters = cols, arithmetic, products, toeplitz
        #: Each thing that goes down, and in how many columns.
        self._down = dict.fromkeys(_DOWN, cols) | ({"active": cols - 1} if toeplitz else {})
        super().__init__({
            "a_left": In(arithmetic.word).array(rows),
            "control_left": In(pe_control(toeplitz)).array(rows),
            "weight_left": In(arithmetic.word).array(rows),
            "token_left": In(1).array(rows),
            **_down(cols, arithmetic, products, toeplitz),
        })

    @property
    def unit_name(self) -> str:
        """Name of the Verilog module."""
        return f"pe_rows_{self._rows}"

    def _split(self):
        """Return the name, first row and number of rows of each part."""
        size = 1
        while 4 * size < self._rows:
            size *= 4
        for first in range(0, self._rows, size):
            count = min(size, self._rows - first)
            yield (f"rows_{first}" if count > 1 else f"row_{first}"), first, count

    def parts(self):
        """Return the smaller blocks or rows."""
        return {name: (PEBlock, (count, *self._parameters)) if count > 1 else (PERow, self._parameters)
                for name, _, count in self._split()}

    def wires(self):
        """Wire them one above the other."""
        above = None
        for part, first, count in self._split():
            for name in _RIGHT:
                for r in range(count):
                    target = f"{part}.{name}_left_{r}" if count > 1 else f"{part}.{name}_left"
                    yield target, f"{name}_left_{first + r}"
            for name, cols in self._down.items():
                for c in range(cols):
                    yield f"{part}.{name}_above_{c}", f"{above}.{name}_{c}" if above else f"{name}_above_{c}"
            above = part
        for name, cols in self._down.items():
            for c in range(cols):
                yield f"{name}_{c}", f"{above}.{name}_{c}"
