# amaranth: UnusedElaboratable=no
"""Sums that join others in the global buffer, shifted: by themselves, and behind the array, pass by pass."""

import numpy as np
import pytest
from pass_engine import array_shape, engine_and_buffers, fill, work
from pass_layers import Layer
from words import pack, wrap

from pearray.golden.fused_attention import rshift
from pearray.hdl.arithmetic.integer import IntegerArithmetic
from pearray.hdl.row_stationary.join import SumJoin
from pearray.sim.pysim import simulate, stream_check

#: Rows that have a shift.
ROWS = 64
AMOUNTS = np.arange(-31, 32)

#: Passes whose ifmap words have no sign, and those that join as a low part.
UNSIGNED, LOW = [1, 4], [4]


def draw_sum(rng):
    """A sum of any size; the least and the greatest often, and such as lie at half of a step."""
    bits = int(rng.integers(31))
    number = (int(rng.integers(1 << bits)) if rng.random() < 0.5 else 1 << bits >> 1) * int(rng.choice([1, -1]))
    return int(rng.choice([-(1 << 31), (1 << 31) - 1, number], p=[0.05, 0.05, 0.9]))


async def write_shifts(ctx, port, amounts):
    """Write the shifts of all rows."""
    for row, amount in enumerate(amounts):
        ctx.set(port.en, 1)
        ctx.set(port.row, row)
        ctx.set(port.amount, int(amount))
        await ctx.tick()
    ctx.set(port.en, 0)


@pytest.mark.parametrize("stall", [0, 0.4])
def test_every_amount(rng, stall):
    """A bit of the shifter, a sign or a rounding that is wrong, or another row's shift, would spoil outputs."""
    dut, seen = SumJoin(array_shape(2, 2, IntegerArithmetic(8)), 10, ROWS), []
    amounts = rng.permutation(AMOUNTS)
    beats = [{"address": int(rng.integers(1 << 10)), "last": int(rng.integers(2)), "end": int(rng.integers(2)),
              "words": [draw_sum(rng) for _ in range(2)], "join": int(rng.random() < 0.8),
              "low": 0, "row": int(rng.integers(len(amounts)))} for _ in range(600)]
    for beat in beats:
        beat["low"] = int(beat["join"] and rng.random() < 0.4)
    old = [[draw_sum(rng) for _ in range(2)] for beat in beats if beat["join"]]

    def source(stream, payloads):
        async def put(ctx):
            for payload in payloads:
                while rng.random() < stall:
                    await ctx.tick()
                ctx.set(stream.payload, payload)
                ctx.set(stream.valid, 1)
                await ctx.tick().until(stream.ready)
                ctx.set(stream.valid, 0)
        return put

    async def testbench(ctx):
        await write_shifts(ctx, dut.shifts, amounts)
        cycles = 0
        while len(seen) < len(beats):
            ctx.set(dut.o.ready, int(rng.random() >= stall))
            *_, valid, ready, beat = await ctx.tick().sample(dut.o.valid, dut.o.ready, dut.o.payload)
            if valid and ready:
                seen.append((beat.address, beat.last, beat.end, *beat.words))
            cycles += 1
        assert stall or cycles <= len(beats) + SumJoin.LATENCY + 2

    async def begin(ctx):
        await ctx.tick().repeat(len(amounts) + 1)
        await source(dut.i, beats)(ctx)

    simulate(dut, testbench, background=[begin, source(dut.old, old), stream_check(dut.o)])
    stands, wanted = iter(old), []
    for beat in beats:
        words = np.array(beat["words"], np.int64)
        if beat["join"]:
            amount = int(amounts[beat["row"]])
            own, come = max(amount, 0), max(-amount, 0)
            if beat["low"]:
                own, come = 0, min(come + 8, 31)
            words = wrap(rshift(next(stands), own) + rshift(words, come), 32)
        wanted.append((beat["address"], beat["last"], beat["end"], *words.tolist()))
    assert seen == wanted


def _layer(rng, q, r, t, p, windows, passes):
    """Matrix product with a part of the contraction for each pass."""
    layer = Layer(rng, 4, 3, 8, 32, 0)
    layer.height = layer.e = layer.taps = layer.stride = layer.lines = layer.n = layer.blocks = 1
    layer.q, layer.r, layer.t, layer.p, layer.f, layer.parts = q, r, t, p, windows, passes
    layer.channels, layer.filters, layer.beats, layer.columns, layer.bias = q * r * passes, p * t, p // 2, windows, [0]
    # Words without a sign have no room for a zero point as well.
    layer.zero_points[0] = 0
    layer.x = rng.integers(0, 256, (1, 1, windows, layer.channels))
    layer.w = rng.integers(0, 256, (layer.filters, layer.channels, 1, 1))
    return layer


def _matrix(layer, by_line):
    """Lines of all filters, a row for each; or for each channel, from the third byte on."""
    words = layer.w.reshape(layer.filters, -1)
    words = words.reshape(-1) if by_line else np.concatenate([np.zeros(3, np.int64), words.T.reshape(-1)])
    return pack(np.pad(words, (0, -words.size % 8)).reshape(-1, 8), 8)


def _by_word(layer, number, line):
    """Fields of a pass over a part of the channels of such a matrix."""
    if layer.q == 8:
        return {"by_word": 1, "by_line": 1, "filter_base": line + number * layer.r, "filter_last": 0,
                "psum_image_step": layer.p * layer.channels, "psum_row_step": 8, "ifmap_line_step": layer.channels}
    start = 8 * line + 3 + number * layer.q * layer.r * layer.filters
    return {"by_word": 1, "filter_base": start // 8, "filter_last": start % 8, "psum_image_step": layer.p,
            "psum_row_step": layer.q * layer.filters, "ifmap_line_step": 1, "ifmap_row_step": layer.filters}


@pytest.mark.parametrize(("q", "r", "t", "p", "windows"), [
    (4, 2, 3, 4, 9), (3, 4, 2, 2, 5), (2, 1, 1, 2, 12), (8, 2, 3, 4, 7)])
def test_passes(rng, q, r, t, p, windows):
    """What a pass makes would join sums that the one before has yet to write, other ones, or by another row's shift."""
    arithmetic, lines = IntegerArithmetic(8), 256
    shape, passes = array_shape(4, 3, arithmetic), 5
    m, engine, buffer, filters = engine_and_buffers(shape, 3, lines, shift_rows=ROWS)
    layer = _layer(rng, q, r, t, p, windows, passes)
    amounts = rng.choice(AMOUNTS[22:41], ROWS)
    bases = [int(rng.integers(ROWS - windows)) for _ in range(passes)]
    result, sums = [], layer.psum_lines()

    async def testbench(ctx):
        await write_shifts(ctx, engine.shifts, amounts)
        await fill(ctx, buffer.write[0], 0, pack(np.pad(layer.x.reshape(-1), (0, -layer.x.size % 8)).reshape(-1, 8), 8))
        setup = layer.setup_lines(shape)
        (start, *items), found = layer.commands(0, lines, 0, len(setup))
        matrix, words = _matrix(layer, q == 8), len(setup) + len(found)
        assert words + len(matrix) <= 512
        await fill(ctx, filters.write[0], 0, setup + found + matrix)
        # The second part is a pass that adds as ever, between those that join.
        joined = [item if number in (0, 2) else {**item, "join": 1, "shift_base": base, "low_part": int(number in LOW)}
                  for number, (item, base) in enumerate(zip(items, bases, strict=True))]
        # Some passes find their filters in the matrix instead, whose rows are channels.
        joined = [{**item, **_by_word(layer, number, words)} if number in (1, 2, 4) else item
                  for number, item in enumerate(joined)]
        # The setup says that ifmap words have a sign; those of two passes have none.
        start = {**start, "ifmap_unsigned": 0}
        joined = [{**item, "no_sign": int(number in UNSIGNED)} for number, item in enumerate(joined)]
        await work(ctx, engine, [start, *joined])
        port = buffer.read[2]
        ctx.set(port.address.valid, 1)
        for line in range(sums + port.signature.LATENCY):
            ctx.set(port.address.payload, lines + line)
            *_, value = await ctx.tick().sample(port.line)
            result.append(value)

    simulate(m, testbench)
    total, (x_zero, w_zero) = np.zeros((windows, layer.filters), np.int64), layer.zero_points
    x = layer.x.reshape(windows, passes, -1)
    signed = np.isin(np.arange(passes), UNSIGNED, invert=True)[:, None]
    x = np.where(signed, wrap(x, 8), x) - x_zero
    w = layer.w.reshape(layer.filters, passes, -1) - w_zero
    for number, base in enumerate(bases):
        amount = (0 if number in (0, 2) else amounts[base:base + windows])
        amount = np.broadcast_to(amount, windows)[:, None]
        own, come = np.maximum(amount, 0), np.maximum(-amount, 0)
        if number in LOW:
            own, come = 0, np.minimum(come + 8, 31)
        total = rshift(total, own) + rshift(x[:, number] @ w[:, number].T, come)
    got = layer.find(result[-sums:])
    np.testing.assert_array_equal(got.reshape(layer.filters, windows).T, wrap(total, 32))
