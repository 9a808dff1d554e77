"""Softmax of rows in float32: sums of terms one after another, and quotients that are rounded to integers."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..arithmetic.float_add import FloatAdd
from ..blocks import unit
from ..blocks.line import Line
from ..blocks.pipeline import delay
from ..blocks.unit import Unit

__all__ = ["INVERSE_BITS", "FloatShare", "FloatTotals"]

#: Bits of the number of steps of an output in one.
INVERSE_BITS = 9

#: Cycles of an addition.
_ADD = 4

#: Bits of a fraction as it is stored, and of a significand.
_FRACTION, _SIGNIFICAND = 23, 24

#: Bits of a quotient: those of an integer share, and one behind the point.
_QUOTIENT = INVERSE_BITS + 1

#: Greatest distance of exponents at which a share is more than half a step.
_FAR = _QUOTIENT + 1


class _Link(Unit):
    """Addition of one lane's term."""

    def __init__(self):
        super().__init__({"a": In(32), "b": In(32), "sum": Out(32)})

    def elaborate(self, platform):
        """Build the adder."""
        m = Module()
        m.submodules.adder = adder = FloatAdd(_ADD)
        m.d.comb += [adder.a.eq(self.a), adder.b.eq(self.b), self.sum.eq(adder.sum)]
        return m


class FloatTotals(wiring.Component):
    """Add the terms of a group to the total of its row, those of the lanes one after another.

    Each lane has an adder, which hands on what it has found to the next one: a group's total stands
    :meth:`latency_of` cycles after its terms. One group a cycle, and of the same row :meth:`period_of` cycles later.

    Parameters
    ----------
    lanes, rows : int
        Terms of a group, and rows.

    Members
    -------
    ahead : :py:`In(range(rows))`
        Row of the group whose terms come two cycles later.
    stored : :py:`Out(32)`
        Its total, with its terms.
    valid, opens : :py:`In(1)`
        Whether there are terms, and whether they are the first of their row.
    row : :py:`In(range(rows))`
        Their row.
    term : :py:`In(ArrayLayout(32, lanes))`
        Terms, float32 numbers.
    """

    def __init__(self, lanes: int, rows: int):
        self._lanes, self._rows = lanes, rows
        super().__init__({
            "ahead": In(range(rows)), "stored": Out(32), "valid": In(1), "opens": In(1), "row": In(range(rows)),
            "term": In(data.ArrayLayout(32, lanes)),
        })

    @staticmethod
    def latency_of(lanes: int) -> int:
        """Return the cycles from terms to where their total can be asked for."""
        return lanes * _ADD + 1

    @classmethod
    def period_of(cls, lanes: int) -> int:
        """Return the cycles from a group to one of the same row, at least."""
        return cls.latency_of(lanes) + 2

    def elaborate(self, platform):
        """Build the memory of totals, and the chain of adders."""
        m = Module()

        memory = Memory(shape=unsigned(32), depth=self._rows, init=[], attrs={"no_rw_check": 1, "ram_style": "block"})
        m.submodules.memory = memory
        write, read = memory.write_port(), memory.read_port()
        m.d.comb += [read.addr.eq(self.ahead), self.stored.eq(delay(m, read.data, 1, "stored", reset_less=True))]
        total = Mux(self.opens, 0, self.stored)
        for lane in range(self._lanes):
            unit.add(m, f"link_{lane}", link := _Link(), platform)
            term = self.term[lane]
            if lane:
                unit.add(m, f"term_{lane}", line := Line(32, lane * _ADD), platform)
                m.d.comb += line.i.eq(term)
                term = line.o
            m.d.comb += [link.a.eq(total), link.b.eq(term)]
            total = link.sum
        cycles = self._lanes * _ADD
        unit.add(m, "rows", rows := Line(ceil_log2(self._rows), cycles), platform)
        m.d.comb += [
            rows.i.eq(self.row),
            write.en.eq(delay(m, self.valid, cycles, "valid")),
            write.addr.eq(rows.o),
            write.data.eq(total),
        ]

        return m


class FloatShare(Unit):
    """Round ``term * inverse / total`` to the nearest integer, halves to even.

    One share a cycle, :attr:`LATENCY` cycles after its term; there is no flow control. A term is at most the total,
    and counts as zero if it is subnormal; a total is not subnormal.

    Members
    -------
    term, total : :py:`In(32)`
        float32 numbers, not negative.
    inverse : :py:`In(9)`
        Steps of an output in one.
    share : :py:`Out(9)`
        Rounded quotient.
    """

    #: Cycles from a term to its share: product, distance of exponents, alignment, the quotient's bits, and rounding.
    LATENCY = 3 + _QUOTIENT + 1

    def __init__(self):
        super().__init__({"term": In(32), "total": In(32), "inverse": In(INVERSE_BITS), "share": Out(INVERSE_BITS)})

    def elaborate(self, platform):
        """Build the multiplier, the shifter, and a stage for each bit of the quotient."""
        m = Module()

        exponent = self.term[_FRACTION:31]
        significand = Mux(exponent == 0, 0, Cat(self.term[:_FRACTION], Const(1, 1)))
        product = Signal(_SIGNIFICAND + INVERSE_BITS, reset_less=True)
        distance = Signal(8, reset_less=True)
        m.d.sync += [product.eq(significand * self.inverse), distance.eq(self.total[_FRACTION:31] - exponent)]
        divisor = delay(m, Cat(self.total[:_FRACTION], Const(1, 1)), 3, "divisor", reset_less=True)

        # Twice the product, so that the last bit of the quotient is behind the point.
        value, rest = Cat(Const(0, 1), product), Const(0, 1)
        far = distance > _FAR
        for stage, bits in enumerate(((3, 2), (1, 0))):
            for bit in bits:
                step, take = 1 << bit, distance[bit]
                rest = Mux(take, rest | value[:step].any(), rest)
                value = Mux(take, value >> step, value)
            if stage == 0:
                value = Mux(far, 0, value)
            register = Signal(_SIGNIFICAND + _QUOTIENT, name=f"aligned_{stage}", reset_less=True)
            lost = Signal(name=f"lost_{stage}", reset_less=True)
            m.d.sync += [register.eq(value), lost.eq(rest)]
            value, rest, distance = register, lost, delay(m, distance, 1, f"distance_{stage}", reset_less=True)

        quotient, remainder, behind = Const(0, 0), value[_QUOTIENT:], value[:_QUOTIENT]
        for stage in range(_QUOTIENT):
            taken = Signal(_SIGNIFICAND + 1, name=f"taken_{stage}")
            fits = Signal(name=f"fits_{stage}")
            m.d.comb += [taken.eq(Cat(behind[-1], remainder)), fits.eq(taken >= divisor)]
            left = Signal(_SIGNIFICAND, name=f"remainder_{stage}", reset_less=True)
            found = Signal(stage + 1, name=f"quotient_{stage}", reset_less=True)
            m.d.sync += [left.eq(Mux(fits, taken - divisor, taken)), found.eq(Cat(fits, quotient))]
            behind = delay(m, behind[:-1], 1, f"behind_{stage}", reset_less=True) if len(behind) > 1 else behind
            quotient, remainder = found, left
            divisor = delay(m, divisor, 1, f"divisor_at_{stage}", reset_less=True)
        rest = delay(m, rest, _QUOTIENT, "rest", reset_less=True)
        up = quotient[0] & (rest | remainder.any() | quotient[1])
        m.d.sync += self.share.eq(quotient[1:] + up)

        return m
