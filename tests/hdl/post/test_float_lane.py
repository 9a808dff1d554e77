# amaranth: UnusedElaboratable=no
"""A post-processing lane of floats, bit by bit against NumPy and ml_dtypes."""

import numpy as np
import pytest
from amaranth.hdl import Const, signed
from amaranth.sim import Simulator
from drawn_floats import FORMATS, float_configuration
from float_draws import NO_NUMBER, draw, from_bits, to_bits

from pearray.hdl.arithmetic.float_formats import FLOAT32
from pearray.hdl.post.float_lane import FloatLane, bound_of, field_of
from pearray.hdl.shell.commands import Rounding


def _run(dut, values, settings, factors, late):
    """Give values one per cycle, each with its settings so much later, and its factor `late` cycles; return outputs."""
    outputs = []

    async def drive(ctx):
        for cycle in range(len(values) + dut.latency):
            ctx.set(dut.valid, cycle < len(values))
            for name, value in (values[cycle] if cycle < len(values) else {}).items():
                ctx.set(getattr(dut, name), value)
            if 0 <= cycle - late < len(factors):
                ctx.set(dut.factor, factors[cycle - late])
            if 0 <= cycle - dut.settings_cycle < len(settings):
                ctx.set(dut.settings, settings[cycle - dut.settings_cycle])
            assert ctx.get(dut.output_valid) == (cycle >= dut.latency), "an output came at another time"
            if cycle >= dut.latency:
                outputs.append(ctx.get(dut.output))
            await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(drive)
    sim.run()
    return np.array(outputs, np.uint32)


def _expected(sums, biases, factors, settings, is_raw, format):
    """What NumPy makes of float32 sums, biases and factors."""
    with np.errstate(all="ignore"):
        total = (from_bits(sums, FLOAT32) + from_bits(biases, FLOAT32)) * from_bits(factors, FLOAT32)
    low, high = (from_bits(np.array([each[name] for each in settings], np.uint32), FLOAT32) for name in ("low", "high"))
    has_low, has_high = (np.array([each[name] for each in settings], bool) for name in ("has_low", "has_high"))
    total = np.where(has_low & (total < low), low, np.where(has_high & (total > high), high, total))
    return np.where(is_raw, to_bits(total), to_bits(total, format))


@pytest.mark.parametrize("bits", [0, 1, 0x7FFF, 0x8000, 0xFFFF])
def test_bounds_are_read_as_they_were_written(bits):
    """Compiler, interpreter and lanes would each have bounds of their own; a bound of zero is no missing one."""
    assert bound_of(field_of(bits)) == (bits, 1)
    assert bound_of(0) == (0, 0)
    for field in (field_of(bits), 0):
        assert tuple(Const.cast(each).value for each in bound_of(Const(field, signed(17)))) == bound_of(field)


@pytest.mark.parametrize("softmax", [0, 1])
@pytest.mark.parametrize("name", FORMATS)
def test_every_output_is_numpys(rng, name, softmax):
    """A bound that is not compared as a number, or a value that meets another one's settings, shows in some output."""
    config = float_configuration(array__operands=name, array__sum_cycles=int(rng.integers(1, 9)), post__softmax=softmax,
                                 scratchpads__moves=softmax).hardware
    format, count = config.arithmetic.format, 400
    sums, biases = draw(rng, FLOAT32, count), draw(rng, FLOAT32, count)
    # Most are of the format's size.
    near = rng.random(count) < 0.7
    sums[near] = to_bits(rng.standard_normal(count).astype(np.float32) * 50)[near]
    biases[rng.random(count) < 0.5] = 0
    bounds = to_bits(np.sort(rng.standard_normal((2, count)).astype(np.float32) * 30, axis=0))
    settings = [{"low": int(low), "high": int(high), "has_low": int(rng.integers(2)), "has_high": int(rng.integers(2))}
                for low, high in bounds.T]
    is_raw = rng.random(count) < 0.3
    values = [{"accumulator": int(total), "bias": int(bias), "rounding": Rounding.NONE if raw else Rounding.ONNX}
              for total, bias, raw in zip(sums, biases, is_raw, strict=True)]
    factors = np.where(rng.random(count) < 0.3, draw(rng, FLOAT32, count), to_bits(
        rng.uniform(0.5, 2, count).astype(np.float32))) if softmax else to_bits(np.ones(count, np.float32))
    expected = _expected(sums, biases, factors, settings, is_raw, format)
    found = _run(FloatLane(config), values, settings, [int(each) for each in factors] * softmax,
                 config.arithmetic.add_latency)
    mask = np.where(is_raw, np.uint32(0xFFFFFFFF), np.uint32((1 << format.bits) - 1))
    np.testing.assert_array_equal(found & mask, expected)
    assert (expected[is_raw] != NO_NUMBER).any()
