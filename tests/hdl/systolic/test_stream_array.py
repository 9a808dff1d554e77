# amaranth: UnusedElaboratable=no
"""Array and PE with stream ports, under stalls on every side, against NumPy."""

import numpy as np
import pytest
from arithmetics import StagedArithmetic

from pearray import PearrayError
from pearray.hdl.arithmetic.integer import IntegerArithmetic
from pearray.hdl.blocks.stream_buffer import Credits, StreamBuffer
from pearray.hdl.systolic.stream_array import StreamArray
from pearray.hdl.systolic.stream_pe import StreamPE
from pearray.sim.pysim import simulate, stream_check, stream_get, stream_put

#: Slower than integers at everything.
FLOAT_LIKE = StagedArithmetic(8, product_latency=2, add_latency=4)


def run(rng, dut, inputs, count, output, stalls):
    """Feed streams and collect ``count`` payloads."""
    payloads = []

    def source(stream, items, stall):
        pauses = rng.geometric(1 - stall, size=len(items)) - 1

        async def testbench(ctx):
            for item, pause in zip(items, pauses, strict=True):
                for _ in range(pause):
                    await ctx.tick()
                await stream_put(ctx, stream, item)
        return testbench

    pauses = rng.geometric(1 - stalls[-1], size=count) - 1

    async def sink(ctx):
        for pause in pauses:
            for _ in range(pause):
                await ctx.tick()
            payload = await stream_get(ctx, output)
            payloads.append([payload] if isinstance(payload, int) else [int(value) for value in payload])

    simulate(dut, *(source(stream, items, stall) for (stream, items), stall in
                    zip(inputs, stalls, strict=False)), sink, background=[stream_check(output)])
    return np.array(payloads)


def operands(rng, *shape):
    """Return random 9-bit operands."""
    return rng.integers(-256, 256, size=shape)


def workload(rng, rows, cols, operations):
    """Return weight vectors, activation vectors and results of random operations."""
    weights, activations, results = [], [], []
    size = max(rows, cols)
    for _ in range(operations):
        if rng.integers(3) == 0:
            depth = int(rng.integers(1, 8))
            x, w = operands(rng, depth, rows), operands(rng, depth, cols)
            for k in range(depth):
                padded = operands(rng, size)
                padded[:cols] = w[k]
                weights.append({"vector": padded.tolist(), "left": int(rng.integers(2)),
                                "output_stationary": 1})
                activations.append({"vector": x[k].tolist(), "output_stationary": 1, "clear": k == 0,
                                    "drain": k == depth - 1, "new_tile": int(rng.integers(2))})
            results += list((x.T @ w)[::-1])
        else:
            tile, left = operands(rng, rows, cols), int(rng.integers(2))
            for vector in tile.T if left else tile:
                padded = operands(rng, size)
                padded[:len(vector)] = vector
                weights.append({"vector": padded.tolist(), "left": left, "output_stationary": 0})
            x = operands(rng, int(rng.integers(1, 2 * rows + 2)), rows)
            for index, vector in enumerate(x):
                activations.append({"vector": vector.tolist(), "new_tile": index == 0, "clear": 1,
                                    "drain": int(rng.integers(2)), "output_stationary": 0})
            results += list(x @ tile)
    return weights, activations, np.array(results)


#: Arithmetics with stalls of weights, activations and results.
CASES = [(IntegerArithmetic(8), stalls) for stalls in
         ((0, 0, 0), (0.6, 0, 0), (0, 0.6, 0), (0, 0, 0.6), (0.3, 0.3, 0.3))]
CASES += [(FLOAT_LIKE, (0, 0, 0)), (FLOAT_LIKE, (0.3, 0.3, 0.3))]


@pytest.mark.parametrize(("arithmetic", "stalls"), CASES)
def test_random_operations(rng, arithmetic, stalls):
    """Whatever stalls, no result is lost, doubled or wrong, and none is withdrawn."""
    for rows, cols in ((1, 1), (4, 3), (2, 5)):
        dut = StreamArray(rows, cols, arithmetic, 128)
        weights, activations, expected = workload(rng, rows, cols, 8)
        got = run(rng, dut, [(dut.weights, weights), (dut.activations, activations)], len(expected),
                  dut.results, stalls)
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(("rows", "cols", "depth"), [(4, 3, 0), (8, 8, 0), (1, 6, 0), (6, 1, 0),
                                                     (4, 4, 8), (8, 2, 16), (1, 1, 2)])
def test_throughput(rng, rows, cols, depth):
    """An activation vector goes in every cycle: tiles that meet max(R, C) vectors, sums of 2 R products."""
    dut = StreamArray(rows, cols, IntegerArithmetic(8), 128)
    count = 120
    meets = max(rows, cols)
    accepted = []

    async def weights(ctx):
        for _ in range(count if depth else -(-count // meets) * rows):
            await stream_put(ctx, dut.weights, {"output_stationary": depth > 0})

    async def activations(ctx):
        for index in range(count):
            control = {"output_stationary": 1, "clear": index % depth == 0, "drain": index % depth == depth - 1
                       } if depth else {"new_tile": index % meets == 0}
            await stream_put(ctx, dut.activations, {"vector": operands(rng, rows).tolist(), **control})

    async def results(ctx):
        ctx.set(dut.results.ready, 1)
        async for _, _, valid, ready in ctx.tick().sample(dut.activations.valid, dut.activations.ready):
            accepted.append(valid & ready)
            if sum(accepted) == count:
                break

    simulate(dut, weights, activations, results)
    # The first vectors wait in registers until their weights have come.
    first = [index for index, value in enumerate(accepted) if value][2]
    assert sum(accepted[first:]) == count - 2
    assert len(accepted[first:]) <= count - 2 + meets + 8


@pytest.mark.parametrize(("arithmetic", "stalls"), CASES)
def test_pe(rng, arithmetic, stalls):
    """The PE alone multiplies, adds and accumulates whatever stalls."""
    dut = StreamPE(arithmetic, 128)
    weights, items, expected = [], [], []
    for _ in range(40):
        depth = int(rng.integers(1, 6))
        stationary = bool(rng.integers(2))
        a, psum = operands(rng, depth), rng.integers(-(1 << 20), 1 << 20, size=depth)
        w = operands(rng, depth if stationary else 1)
        weights += w.tolist()
        for k in range(depth):
            items.append({"a": int(a[k]), "psum": int(psum[k]), "output_stationary": stationary,
                          "new_weight": k == 0, "clear": k == 0, "drain": k == depth - 1})
        expected += [int(a @ w)] if stationary else (psum + a * w).tolist()
    got = run(rng, dut, [(dut.weights, weights), (dut.items, items)], len(expected), dut.results, stalls)
    np.testing.assert_array_equal(got[:, 0], expected)


@pytest.mark.parametrize("arithmetic", [IntegerArithmetic(8), FLOAT_LIKE])
def test_latencies(rng, arithmetic):
    """Both say how long an idle one takes, and take as long."""
    for dut, port, item, latency in (
            (array := StreamArray(4, 3, arithmetic, 128), "activations", {}, array.latency),
            (pe := StreamPE(arithmetic, 128), "items", {}, pe.latency)):
        waited = []

        async def testbench(ctx, dut=dut, port=port, item=item, waited=waited):
            await ctx.tick().repeat(5)
            await stream_put(ctx, getattr(dut, port), item)
            ctx.set(dut.results.ready, 1)
            cycles = 0
            while not ctx.get(dut.results.valid):
                await ctx.tick()
                cycles += 1
            waited.append(cycles + 1)

        simulate(dut, testbench)
        assert waited == [latency]


def test_bad_parameters():
    """Depths that the pointers can't address, and too few credits, are refused."""
    with pytest.raises(PearrayError, match=r"^depth must be a power of two of at least 4, not 6$"):
        StreamBuffer(8, 6)
    with pytest.raises(PearrayError, match=r"^total must be at least 10, not 9$"):
        Credits(9, 8)
    with pytest.raises(PearrayError, match=r"^rows must be"):
        StreamArray(0, 1, IntegerArithmetic(8), 128)
