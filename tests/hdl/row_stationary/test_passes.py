# amaranth: UnusedElaboratable=no
"""Pass engine with its buffers: whole small convolutions, pass by pass, against sums written out."""

import numpy as np
import pytest
from amaranth.sim import Simulator
from arithmetics import StagedArithmetic
from pass_engine import array_shape, engine_and_buffers, fill, work
from pass_layers import Layer
from words import pack

from pearray import PearrayError
from pearray.hdl.arithmetic.fixed_point import FixedPointArithmetic
from pearray.hdl.arithmetic.integer import IntegerArithmetic
from pearray.hdl.row_stationary.passes import PassEngine
from pearray.hdl.row_stationary.row import ArrayShape


@pytest.mark.parametrize(("rows", "cols", "arithmetic"), [
    (2, 3, FixedPointArithmetic(16)), (4, 2, IntegerArithmetic(8)), (1, 1, IntegerArithmetic(8)),
    (3, 3, FixedPointArithmetic(16)), (3, 2, StagedArithmetic(8, product_latency=3, add_latency=1))])
def test_layers(rng, rows, cols, arithmetic):
    """If it failed, sums over channels, filters, images or passes would be read, added, written or counted wrong."""
    bits, psum_bits = arithmetic.bits, arithmetic.accumulator.width
    shape = array_shape(rows, cols, arithmetic)
    bank_lines = 256
    m, engine, buffer, filters = engine_and_buffers(shape, bank_lines=bank_lines)
    layers = [Layer(rng, rows, cols, bits, psum_bits, maximum) for maximum in (0, 1)]
    psum_base, bias_base = 2 * bank_lines, 4 * bank_lines

    async def testbench(ctx):
        for layer in layers:
            words = np.append(layer.x.reshape(-1), np.zeros(-layer.x.size % layer.lanes, np.int64))
            await fill(ctx, buffer.write[0], 0, pack(words.reshape(-1, layer.lanes), bits))
            await fill(ctx, buffer.write[0], bias_base, layer.bias_lines())
            setup = layer.setup_lines(shape)
            commands, lines = layer.commands(0, psum_base, bias_base, len(setup))
            assert words.size // layer.lanes <= psum_base
            assert layer.psum_lines() <= bias_base - psum_base
            assert len(setup) + len(lines) <= 512
            await fill(ctx, filters.write[0], 0, setup + lines)
            _, counts, free = await work(ctx, engine, commands)
            port, result = buffer.read[2], []
            ctx.set(port.address.valid, 1)
            for line in range(layer.psum_lines() + port.signature.LATENCY):
                ctx.set(port.address.payload, psum_base + line)
                *_, value = await ctx.tick().sample(port.line)
                result.append(value)
            ctx.set(port.address.valid, 0)
            np.testing.assert_array_equal(layer.find(result[port.signature.LATENCY:]), layer.expected())
            wanted = layer.counts()
            counts["products"] = counts.pop("mac") + counts.pop("gated")
            assert counts == wanted
            # The setup frees what it has not read; then each pass frees what it has just read.
            passes = layer.blocks * layer.parts
            for name, read in (("filters", "filter_read"), ("ifmap", "ifmap_read")):
                assert free[name] == [wanted[read] * index // passes for index in range(passes + 1)]
            assert ctx.get(engine.active_pes) == layer.t * layer.r * layer.height * layer.e

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()


@pytest.mark.parametrize(("q", "p", "stride", "f"), [(3, 4, 1, 5), (4, 3, 1, 4), (2, 6, 2, 4)])
def test_rate(rng, q, p, stride, f):
    """If it failed, passes would not follow one another without gaps, or words come too late within them."""
    shape = array_shape(2, 2, FixedPointArithmetic(16))
    m, engine, _, filters = engine_and_buffers(shape)
    layer = Layer(rng, 2, 2, 16, 16, 0)
    layer.height, layer.e, layer.r, layer.t, layer.n, layer.blocks, layer.parts = 2, 2, 1, 1, 1, 1, 1
    layer.taps, layer.q, layer.p, layer.stride, layer.f = 3, q, p, stride, f
    layer.channels, layer.filters, layer.beats, layer.bias = q, p, -(-p // 4), [0]
    layer.lines, layer.columns = stride + 2, stride * (f - 1) + 3
    layer.w = np.ones((p, q, 2, 3), np.int64)
    cycles = []

    async def testbench(ctx):
        setup = layer.setup_lines(shape)
        (start, item), lines = layer.commands(0, 512, 0, len(setup))
        await fill(ctx, filters.write[0], 0, setup + lines)
        passes = [item | {"fresh": int(number == 0)} for number in range(6)]
        done, _, _ = await work(ctx, engine, [start, *passes])
        cycles.extend(np.diff(done)[3:])

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    products = layer.n * f * p * 3 * q
    assert products > layer.n * layer.columns * layer.lines * q
    assert np.mean(cycles) == products, cycles


def test_wrong_widths_are_named():
    """If it failed, lines of filters would be cut or padded between buffer and array."""
    shape = ArrayShape(rows=1, cols=1, arithmetic=IntegerArithmetic(8), ifmap_words=12, filter_words=40, psum_words=6,
                       filter_lanes=4, psum_lanes=2, row_tag_bits=1, col_tag_bits=1)
    with pytest.raises(PearrayError, match=r"^filter_lanes \* operand_bits must be .* = 64, not 4 \* 8$"):
        PassEngine(shape, 64, 64)
