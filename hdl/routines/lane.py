"""One lane of routines: registers, and the units that compute with them."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib.wiring import In, Out

from ..arithmetic.float_at_random import FloatNarrowAtRandom
from ..arithmetic.float_convert import widened
from ..arithmetic.float_divide_root import FloatDivideRoot
from ..arithmetic.float_formats import FLOAT32
from ..arithmetic.float_integer import FloatToInteger, IntegerToFloat
from ..arithmetic.float_multiply import FloatMultiply
from ..arithmetic.float_sum import FloatSum
from ..arithmetic.mix import Mix
from ..blocks import unit
from ..blocks.line import Line
from ..blocks.pipeline import delay
from ..blocks.unit import Unit
from ..shell.config import Config
from .decode import Early, Functions, Late, Middle
from .instructions import SLOTS
from .plain import PlainFunctions
from .registers import Operands, Registers, RegisterWrite

__all__ = ["RoutineLane"]


class RoutineLane(Unit):
    """Computes one instruction a cycle, of one slot; there is no flow control.

    Each port says something of an instruction some cycles after its operands' numbers came: :attr:`FUNCTIONS`,
    :attr:`EARLY` and so on. All of a kind come equally late, so that one register is written in a cycle, in cycle
    :attr:`WRITTEN`, and can be read by an instruction whose numbers come :data:`~.instructions.SLOTS` cycles later.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.

    Members
    -------
    number : :py:`In(range(lanes))`
        Number of this lane.
    operands : :py:`In(Operands)`
        Registers to read.
    functions : :py:`In(Functions)`
        What to do with them.
    a : :py:`Out(32)`
        What r[a] holds, together with ``functions``.
    early : :py:`In(Early)`
        Where the result comes from, if it is there early.
    word : :py:`In(32)`
        What was read in memory.
    given : :py:`In(32)`
        What all lanes are given.
    counts : :py:`In(1)`
        Whether each adds its number to it.
    middle : :py:`In(Middle)`
        Whether it comes from the sum or the product.
    late : :py:`In(Late)`
        Whether it is there late.
    write : :py:`In(RegisterWrite)`
        Register to write, if any.
    """

    #: Cycles from the numbers of registers to their words and what is done with them.
    FUNCTIONS = Registers.LATENCY

    #: To the early results, of which one is chosen then, the middle ones, and the late ones.
    EARLY = FUNCTIONS + PlainFunctions.LATENCY
    MIDDLE = FUNCTIONS + FloatSum.MOST
    LATE = FUNCTIONS + Mix.MOST

    #: To the write of a register.
    WRITTEN = LATE + 2

    def __init__(self, config: Config):
        self._config = config
        super().__init__({
            "number": In(range(max(config.post.lanes, 2))), "operands": In(Operands), "functions": In(Functions),
            "a": Out(32), "early": In(Early), "word": In(32), "given": In(32), "counts": In(1), "middle": In(Middle),
            "late": In(Late), "write": In(RegisterWrite)})

    def elaborate(self, platform):
        """Build registers, units, and what chooses between their results."""
        m = Module()

        m.submodules.registers = registers = Registers()
        m.d.comb += [registers.operands.eq(self.operands), registers.write.eq(self.write), self.a.eq(registers.a)]

        early = self._early(m, registers)
        middle = self._middle(m, platform, registers, early)
        late = self._late(m, registers, middle)
        result = Signal(32, reset_less=True)
        m.d.sync += [
            result.eq(late),
            registers.value.eq(result),
            registers.is_set.eq(result.any()),
        ]

        return m

    def _early(self, m, registers):
        """Results that are there first, of which one goes on, a cycle after it was chosen."""
        a, b, format = registers.a, registers.b, self._config.arithmetic.format
        cycles = self.EARLY - self.FUNCTIONS
        m.submodules.plain = plain = PlainFunctions()
        m.submodules.to_integer = to_integer = FloatToInteger(cycles)
        m.submodules.to_float = to_float = IntegerToFloat(cycles)
        m.submodules.narrow = narrow = FloatNarrowAtRandom(format, cycles)
        m.d.comb += [
            plain.a.eq(a),
            plain.b.eq(b),
            plain.condition.eq(registers.c_is_set),
            plain.functions.eq(self.functions),
            to_integer.number.eq(a),
            to_float.integer.eq(a),
            narrow.number.eq(a),
            narrow.random.eq(b[:len(narrow.random)]),
            narrow.at_random.eq(self.functions.at_random),
        ]
        results = {
            "plain": plain.result,
            "given": self.given + Mux(self.counts, self.number, 0),
            "word": self.word,
            "narrow_word": widened(m, format, self.word[:format.bits]),
            "to_integer": to_integer.integer,
            "to_float": to_float.number,
            "narrowed": narrow.narrow,
        }
        early = Signal(32, reset_less=True)
        chosen = 0
        for name, result in results.items():
            chosen = chosen | Mux(getattr(self.early, name), result[:32], 0)
        m.d.sync += early.eq(chosen)
        return early

    def _middle(self, m, platform, registers, early):
        """Sums and products, or what was chosen before."""
        a, b = registers.a, registers.b
        cycles = self.MIDDLE - self.FUNCTIONS
        m.submodules.adder = adder = FloatSum(FloatSum.MOST)
        m.submodules.multiplier = multiplier = FloatMultiply(FLOAT32, FloatMultiply.MOST)
        unit.add(m, "early_line", waiting := Line(32, self.MIDDLE - self.EARLY - 1), platform)
        m.d.comb += [
            adder.a.eq(a),
            adder.b[:-1].eq(b[:-1]),
            adder.b[-1].eq(b[-1] ^ self.functions.subtract),
            multiplier.a.eq(a),
            multiplier.b.eq(b),
            waiting.i.eq(early),
        ]
        product = delay(m, multiplier.product, cycles - FloatMultiply.MOST, "product", reset_less=True)
        middle = Mux(self.middle.product, product, waiting.o)
        unit.add(m, "middle_line", later := Line(32, self.LATE - self.MIDDLE), platform)
        m.d.comb += later.i.eq(Mux(self.middle.sum, adder.sum, middle))
        return later.o

    def _late(self, m, registers, middle):
        """Hashes, quotients and roots, or what was chosen before."""
        m.submodules.mix = mix = Mix(Mix.MOST)
        m.submodules.divide_root = divide = FloatDivideRoot(SLOTS)
        quotient = delay(m, divide.result, self.LATE - self.FUNCTIONS - FloatDivideRoot.LATENCY, "quotient",
                         reset_less=True)
        m.d.comb += [
            mix.value.eq(registers.a),
            divide.a.eq(registers.a),
            divide.b.eq(registers.b),
            divide.root.eq(self.functions.root),
            divide.round.eq(self.functions.round),
        ]
        return Mux(self.late.mixed, mix.mixed, Mux(self.late.quotient, quotient, middle))
