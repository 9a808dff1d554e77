# amaranth: UnusedElaboratable=no
"""One processing element of the row-stationary array, with random shapes and stalls."""

import numpy as np
import pytest
from amaranth.sim import Simulator
from arithmetics import StagedArithmetic
from words import beats, wrap

from pearray import PearrayError
from pearray.hdl.arithmetic.fixed_point import FixedPointArithmetic
from pearray.hdl.arithmetic.integer import IntegerArithmetic
from pearray.hdl.row_stationary.pe import RowStationaryPE

LANES = 4
DEEP = StagedArithmetic(8, product_latency=3, add_latency=1)
EVENTS = ("mac", "gated", "passed", "ifmap_write", "filter_write")


class Pass:
    """Random pass of a PE, with its words and the sums that it makes."""

    def __init__(self, rng, ifmap_words, filter_words, word_bits):
        self.taps = int(rng.integers(1, ifmap_words + 1))
        self.channels = int(rng.integers(1, ifmap_words // self.taps + 1))
        self.stride = int(rng.integers(1, self.taps + 1))
        self.filters = int(rng.integers(1, min(9, filter_words // (self.taps * self.channels)) + 1))
        self.windows = int(rng.integers(1, 7))
        self.rows = int(rng.integers(1, 4))
        self.fresh = int(rng.integers(0, 2))
        low, high = -(1 << word_bits - 1), 1 << word_bits - 1
        columns = (self.windows - 1) * self.stride + self.taps
        self.ifmap = rng.integers(low, high, (self.rows, columns, self.channels))
        self.ifmap *= rng.random(self.ifmap.shape) < 0.6
        self.weights = rng.integers(low, high, (self.filters, self.taps, self.channels))
        self.weights *= rng.random(self.weights.shape) < 0.8

    def shape(self):
        """Fields of the pass as the PE takes them."""
        return {"window": self.taps * self.channels - 1, "kept": (self.taps - self.stride) * self.channels,
                "moved": self.stride * self.channels, "filters": self.filters - 1, "windows": self.windows - 1,
                "rows": self.rows - 1, "fresh": self.fresh}

    def products(self):
        """Products of each row, window and filter: (rows, windows, filters, words)."""
        windows = self.windows_of(self.ifmap)[:, :, None]
        return (windows * self.weights).reshape(self.rows, self.windows, self.filters, -1)

    def windows_of(self, ifmap):
        """Windows of each row: (rows, windows, taps, channels)."""
        starts = range(0, self.windows * self.stride, self.stride)
        return np.stack([ifmap[:, start:start + self.taps] for start in starts], axis=1)


async def put(ctx, port, items, rng, stall):
    """Offer items to a stream, with idle cycles in between."""
    for item in items:
        while rng.random() < stall:
            await ctx.tick()
        ctx.set(port.payload, item)
        ctx.set(port.valid, 1)
        await ctx.tick().until(port.ready)
        ctx.set(port.valid, 0)


def drive(dut, streams, sinks, static, rng, stall, limit=200_000):
    """Feed streams, take what sinks want, and return it with the cycles and events seen."""
    got = {name: [] for name in sinks}
    seen = dict.fromkeys((*EVENTS, "cycles"), 0)

    def source(name, items):
        async def process(ctx):
            await put(ctx, getattr(dut, name), items, rng, stall)
        return process

    def sink(name, count):
        async def process(ctx):
            port = getattr(dut, name)
            while len(got[name]) < count:
                ctx.set(port.ready, int(rng.random() >= stall))
                *_, valid, ready, payload = await ctx.tick().sample(port.valid, port.ready, port.payload)
                if valid and ready:
                    got[name].append(payload)
            ctx.set(port.ready, 0)
        return process

    async def watch(ctx):
        for name, value in static.items():
            ctx.set(getattr(dut, name), value)
        while any(len(got[name]) < count for name, count in sinks.items()):
            *_, events = await ctx.tick().sample(dut.events)
            for name in EVENTS:
                seen[name] += events[name]
            seen["cycles"] += 1
            assert seen["cycles"] < limit, f"stuck with {({name: len(items) for name, items in got.items()})} taken"

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(watch)
    for name, items in streams.items():
        simulator.add_testbench(source(name, list(items)), background=True)
    for name, count in sinks.items():
        simulator.add_testbench(sink(name, count), background=True)
    simulator.run()
    return got, seen


@pytest.mark.parametrize(("arithmetic", "maximum", "bottom", "top", "stall"), [
    (FixedPointArithmetic(16), 0, 0, 0, 0.0), (FixedPointArithmetic(16), 0, 1, 0, 0.5),
    (IntegerArithmetic(8), 0, 0, 1, 0.5), (IntegerArithmetic(8), 0, 1, 1, 0.0),
    (FixedPointArithmetic(16), 1, 0, 1, 0.3), (IntegerArithmetic(8), 1, 1, 0, 0.2), (DEEP, 0, 0, 1, 0.3),
    (DEEP, 1, 1, 0, 0.0)])
def test_passes(rng, arithmetic, maximum, bottom, top, stall):
    """If it failed, a PE would lose, repeat or mix up words when passes of any shape follow one another."""
    dut = RowStationaryPE(arithmetic, 12, 40, 5, LANES, LANES, int(rng.choice([0, 2, 16])))
    truncate, word_bits, psum_bits = isinstance(arithmetic, FixedPointArithmetic), arithmetic.word.width, 32
    psum_bits = 16 if truncate else psum_bits
    shift = int(rng.integers(0, 17)) if truncate else 0
    passes = [Pass(rng, 12, 40, word_bits) for _ in range(4)]
    streams = {"shape": [p.shape() for p in passes], "ifmap": [], "filters": [], "psums": [], "below": []}
    expected = []
    for item in passes:
        streams["ifmap"] += [int(word) for word in item.ifmap.reshape(-1)]
        streams["filters"] += beats(item.weights.reshape(-1), LANES)
        products = item.products()
        parts = wrap(products >> shift, psum_bits) if truncate else products
        least = -(1 << psum_bits - 1)
        alone = bottom and item.fresh
        start = rng.integers(least, -least, parts.shape[:3]) * (not alone)
        if maximum:
            counts = (item.weights != 0).reshape(item.filters, -1)
            sums = np.where(counts, parts, least).max(axis=3)
            expected.append(sums if alone else np.maximum(sums, start))
        else:
            expected.append(wrap(parts.sum(axis=3) + start, psum_bits))
        for row in start.reshape(-1, item.filters):
            if bottom and not alone:
                streams["psums"] += beats(row, LANES)
            elif not bottom:
                streams["below"] += [int(word) for word in row]
    words = [[int(word) for word in window] for sums in expected for window in sums.reshape(-1, sums.shape[-1])]
    count = sum(-(-len(row) // LANES) if top else len(row) for row in words)
    lines = {"bottom": bottom, "top": top, "shift": shift, "maximum": maximum}
    got, seen = drive(dut, streams, {"out" if top else "above": count}, lines, rng, stall)
    if top:
        taken = [[int(word) for word in beat["words"]][:beat["last"] + 1] for beat in got["out"]]
        wanted = [row[start:start + LANES] for row in words for start in range(0, len(row), LANES)]
    else:
        taken, wanted = got["above"], [word for row in words for word in row]
    assert taken == wanted
    products = sum(item.products().size for item in passes)
    used = sum(np.count_nonzero(item.windows_of(item.ifmap)) * item.filters for item in passes)
    assert seen["mac"] == (products if maximum else used)
    assert seen["mac"] + seen["gated"] == products
    assert seen["ifmap_write"] == sum(item.ifmap.size for item in passes)
    assert seen["filter_write"] == sum(item.weights.size for item in passes)
    assert seen["passed"] == (0 if top else count)


def test_rate(rng):
    """If it failed, a PE that never waits would do less than a product a cycle, over passes too."""
    dut = RowStationaryPE(IntegerArithmetic(8), 12, 224, 24, LANES, LANES)
    item = Pass(rng, 12, 224, 9)
    item.taps, item.channels, item.stride, item.filters, item.windows, item.rows = 3, 4, 1, 8, 6, 2
    item.ifmap = rng.integers(1, 9, (2, 8, 4))
    item.weights = rng.integers(1, 9, (8, 3, 4))
    item.fresh = 1
    times = 3
    streams = {"shape": [item.shape()] * times, "ifmap": [int(word) for word in item.ifmap.reshape(-1)] * times,
               "filters": list(beats(item.weights.reshape(-1), LANES)) * times}
    count = times * item.products().size // 12
    got, seen = drive(dut, streams, {"above": count}, {"bottom": 1}, rng, 0.0)
    assert got["above"] == [int(word) for word in item.products().sum(axis=3).reshape(-1)] * times
    products = times * item.products().size
    # The first window comes word by word; then nothing waits.
    assert products <= seen["cycles"] <= products + 30


@pytest.mark.parametrize("queue", [2, 16])
def test_filters_ahead(rng, queue):
    """If it failed, the queue of a PE would not hold as many beats of the next pass as it has places."""
    def taken(queue):
        dut, count = RowStationaryPE(IntegerArithmetic(8), 12, 40, 5, LANES, LANES, queue), 0

        async def feed(ctx):
            nonlocal count
            ctx.set(dut.filters.payload, next(iter(beats(rng.integers(1, 9, LANES), LANES))))
            ctx.set(dut.filters.valid, 1)
            for _ in range(200):
                *_, ready = await ctx.tick().sample(dut.filters.ready)
                count += ready

        simulator = Simulator(dut)
        simulator.add_clock(1e-6)
        simulator.add_testbench(feed)
        simulator.run()
        return count

    assert taken(queue) == taken(0) + queue


def test_slow_sums_are_refused():
    """If it failed, a PE would add to sums that its adder has not finished."""
    with pytest.raises(PearrayError, match=r"^add_latency must be 1 for a row-stationary array, .* not 3$"):
        RowStationaryPE(StagedArithmetic(8, add_latency=3), 12, 40, 5, 4, 4)
