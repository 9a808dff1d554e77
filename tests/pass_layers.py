"""Random layers for the row-stationary array: operands, commands, lines of buffers, and sums written out."""

import numpy as np
from amaranth.hdl import Const
from words import pack, unpack, wrap

__all__ = ["WIDTH", "Layer"]

#: Bits of a line of the buffers.
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
