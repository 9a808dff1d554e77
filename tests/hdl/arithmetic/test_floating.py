"""Floating point as an arithmetic: what its units compute, when, and that the host sees the same numbers."""

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out
from float_draws import NO_NUMBER, SHORT, draw, from_bits, to_bits, type_of, wrong
from pipelines import run

from pearray import PearrayError
from pearray.hdl.arithmetic.float_formats import BFLOAT16, E4M3, FLOAT32
from pearray.hdl.arithmetic.floating import FloatArithmetic

CONTROL = data.StructLayout({"first": 1, "maximum": 1})


class Units(Component):
    """One of each unit that the arithmetic builds."""

    def __init__(self, arithmetic):
        self._arithmetic = arithmetic
        super().__init__({
            "a": In(arithmetic.word), "w": In(arithmetic.word), "product": Out(32), "old": In(32), "new": In(32),
            "control": In(2), "added": Out(32), "accumulated": Out(32), "combined": Out(32)})

    def elaborate(self, platform):
        """Build them."""
        m = Module()
        arithmetic = self._arithmetic
        control = data.View(CONTROL, self.control)
        m.d.comb += [
            self.product.eq(arithmetic.multiply(m, self.a, self.w, arithmetic.product)),
            self.added.eq(arithmetic.add(m, self.old, self.new, arithmetic.accumulator, "added_total")),
            self.accumulated.eq(arithmetic.accumulate(m, self.old, self.new, control)),
            self.combined.eq(arithmetic.combine(m, self.old, self.new, control.first, control.maximum)),
        ]
        return m


@pytest.mark.parametrize("format", SHORT, ids=lambda format: format.name)
def test_products_of_words(rng, format):
    """A word that is none would change a sum by what its register has left, an infinity among it."""
    arithmetic = FloatArithmetic(format, product_latency=2)
    a, w = draw(rng, format, 200), draw(rng, format, 200)
    counts = rng.integers(0, 2, (2, 200), dtype=np.uint32)
    words = [each | there << np.uint32(format.bits) for each, there in zip((a, w), counts, strict=True)]
    with np.errstate(all="ignore"):
        expected = to_bits(from_bits(a, format) * from_bits(w, format))
    expected[counts.min(axis=0) == 0] = 1 << 31
    found = run(Units(arithmetic), {"a": words[0], "w": words[1]}, "product", arithmetic.product_latency)
    assert not wrong(found, expected, *words)
    for stored, word in ((a, words[0]), (w, words[1])):
        values = from_bits(stored, format)
        np.testing.assert_array_equal(arithmetic.words(word & (1 << format.bits) - 1, False, 0), values)


@pytest.mark.parametrize("latency", [1, 4])
def test_sums_and_maxima(rng, latency):
    """A sum that doesn't count, or comes in another cycle than the latency says, would be another sum's."""
    arithmetic = FloatArithmetic(BFLOAT16, add_latency=latency)
    old, new = draw(rng, FLOAT32, 300), draw(rng, FLOAT32, 300)
    new[:40] = old[:40]
    new[40:80] = old[40:80] ^ np.uint32(1 << 31)
    control = rng.integers(0, 4, 300, dtype=np.uint32)
    first, maximum = control & 1, control >> 1
    before, values = from_bits(old, FLOAT32), from_bits(new, FLOAT32)
    inputs = {"old": old, "new": new, "control": control}
    with np.errstate(all="ignore"):
        total = before + values
        kept = np.where(maximum, arithmetic.total(before, values, True), total)
    assert not wrong(run(Units(arithmetic), inputs, "added", latency), to_bits(total), old, new)
    found = run(Units(arithmetic), inputs, "accumulated", arithmetic.accumulate_latency)
    assert not wrong(found, to_bits(np.where(first, values, kept)), old, new, control)
    found = run(Units(arithmetic), inputs, "combined", 0)
    assert not wrong(found, to_bits(np.where(first, before, kept)), old, new, control)
    with np.errstate(all="ignore"):
        host = arithmetic.total(before, values, False)
    np.testing.assert_array_equal(to_bits(host), to_bits(total))


@pytest.mark.parametrize("format", SHORT, ids=lambda format: format.name)
def test_memory_holds_every_operand(format):
    """The host would write other numbers than the array reads."""
    arithmetic, kind = FloatArithmetic(format), type_of(format)
    bits = np.arange(1 << format.bits, dtype=f"u{format.bits // 8}")
    stored = arithmetic.to_memory(bits.view(kind), arithmetic.operand_bytes)
    np.testing.assert_array_equal(stored, bits)
    back = arithmetic.from_memory(stored.tobytes(), arithmetic.operand_bytes, kind)
    np.testing.assert_array_equal(back.view(bits.dtype), bits)
    sums = np.array([1.5, -2.0, np.inf], np.float32)
    np.testing.assert_array_equal(
        arithmetic.from_memory(arithmetic.to_memory(sums, 4).tobytes(), 4, np.dtype(np.float32)), sums)


def test_shapes_and_limits():
    """Memory and buses are cut by these widths, and engines wait for as many cycles."""
    arithmetic = FloatArithmetic(E4M3, product_latency=2, add_latency=5)
    assert (arithmetic.operand_bytes, arithmetic.sum_bytes, arithmetic.word.width) == (1, 4, 9)
    assert {arithmetic.psum(1000), arithmetic.product, arithmetic.accumulator} == {arithmetic.accumulator}
    assert arithmetic.accumulate_latency == 6
    assert arithmetic.operand_range(False) == (-448, 448)
    assert NO_NUMBER >> 23 == 255


@pytest.mark.parametrize(("options", "message"), [
    ({"format": FLOAT32}, r"^format must be one of at most 16 bits, not float32$"),
    ({"format": BFLOAT16, "product_latency": 0}, r"^product_latency must be in 1\.\.6 cycles, not 0$"),
    ({"format": BFLOAT16, "add_latency": 9}, r"^add_latency must be in 1\.\.8 cycles, not 9$"),
])
def test_what_no_unit_has_is_refused(options, message):
    """A latency that no unit has would be found when the hardware is built."""
    with pytest.raises(PearrayError, match=message):
        FloatArithmetic(**options)
