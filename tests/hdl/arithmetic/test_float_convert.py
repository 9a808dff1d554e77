# amaranth: UnusedElaboratable=no
"""Conversions of floats against NumPy's and ml_dtypes', bit by bit."""

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib.wiring import Component, In, Out
from float_draws import NO_NUMBER, SHORT, draw, draw_float32, from_bits, to_bits, wrong
from pipelines import run

from pearray.hdl.arithmetic.float_convert import FloatNarrow, widened
from pearray.hdl.arithmetic.float_formats import BFLOAT16, FLOAT32


class Widen(Component):
    """A number in float32."""

    def __init__(self, format):
        self._format = format
        super().__init__({"number": In(format.bits), "wide": Out(32)})

    def elaborate(self, platform):
        """Widen it."""
        m = Module()
        m.d.comb += self.wide.eq(widened(m, self._format, self.number))
        return m


@pytest.mark.parametrize("format", SHORT, ids=lambda format: format.name)
def test_float32_holds_every_number(rng, format):
    """A subnormal number has bits that no other has; a wrong shift of them shows in no other test."""
    bits = np.arange(256, dtype=np.uint32) if format.bits == 8 else draw(rng, format, 600)
    assert not wrong(run(Widen(format), {"number": bits}, "wide", 0), to_bits(from_bits(bits, format)), bits)


@pytest.mark.parametrize("latency", [0, FloatNarrow.MOST])
@pytest.mark.parametrize("format", SHORT, ids=lambda format: format.name)
def test_numbers_are_rounded_as_by_ml_dtypes(rng, format, latency):
    """A tie that goes the other way, or a number beyond the greatest that is taken for one, would show."""
    bits = draw_float32(rng, format, 600)
    found = run(FloatNarrow(format, latency), {"number": bits}, "narrow", latency)
    assert not wrong(found, to_bits(bits.view(np.float32), format), bits)


def test_formats_have_the_numbers_that_are_published():
    """OFP8 1.0, table 1, and IEEE 754: greatest numbers, infinities, and what is no number."""
    assert [float(from_bits(np.array([format.greatest], np.uint32), format)[0]) for format in SHORT] == [
        3.3895313892515355e38, 65504.0, 448.0, 57344.0]
    assert [format.infinity for format in SHORT] == [0x7F80, 0x7C00, None, 0x7C]
    assert [format.bias for format in SHORT] == [127, 15, 7, 15]
    assert NO_NUMBER == FLOAT32.no_number == 0x7FC00000


def test_latency_is_bounded():
    """More registers than parts would be lost without a word."""
    with pytest.raises(ValueError, match=r"^latency of a conversion must be in 0\.\.3, not 4$"):
        FloatNarrow(BFLOAT16, 4)
