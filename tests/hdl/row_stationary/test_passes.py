# amaranth: UnusedElaboratable=no
"""Pass engine with its buffers: whole small convolutions, pass by pass, against sums written out."""

import numpy as np
import pytest
from amaranth.hdl import Const, Module
from amaranth.lib import wiring
from amaranth.sim import Simulator

from pearray import PearrayError
from pearray.hdl.row_stationary.buffer import GlobalBuffer
from pearray.hdl.row_stationary.passes import PassEngine
from pearray.hdl.row_stationary.row import ArrayShape, tag_bits

WIDTH = 64


class Layer:
    """Convolution that fits the buffers, with a random mapping, as commands and the contents of buffers."""

    def __init__(self, rng, rows, cols, bits, psum_bits):
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

    def expected(self):
        """Sums (n, filter, row, column)."""
        x, w = self.x - self.zero_points[0], self.w - self.zero_points[1]
        result = np.zeros((self.n, self.filters, self.e, self.f), np.int64)
        for j in range(self.e):
            for f in range(self.f):
                window = x[:, self.stride * j:self.stride * j + self.height,
                           self.stride * f:self.stride * f + self.taps].transpose(0, 3, 1, 2)
                products = window[:, None] * w[None]
                if self.bits == 16:
                    products = wrap(products >> self.shift, 16)
                result[:, :, j, f] = products.sum(axis=(2, 3, 4))
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

    def commands(self, ifmap_base, psum_base, filter_base):
        """Setup and passes; returns them with the lines of filters."""
        commands = [{"setup": 1, "shift": self.shift, "filter_base": 0, "ifmap_unsigned": 1, "filter_unsigned": 1,
                     "ifmap_zero_point": self.zero_points[0], "filter_zero_point": self.zero_points[1]}]
        filters = []
        window, beats = self.taps * self.q, -(-self.p // self.psum_lanes)
        filter_beats = -(-self.p * window // self.lanes)
        steps = {"psum_window_step": beats, "psum_image_step": beats * self.f,
                 "psum_row_step": beats * self.f * self.n, "psum_set_step": beats * self.f * self.n * self.e}
        block_lines = steps["psum_set_step"] * self.t
        for block in range(self.blocks):
            for part in range(self.parts):
                psums = psum_base + block * block_lines
                commands.append({
                    "fresh": int(part == 0), "window": window - 1, "kept": window - self.stride * self.q,
                    "moved": self.stride * self.q, "filters": self.p - 1, "windows": self.f - 1, "rows": self.n - 1,
                    "ifmap_base": ifmap_base + part * self.q * self.r, "ifmap_channels": self.q - 1,
                    "ifmap_lines": self.lines - 1, "ifmap_line_step": self.columns * self.channels,
                    "ifmap_sets": self.r - 1, "ifmap_set_step": self.q, "ifmap_columns": self.columns - 1,
                    "ifmap_column_step": self.channels, "ifmap_row_step": self.lines * self.columns * self.channels,
                    "filter_base": filter_base + len(filters), "filter_height": self.height - 1,
                    "filter_sets": self.t * self.r - 1, "filter_beats": filter_beats - 1,
                    "filter_last": (self.p * window - 1) % self.lanes,
                    "psum_read": psums, "psum_write": psums, "psum_sets": self.t - 1, "psum_rows": self.e - 1,
                    "psum_beats": beats - 1, "psum_last": (self.p - 1) % self.psum_lanes} | steps)
                w = self.w.reshape(self.blocks, self.t, self.p, self.parts, self.r, self.q, self.height, self.taps)
                # Set and filter row, then the words of a PE: filter, column, channel.
                words = w[block, :, :, part].transpose(0, 2, 4, 1, 5, 3).reshape(
                    self.t * self.r, self.height, self.p * window)
                words = np.pad(words, ((0, 0), (0, 0), (0, filter_beats * self.lanes - words.shape[2])))
                beats_of = words.reshape(self.t * self.r, self.height, filter_beats, self.lanes)
                filters += pack(beats_of.transpose(2, 0, 1, 3).reshape(-1, self.lanes), self.bits)
        return commands, filters

    def psum_lines(self):
        """Lines that the sums take."""
        return self.blocks * self.t * self.e * self.n * self.f * -(-self.p // self.psum_lanes)

    def find(self, lines):
        """Sums (n, filter, row, column) from their lines."""
        beats = -(-self.p // self.psum_lanes)
        words = [line >> self.psum_bits * lane & (1 << self.psum_bits) - 1
                 for line in lines for lane in range(self.psum_lanes)]
        shape = self.blocks, self.t, self.e, self.n, self.f, beats * self.psum_lanes
        sums = wrap(np.array(words, np.int64).reshape(shape), self.psum_bits)[..., :self.p]
        return sums.transpose(3, 0, 1, 5, 2, 4).reshape(self.n, self.filters, self.e, self.f)


def wrap(values, bits):
    """Reduce to signed words of a number of bits."""
    return (values + (1 << bits - 1) & (1 << bits) - 1) - (1 << bits - 1)


def pack(rows, bits):
    """Lines of words, the first one in the lowest bits."""
    return [sum((int(word) & (1 << bits) - 1) << bits * lane for lane, word in enumerate(row)) for row in rows]


async def fill(ctx, port, start, lines):
    """Write lines to a buffer."""
    ctx.set(port.valid, 1)
    for index, line in enumerate(lines):
        ctx.set(port.payload, {"address": start + index, "data": line, "mask": (1 << WIDTH // 8) - 1})
        await ctx.tick()
    ctx.set(port.valid, 0)


@pytest.mark.parametrize(("rows", "cols", "bits", "word_bits", "psum_bits"), [
    (2, 3, 16, 16, 16), (4, 2, 8, 9, 32), (1, 1, 8, 9, 32), (3, 3, 16, 16, 16)])
def test_layers(rng, rows, cols, bits, word_bits, psum_bits):
    """If it failed, sums over channels, filters, images or passes would be read, added or written wrong."""
    row_tag, col_tag = tag_bits(rows, cols)
    shape = ArrayShape(rows=rows, cols=cols, word_bits=word_bits, psum_bits=psum_bits, ifmap_words=12, filter_words=40,
                       psum_words=6, filter_lanes=WIDTH // bits, psum_lanes=WIDTH // psum_bits, truncate=bits == 16,
                       row_tag_bits=row_tag, col_tag_bits=col_tag)
    banks, bank_lines, filter_lines = 5, 256, 512
    m = Module()
    m.submodules.engine = engine = PassEngine(shape, bits, banks * bank_lines, filter_lines)
    m.submodules.buffer = buffer = GlobalBuffer(banks, bank_lines, WIDTH, 3, 2)
    m.submodules.filters = filters = GlobalBuffer(1, filter_lines, WIDTH, 2, 1)
    wiring.connect(m, engine.psums, buffer.read[0])
    wiring.connect(m, engine.ifmap, buffer.read[1])
    wiring.connect(m, engine.result, buffer.write[1])
    wiring.connect(m, engine.filters, filters.read[0])
    wiring.connect(m, engine.setups, filters.read[1])
    layers = [Layer(rng, rows, cols, bits, psum_bits) for _ in range(2)]
    counts = dict.fromkeys(("ifmap_read", "filter_read", "psum_read", "psum_write"), 0)
    psum_base = 2 * bank_lines

    async def testbench(ctx):
        for layer in layers:
            words = np.append(layer.x.reshape(-1), np.zeros(-layer.x.size % layer.lanes, np.int64))
            await fill(ctx, buffer.write[0], 0, pack(words.reshape(-1, layer.lanes), bits))
            setup = layer.setup_lines(shape)
            commands, lines = layer.commands(0, psum_base, len(setup))
            assert words.size // layer.lanes <= psum_base
            assert len(setup) + len(lines) <= filter_lines
            await fill(ctx, filters.write[0], 0, setup + lines)
            left, done, cycles = commands[::-1], 0, 0
            while done < len(commands):
                if left and not ctx.get(engine.commands.valid):
                    ctx.set(engine.commands.payload, left.pop())
                    ctx.set(engine.commands.valid, 1)
                *_, ready, one, events = await ctx.tick().sample(engine.commands.ready, engine.done, engine.events)
                if ready:
                    ctx.set(engine.commands.valid, 0)
                done += one
                cycles += 1
                for name in counts:
                    counts[name] += events[name]
                assert cycles < 50_000, f"stuck after {done} of {len(commands)} commands"
            port, result = buffer.read[2], []
            ctx.set(port.address.valid, 1)
            for line in range(layer.psum_lines() + port.signature.LATENCY):
                ctx.set(port.address.payload, psum_base + line)
                *_, value = await ctx.tick().sample(port.line)
                result.append(value)
            ctx.set(port.address.valid, 0)
            np.testing.assert_array_equal(layer.find(result[port.signature.LATENCY:]), layer.expected())

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    passes = [layer.blocks * layer.parts for layer in layers]
    beats = [layer.t * layer.e * layer.n * layer.f * -(-layer.p // layer.psum_lanes) for layer in layers]
    assert counts["psum_write"] == sum(a * b for a, b in zip(passes, beats, strict=True))
    assert counts["psum_read"] == sum(b * layer.blocks * (layer.parts - 1)
                                      for b, layer in zip(beats, layers, strict=True))
    assert counts["ifmap_read"] == sum(layer.x.size * layer.blocks for layer in layers)


def test_wrong_widths_are_named():
    """If it failed, lines of filters would be cut or padded between buffer and array."""
    shape = ArrayShape(rows=1, cols=1, word_bits=9, psum_bits=32, ifmap_words=12, filter_words=40, psum_words=6,
                       filter_lanes=4, psum_lanes=2, truncate=False, row_tag_bits=1, col_tag_bits=1)
    with pytest.raises(PearrayError, match=r"^filter_lanes \* operand_bits must be .* = 64, not 4 \* 8$"):
        PassEngine(shape, 8, 64, 64)
