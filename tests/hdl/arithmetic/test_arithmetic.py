"""Arithmetics: what their hardware computes, when, and that the host sees the same numbers."""

import numpy as np
import pytest
from amaranth.hdl import Module, signed
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out
from arithmetics import ARITHMETICS
from words import wrap

from pearray import PearrayError
from pearray.hdl.arithmetic.fixed_point import FixedPointArithmetic
from pearray.hdl.arithmetic.integer import IntegerArithmetic
from pearray.sim.pysim import simulate

PRODUCTS = 64
CONTROL = data.StructLayout({"first": 1, "maximum": 1})


class Units(Component):
    """One of each unit that an arithmetic builds."""

    def __init__(self, arithmetic):
        self.arithmetic = arithmetic
        word, psum, accumulator = arithmetic.word, arithmetic.psum(PRODUCTS), arithmetic.accumulator
        super().__init__({
            "operand": In(arithmetic.bits), "sign": In(1), "zero_point": In(signed(9)), "prepared": Out(word),
            "a": In(word), "w": In(word), "product": Out(psum),
            "x": In(psum), "y": In(psum), "added": Out(psum),
            "old": In(accumulator), "control": In(CONTROL), "accumulated": Out(accumulator),
            "other": In(accumulator), "without": In(1), "maximum": In(1), "combined": Out(accumulator),
        })

    def elaborate(self, platform):
        """Build them."""
        m = Module()
        arithmetic, psum = self.arithmetic, self.arithmetic.psum(PRODUCTS)
        m.d.comb += [
            self.prepared.eq(arithmetic.prepare(self.operand, self.sign, self.zero_point)),
            self.product.eq(arithmetic.multiply(m, self.a, self.w, psum)),
            self.added.eq(arithmetic.add(m, self.x.as_unsigned(), self.y.as_unsigned(), psum, "added_total")),
            self.accumulated.eq(arithmetic.accumulate(m, self.old, self.x, self.control)),
            self.combined.eq(arithmetic.combine(m, self.old, self.other, self.without, self.maximum)),
        ]
        return m


def draw(rng, shape):
    """Draw a number, the least and the greatest often."""
    low, high = -(1 << shape.width - 1), (1 << shape.width - 1) - 1
    return int(rng.choice([low, high, 0, int(rng.integers(low, high + 1))], p=[0.1, 0.1, 0.1, 0.7]))


@pytest.mark.parametrize("bits", [4, 8, 13, 16])
@pytest.mark.parametrize("name", ARITHMETICS)
def test_units(rng, name, bits):
    """Engines time their control by these latencies, and the golden models compute these numbers."""
    arithmetic = ARITHMETICS[name](bits)
    psum, accumulator = arithmetic.psum(PRODUCTS), arithmetic.accumulator
    dut = Units(arithmetic)
    given, seen = [], []

    async def testbench(ctx):
        for _ in range(60):
            values = {"a": draw(rng, arithmetic.word), "w": draw(rng, arithmetic.word), "x": draw(rng, psum),
                      "y": draw(rng, psum), "old": draw(rng, accumulator),
                      "control": {"first": int(rng.integers(2)), "maximum": int(rng.integers(2))}}
            for port, value in values.items():
                ctx.set(getattr(dut, port), value)
            given.append(values)
            seen.append({port: ctx.get(getattr(dut, port)) for port in ("product", "added", "accumulated")})
            await ctx.tick()

    simulate(dut, testbench)
    for cycle, values in enumerate(given):
        old, new, control = values["old"], values["x"], values["control"]
        chosen = new if control["first"] else max(old, new) if control["maximum"] else old + new
        expected = {
            "product": (arithmetic.product_latency, wrap(values["a"] * values["w"], psum.width)),
            "added": (arithmetic.add_latency, wrap(values["x"] + values["y"], psum.width)),
            "accumulated": (arithmetic.accumulate_latency, wrap(chosen, accumulator.width)),
        }
        for port, (latency, value) in expected.items():
            if cycle + latency < len(seen):
                assert seen[cycle + latency][port] == value, (port, cycle)
        host = arithmetic.total(None if control["first"] else np.array([old]), np.array([new]), control["maximum"])
        assert host.tolist() == [expected["accumulated"][1]]


@pytest.mark.parametrize("arithmetic", [IntegerArithmetic(4), IntegerArithmetic(8), IntegerArithmetic(16),
                                        FixedPointArithmetic(16)])
def test_operands(rng, arithmetic):
    """The host would check, store or read operands otherwise than the array takes them."""
    dut = Units(arithmetic)
    bits, fixed = arithmetic.bits, isinstance(arithmetic, FixedPointArithmetic)

    async def testbench(ctx):
        for is_unsigned in (False, True):
            low, high = arithmetic.operand_range(is_unsigned)
            assert (low, high) == ((0, 2**bits - 1) if is_unsigned else (-(2**(bits - 1)), 2**(bits - 1) - 1))
            for value in (low, high, 0, *rng.integers(low, high + 1, 20).tolist()):
                zero = int(rng.integers(max(low, -256), min(high, 255) + 1))
                stored = arithmetic.to_memory(np.array([value]), arithmetic.operand_bytes)
                assert stored.nbytes == (1 if bits <= 8 else 2)
                operand = int(stored[0]) & (1 << bits) - 1
                ctx.set(dut.operand, operand)
                ctx.set(dut.sign, 0 if is_unsigned else operand >> bits - 1)
                ctx.set(dut.zero_point, zero)
                word = (value + (1 << 15)) % (1 << 16) - (1 << 15) if fixed else value - zero
                assert ctx.get(dut.prepared) == word
                assert arithmetic.words(stored, is_unsigned, zero).tolist() == [word]
                dtype = np.dtype(np.uint64 if is_unsigned else np.int64)
                assert arithmetic.from_memory(stored.tobytes(), arithmetic.operand_bytes, dtype).tolist() == [value]

    simulate(dut, testbench)


@pytest.mark.parametrize("arithmetic", [IntegerArithmetic(8), FixedPointArithmetic(16)])
def test_sums_in_one_cycle(rng, arithmetic):
    """A sum that doesn't count would be added by a row-stationary array, or the less of two be kept as the greater."""
    dut = Units(arithmetic)
    width = arithmetic.accumulator.width

    async def testbench(ctx):
        for _ in range(40):
            a, b = draw(rng, arithmetic.accumulator), draw(rng, arithmetic.accumulator)
            without, maximum = (int(bit) for bit in rng.integers(0, 2, 2))
            for port, given in (("old", a), ("other", b), ("without", without), ("maximum", maximum)):
                ctx.set(getattr(dut, port), given)
            assert ctx.get(dut.combined) == (a if without else max(a, b) if maximum else wrap(a + b, width))

    simulate(dut, testbench)


def test_shapes():
    """Memory, buses and registers are cut by these widths."""
    for bits, sums, operand_bytes, sum_bytes in ((4, 32, 1, 4), (8, 32, 1, 4), (9, 48, 2, 8), (16, 48, 2, 8)):
        arithmetic = IntegerArithmetic(bits)
        assert (arithmetic.word, arithmetic.accumulator) == (signed(bits + 1), signed(sums))
        assert (arithmetic.operand_bytes, arithmetic.sum_bytes) == (operand_bytes, sum_bytes)
        # The greatest sum of any number of products of differences of two operands fits, and no bit is to spare.
        for products in (1, 2, 64, 100):
            assert products * (2**bits - 1)**2 < 1 << arithmetic.psum(products).width - 1
            assert arithmetic.psum(products).width <= 2 * bits + 1 + (products - 1).bit_length()
    fixed = FixedPointArithmetic(16)
    assert {fixed.word, fixed.accumulator, fixed.psum(1000)} == {signed(16)}
    assert (fixed.windows(), IntegerArithmetic(8).windows()) == (range(17), range(1))


@pytest.mark.parametrize("bits", [0, 32, 8.0, None])
def test_bad_widths(bits):
    """A width that no operand has is named before anything is built."""
    with pytest.raises(PearrayError, match=rf"^bits must be an integer in 1\.\.31, not {bits!r}$"):
        IntegerArithmetic(bits)
