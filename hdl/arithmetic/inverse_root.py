"""Inverse square root of an integer, a bit a cycle."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..blocks.rules import never

__all__ = ["OPERAND_BITS", "InverseRoot"]

#: Bits of an operand that is shifted up, and those of it that count.
OPERAND_BITS, _LEADING = 64, 26

#: Distances of the normalising shifter, one after another: pairs of bits.
_STEPS = (32, 16, 8, 4, 2)

#: Bits of a root: it is ``2**24`` where the leading bits are ``2**24``, and less in all other cases.
_ROOT_BITS = 25

#: Exponent of a root, as float32 has it, of an operand that was not shifted: that of ``2**-32``.
_EXPONENT = 127 - OPERAND_BITS // 2


class InverseRoot(wiring.Component):
    """Find ``isqrt(2**72 // l)`` of the leading bits l of an integer, as a float32 number.

    The operand is shifted up by pairs of bits until one of the two highest is set; l are its highest 26 bits. The root
    is that of the operand with an even number of bits below the binary point, which only the exponent sees. An operand
    of zero gives zero.

    The root r is the greatest whose ``r**2 * l`` is at most ``2**72``. With r the bits found so far, as a whole number,
    w what is left of a power of 4 over ``r**2 * l``, and ``b = 4 * r * l + l``, one more bit is set if ``4 * w - b`` is
    not negative, and takes its place; then b becomes ``2 * b + 3 * l``, and otherwise ``2 * b - l``.

    One root at a time: it stands :attr:`LATENCY` cycles after its operand, and until the next one is given.

    Members
    -------
    start : :py:`In(1)`
        Whether an operand is given, only while ``ready`` is set.
    ready : :py:`Out(1)`, found : :py:`Out(1)`
        Whether the latest root stands, and whether it does so for the first cycle.
    operand : :py:`In(64)`
        Integer without a sign.
    exponent : :py:`In(5)`
        Power of 2 that the root is multiplied by, given as long as the root is used.
    root : :py:`Out(31)`
        float32 number without its sign: the inverse square root times ``2**exponent``.
    """

    #: Cycles from an operand to its root: to a register, to its leading bits and three times them, and to its bits.
    LATENCY = 1 + len(_STEPS) + 1 + _ROOT_BITS

    def __init__(self):
        super().__init__({"start": In(1), "ready": Out(1), "found": Out(1), "operand": In(OPERAND_BITS),
                          "exponent": In(5), "root": Out(31)})

    def elaborate(self, platform):
        """Build the shifter, the recurrence and the exponent."""
        m = Module()

        last = self.LATENCY - 1
        step = Signal(range(self.LATENCY), init=last)
        with m.If(self.start):
            m.d.sync += step.eq(0)
        with m.Elif(step != last):
            m.d.sync += step.eq(step + 1)
        working = Signal()
        m.d.sync += working.eq(step != last)
        m.d.comb += [self.ready.eq(step == last), self.found.eq(self.ready & working)]
        never(m, "root", self.start & ~self.ready, "an operand is given before the root of the one before stands")

        value, pairs = self._normalise(m, step)
        leading = value[-_LEADING:]
        tripled = Signal(_LEADING + 2, reset_less=True)
        left = Signal(53, reset_less=True)
        trial = Signal(53, reset_less=True)
        root = Signal(_ROOT_BITS, reset_less=True)
        with m.If(step == len(_STEPS)):
            m.d.sync += [tripled.eq(leading + (leading << 1)), trial.eq(leading), root.eq(0),
                         left.eq(1 << 72 - 2 * (_ROOT_BITS - 1) - 2)]
        with m.Elif((step > len(_STEPS)) & (step != last)):
            rest = Signal(signed(56))
            m.d.comb += rest.eq((left << 2) - trial)
            found = ~rest[-1]
            m.d.sync += [
                left.eq(Mux(found, rest, left << 2)),
                trial.eq(Mux(found, (trial << 1) + tripled, (trial << 1) - leading)),
                root.eq(Cat(found, root)),
            ]
        top = root[-1]
        exponent = Signal(8)
        m.d.comb += [
            exponent.eq(_EXPONENT + pairs + self.exponent + top),
            self.root.eq(Mux(value[-2:].any(), Cat(Mux(top, Const(0, 23), root[:23]), exponent), 0)),
        ]

        return m

    def _normalise(self, m, step):
        """Shift an operand up; return it, and by how many pairs of bits it was shifted."""
        value = Signal(OPERAND_BITS, reset_less=True)
        pairs = Signal(len(_STEPS), reset_less=True)
        with m.If(self.start):
            m.d.sync += [value.eq(self.operand), pairs.eq(0)]
        with m.Else():
            for number, distance in enumerate(_STEPS):
                with m.If((step == number) & ~value[-distance:].any()):
                    m.d.sync += [value.eq(value << distance), pairs[len(_STEPS) - 1 - number].eq(1)]
        return value, pairs
