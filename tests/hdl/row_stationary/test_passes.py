# amaranth: UnusedElaboratable=no
"""Pass engine with its buffers: whole small convolutions, pass by pass, against sums written out."""

import numpy as np
import pytest
from amaranth.hdl import Const, Module
from amaranth.lib import data, wiring
from amaranth.sim import Simulator
from words import pack, unpack, wrap

from pearray import PearrayError
from pearray.hdl.row_stationary.buffer import GlobalBuffer
from pearray.hdl.row_stationary.passes import PassEngine
from pearray.hdl.row_stationary.row import ArrayShape, tag_bits

WIDTH = 64


class Layer:
    """Convolution that fits the buffers, with a random mapping, as commands and the contents of buffers."""

    def __init__(self, rng, rows, cols, bits, psum_bits, maximum):
        self.rows, self.cols, self.bits, self.psum_bits = rows, cols, bits, psum_bits
        self.lanes, self.psum_lanes = WIDTH // bits, WIDTH // psum_bits
        self.height = int(rng.integers(1, rows + 1))
        self.e = int(rng.integers(1, cols + 1))
        self.r = int(rng.integers(1, rows // self.height + 1))
        self.t = int(rng.integers(1, (rows // (self.height * self.r)) * (cols // self.e) + 1))
        self.taps = int(rng.integers(1, 4))
        self.q = int(rng.integers(1, 12 // self.taps + 1))
        self.p = int(rng.integers(1, min(4, 40 // (self.taps * self.q)) + 1))
        self.stride = int(rng.integers(1, self.taps + 1))
        self.n, self.f = int(rng.integers(1, 3)), int(rng.integers(1, 4))
        self.blocks, self.parts = int(rng.integers(1, 3)), int(rng.integers(1, 3))
        self.channels, self.filters = self.q * self.r * self.parts, self.p * self.t * self.blocks
        low, high = (0, 1 << bits) if bits == 8 else (-(1 << bits - 1), 1 << bits - 1)
        self.lines = self.stride * (self.e - 1) + self.height
        self.columns = self.stride * (self.f - 1) + self.taps
        # Words stand in the buffer by image, line, column and channel.
        self.x = rng.integers(low, high, (self.n, self.lines, self.columns, self.channels))
        self.w = rng.integers(low, high, (self.filters, self.channels, self.height, self.taps))
        self.zero_points = [int(rng.integers(low, high)) if bits == 8 else 0 for _ in range(2)]
        self.shift = int(rng.integers(0, 17)) if bits == 16 else 0
        self.maximum = maximum
        self.w[rng.random(self.w.shape) < 0.3] = self.zero_points[1]
        least = -(1 << psum_bits - 1)
        # Sums begin with those of a line of biases, or with none.
        self.bias = [int(rng.integers(0, 2)) for _ in range(self.blocks)]
        self.biases = rng.integers(least, -least, self.filters).reshape(self.blocks, -1)
        self.beats = -(-self.p // self.psum_lanes)

    def expected(self):
        """Sums (n, filter, row, column)."""
        x, w = self.x - self.zero_points[0], self.w - self.zero_points[1]
        least = -(1 << self.psum_bits - 1)
        start = np.where(np.array(self.bias)[:, None], self.biases, least if self.maximum else 0).reshape(-1)
        result = np.zeros((self.n, self.filters, self.e, self.f), np.int64) + start[:, None, None]
        for j in range(self.e):
            for f in range(self.f):
                window = x[:, self.stride * j:self.stride * j + self.height,
                           self.stride * f:self.stride * f + self.taps].transpose(0, 3, 1, 2)
                products = window[:, None] * w[None]
                if self.bits == 16:
                    products = wrap(products >> self.shift, 16)
                if self.maximum:
                    largest = np.where(w, products, least).max(axis=(2, 3, 4))
                    result[:, :, j, f] = np.maximum(result[:, :, j, f], largest)
                else:
                    result[:, :, j, f] += products.sum(axis=(2, 3, 4))
        return wrap(result, self.psum_bits)

    def setup_lines(self, shape):
        """Lines of the filter buffer that set the array up."""
        grid = [[{} for _ in range(self.cols)] for _ in range(self.rows)]
        beside = self.cols // self.e
        for t in range(self.t):
            for r in range(self.r):
                for i in range(self.height):
                    for j in range(self.e):
                        row = (t // beside * self.r + r) * self.height + i
                        grid[row][t % beside * self.e + j] = {
                            "active": 1, "top": int(r == i == 0),
                            "bottom": int(r == self.r - 1 and i == self.height - 1),
                            "ifmap": {"row": r, "col": self.stride * j + i},
                            "filters": {"row": t * self.r + r, "col": i}, "psums": {"row": t, "col": j}}
        setups = [Const.cast(shape.setup.const(setup)).value for row in grid for setup in row]
        parts = -(-Const.cast(shape.setup.const({})).shape().width // WIDTH)
        return [setup >> WIDTH * part & (1 << WIDTH) - 1 for setup in reversed(setups) for part in range(parts)]

    def commands(self, ifmap_base, psum_base, bias_base, filter_base):
        """Setup and passes; returns them with the lines of filters."""
        commands = [{"setup": 1, "shift": self.shift, "maximum": self.maximum, "filter_base": 0,
                     "ifmap_unsigned": 1, "ifmap_zero_point": self.zero_points[0],
                     "filter_unsigned": 1, "filter_zero_point": self.zero_points[1]}]
        filters = []
        window = self.taps * self.q
        filter_beats = -(-self.p * window // self.lanes)
        # Lines of sums stand by image, row, window, block, set and beat.
        pixel = self.blocks * self.t * self.beats
        steps = {"psum_window_step": pixel, "psum_row_step": self.f * pixel, "psum_image_step": self.e * self.f * pixel,
                 "psum_set_step": self.beats}
        for block in range(self.blocks):
            for part in range(self.parts):
                offset = block * self.t * self.beats
                bias = self.bias[block] and part == 0
                commands.append({
                    "fresh": int(part == 0 and not bias), "bias": int(bias), "window": window - 1,
                    "kept": window - self.stride * self.q, "moved": self.stride * self.q,
                    "filters": self.p - 1, "windows": self.f - 1, "rows": self.n - 1,
                    "ifmap_base": ifmap_base + part * self.q * self.r, "ifmap_channels": self.q - 1,
                    "ifmap_lines": self.lines - 1, "ifmap_line_step": self.columns * self.channels,
                    "ifmap_sets": self.r - 1, "ifmap_set_step": self.q, "ifmap_columns": self.columns - 1,
                    "ifmap_column_step": self.channels, "ifmap_row_step": self.lines * self.columns * self.channels,
                    "filter_base": filter_base + len(filters), "filter_height": self.height - 1,
                    "filter_sets": self.t * self.r - 1, "filter_beats": filter_beats - 1,
                    "filter_last": (self.p * window - 1) % self.lanes,
                    "psum_read": (bias_base if bias else psum_base) + offset, "psum_write": psum_base + offset,
                    "psum_sets": self.t - 1, "psum_rows": self.e - 1, "psum_beats": self.beats - 1,
                    "psum_last": (self.p - 1) % self.psum_lanes} | steps)
                w = self.w.reshape(self.blocks, self.t, self.p, self.parts, self.r, self.q, self.height, self.taps)
                # Set and filter row, then the words of a PE: filter, column, channel.
                words = w[block, :, :, part].transpose(0, 2, 4, 1, 5, 3).reshape(
                    self.t * self.r, self.height, self.p * window)
                words = np.pad(words, ((0, 0), (0, 0), (0, filter_beats * self.lanes - words.shape[2])))
                beats_of = words.reshape(self.t * self.r, self.height, filter_beats, self.lanes)
                filters += pack(beats_of.transpose(2, 0, 1, 3).reshape(-1, self.lanes), self.bits)
        return commands, filters

    def bias_lines(self):
        """Lines of biases, of all blocks."""
        words = self.biases.reshape(self.blocks * self.t, self.p)
        words = np.pad(words, ((0, 0), (0, self.beats * self.psum_lanes - self.p)))
        return pack(words.reshape(-1, self.psum_lanes), self.psum_bits)

    def psum_lines(self):
        """Lines that the sums take."""
        return self.blocks * self.t * self.e * self.n * self.f * self.beats

    def find(self, lines):
        """Sums (n, filter, row, column) from their lines."""
        shape = self.n, self.e, self.f, self.blocks, self.t, self.beats * self.psum_lanes
        sums = unpack(lines, self.psum_bits, self.psum_lanes).reshape(shape)[..., :self.p]
        return sums.transpose(0, 3, 4, 5, 1, 2).reshape(self.n, self.filters, self.e, self.f)

    def counts(self):
        """Words and lines that all passes move, by event; and products, used or gated."""
        passes, fresh = self.blocks * self.parts, self.bias.count(0)
        sums = self.t * self.p * self.n * self.e * self.f
        pes = self.t * self.r * self.height * self.e
        window = self.taps * self.q
        filter_beats = -(-self.p * window // self.lanes)
        return {"ifmap_read": passes * self.n * self.columns * self.r * self.lines * self.q,
                "filter_read": passes * self.t * self.r * self.height * filter_beats,
                "psum_write": passes * sums, "psum_read": (passes - fresh) * sums,
                "passed": passes * sums * (self.r * self.height - 1),
                "ifmap_write": passes * pes * self.n * self.columns * self.q,
                "filter_write": passes * pes * self.p * window,
                "products": passes * sums * self.r * self.height * window}


def engine_and_buffers(shape, bits, banks=5, bank_lines=256, filter_lines=512):
    """Pass engine between a global buffer and a filter buffer."""
    m = Module()
    m.submodules.engine = engine = PassEngine(shape, bits, banks * bank_lines, filter_lines)
    m.submodules.buffer = buffer = GlobalBuffer(banks, bank_lines, WIDTH, 3, 2)
    m.submodules.filters = filters = GlobalBuffer(1, filter_lines, WIDTH, 2, 1)
    wiring.connect(m, engine.psums, buffer.read[0])
    wiring.connect(m, engine.ifmap, buffer.read[1])
    wiring.connect(m, engine.result, buffer.write[1])
    wiring.connect(m, engine.filters, filters.read[0])
    wiring.connect(m, engine.setups, filters.read[1])
    return m, engine, buffer, filters


def array_shape(rows, cols, bits, word_bits, psum_bits):
    row_tag, col_tag = tag_bits(rows, cols)
    return ArrayShape(rows=rows, cols=cols, word_bits=word_bits, psum_bits=psum_bits, ifmap_words=12, filter_words=40,
                      psum_words=6, filter_lanes=WIDTH // bits, psum_lanes=WIDTH // psum_bits, truncate=bits == 16,
                      row_tag_bits=row_tag, col_tag_bits=col_tag)


async def fill(ctx, port, start, lines):
    """Write lines to a buffer."""
    ctx.set(port.valid, 1)
    for index, line in enumerate(lines):
        ctx.set(port.payload, {"address": start + index, "data": line, "mask": (1 << WIDTH // 8) - 1})
        await ctx.tick()
    ctx.set(port.valid, 0)


async def work(ctx, engine, commands):
    """Give commands; return the cycles in which they completed, and the counts of events when data became free."""
    left, done, cycles = commands[::-1], [], 0
    layouts = engine.events.shape(), engine.pe_events.shape()
    counts = {name: 0 for layout in layouts for name, _ in data.Layout.cast(layout)}
    free = {"filters": [], "ifmap": []}
    begun = after = 0
    while after < 4:
        if left and not ctx.get(engine.commands.valid):
            ctx.set(engine.commands.payload, left.pop())
            ctx.set(engine.commands.valid, 1)
        *_, ready, one, events, pe_events, filters_free, ifmap_free, active = await ctx.tick().sample(
            engine.commands.ready, engine.done, engine.events, engine.pe_events, engine.filters_free,
            engine.ifmap_free, engine.active)
        assert active == (begun > len(done))
        if ready and ctx.get(engine.commands.valid):
            ctx.set(engine.commands.valid, 0)
            begun += 1
        cycles += 1
        if one:
            done.append(cycles)
        for layout, values in zip(layouts, (events, pe_events), strict=True):
            for name, _ in data.Layout.cast(layout):
                counts[name] += values[name]
        if filters_free:
            free["filters"].append(counts["filter_read"])
        if ifmap_free:
            free["ifmap"].append(counts["ifmap_read"])
        assert cycles < 50_000, f"stuck after {len(done)} of {len(commands)} commands"
        after += len(done) == len(commands)
    return done, counts, free


@pytest.mark.parametrize(("rows", "cols", "bits", "word_bits", "psum_bits"), [
    (2, 3, 16, 16, 16), (4, 2, 8, 9, 32), (1, 1, 8, 9, 32), (3, 3, 16, 16, 16)])
def test_layers(rng, rows, cols, bits, word_bits, psum_bits):
    """If it failed, sums over channels, filters, images or passes would be read, added, written or counted wrong."""
    shape = array_shape(rows, cols, bits, word_bits, psum_bits)
    bank_lines = 256
    m, engine, buffer, filters = engine_and_buffers(shape, bits, bank_lines=bank_lines)
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


@pytest.mark.parametrize(("q", "p", "stride", "f"), [(3, 4, 1, 6), (4, 3, 1, 5), (2, 6, 2, 4)])
def test_rate(rng, q, p, stride, f):
    """If it failed, passes would not follow one another without gaps, or words come too late within them."""
    shape = array_shape(2, 3, 16, 16, 16)
    m, engine, _, filters = engine_and_buffers(shape, 16)
    layer = Layer(rng, 2, 3, 16, 16, 0)
    layer.height, layer.e, layer.r, layer.t, layer.n, layer.blocks, layer.parts = 2, 3, 1, 1, 2, 1, 1
    layer.taps, layer.q, layer.p, layer.stride, layer.f = 3, q, p, stride, f
    layer.channels, layer.filters, layer.beats, layer.bias = q, p, -(-p // 4), [0]
    layer.lines, layer.columns = 2 * stride + 2, stride * (f - 1) + 3
    layer.w = np.ones((p, q, 2, 3), np.int64)
    cycles = []

    async def testbench(ctx):
        setup = layer.setup_lines(shape)
        (start, item), lines = layer.commands(0, 512, 0, len(setup))
        await fill(ctx, filters.write[0], 0, setup + lines)
        passes = [item | {"fresh": int(number == 0)} for number in range(9)]
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
    shape = ArrayShape(rows=1, cols=1, word_bits=9, psum_bits=32, ifmap_words=12, filter_words=40, psum_words=6,
                       filter_lanes=4, psum_lanes=2, truncate=False, row_tag_bits=1, col_tag_bits=1)
    with pytest.raises(PearrayError, match=r"^filter_lanes \* operand_bits must be .* = 64, not 4 \* 8$"):
        PassEngine(shape, 8, 64, 64)
