"""Integers whose hardware takes other cycles: exact results show that engines follow their arithmetic's latencies."""

from dataclasses import dataclass, fields

from amaranth.hdl import Cat, Const, Mux, Signal

from pearray.hdl.arithmetic.integer import IntegerArithmetic
from pearray.hdl.blocks.pipeline import delay


@dataclass(frozen=True)
class StagedArithmetic(IntegerArithmetic):
    """Integers multiplied in steps and added in slices, as deep as a float unit.

    A product is the sum of two partial ones, and waits for what is left of its cycles. An addition takes one slice of
    its bits a cycle, the lowest first. Accumulators compare and clear in one cycle, then add.
    """

    bits: int = 8
    product_latency: int = 3
    add_latency: int = 3

    @property
    def accumulate_latency(self):
        """A cycle to choose what enters the sum, and an addition."""
        return 1 + self.add_latency

    def multiply(self, m, a, w, shape, *, enable=None):
        """Multiply by the low and the high bits of the second word; no register keeps anything."""
        if self.product_latency == 1:
            return super().multiply(m, a, w, shape, enable=enable)
        half = len(w) // 2
        low, high = Signal(shape, name="product_low"), Signal(shape, name="product_high")
        m.d.sync += [low.eq(a * w[:half]), high.eq(a * w[half:].as_signed())]
        product = Signal(shape, name="product")
        m.d.sync += product.eq(low + (high << half))
        return delay(m, product, self.product_latency - 2, "product")

    def add(self, m, a, b, shape, name):
        """Add a slice a cycle; a carry goes to the next."""
        left, right = Signal(shape, name=f"{name}_left"), Signal(shape, name=f"{name}_right")
        m.d.comb += [left.eq(a), right.eq(b)]
        size = -(-shape.width // self.add_latency)
        done, carry = [], Const(0, 1)
        for stage in range(self.add_latency):
            part = slice(stage * size, min((stage + 1) * size, shape.width))
            x, y = (delay(m, value[part], stage, f"{name}_{side}_{stage}")
                    for value, side in ((left, "left"), (right, "right")))
            total = Signal(len(x) + 1, name=f"{name}_slice_{stage}")
            m.d.sync += total.eq(x + y + carry)
            carry = total[-1]
            done.append(delay(m, total[:-1], self.add_latency - 1 - stage, f"{name}_done_{stage}"))
        result = Signal(shape, name=name)
        m.d.comb += result.eq(Cat(done))
        return result

    def accumulate(self, m, old, new, control):
        """Choose, then add."""
        below = old < new
        kept, added = Signal(old.shape(), name="kept"), Signal(new.shape(), name="added")
        m.d.sync += [
            kept.eq(Mux(control.first | control.maximum & below, 0, old)),
            added.eq(Mux(~control.first & control.maximum & ~below, 0, new)),
        ]
        return self.add(m, kept, added, self.accumulator, "accumulated")


@dataclass(frozen=True)
class DirectArithmetic(IntegerArithmetic):
    """Integers whose accumulators take a sum in the cycle in which it comes."""

    bits: int = 8

    @property
    def accumulate_latency(self):
        """None."""
        return 0

    def accumulate(self, m, old, new, control):
        """Choose and add at once."""
        greater = Mux(old < new, new, old)
        return Mux(control.first, new, Mux(control.maximum, greater, old + new))


#: Arithmetics of every kind of latency: a name and what makes one of a width.
ARITHMETICS = {
    "integer": IntegerArithmetic,
    "direct": DirectArithmetic,
    "slow-product": lambda bits: StagedArithmetic(bits, product_latency=3, add_latency=1),
    "slow-sum": lambda bits: StagedArithmetic(bits, product_latency=1, add_latency=2),
    "float-like": lambda bits: StagedArithmetic(bits, product_latency=2, add_latency=4),
}


def with_arithmetic(config, arithmetic):
    """Return a configuration whose array computes with another arithmetic."""
    class Configured(type(config)):
        """Configuration with an arithmetic of a test."""

        @property
        def arithmetic(self):
            """What the test wants."""
            return arithmetic

    return Configured(**{field.name: getattr(config, field.name) for field in fields(config) if field.init})
