# amaranth: UnusedElaboratable=no
"""Row-stationary array: passes of random mappings under random stalls, against sums written out."""

import numpy as np
import pytest
from amaranth.hdl import Cat
from amaranth.sim import Simulator
from words import beats, wrap

from pearray import PearrayError
from pearray.hdl.arithmetic.fixed_point import FixedPointArithmetic
from pearray.hdl.arithmetic.integer import IntegerArithmetic
from pearray.hdl.row_stationary.array import RowStationaryArray
from pearray.hdl.row_stationary.row import ArrayShape, tag_bits

LANES = 4


def array_shape(rows, cols, word_bits=16, psum_bits=16):
    row_tag, col_tag = tag_bits(rows, cols)
    arithmetic = FixedPointArithmetic(16) if word_bits == 16 else IntegerArithmetic(8)
    assert (arithmetic.word.width, arithmetic.accumulator.width) == (word_bits, psum_bits)
    return ArrayShape(rows=rows, cols=cols, arithmetic=arithmetic, ifmap_words=12, filter_words=40, psum_words=5,
                      filter_lanes=LANES, psum_lanes=LANES, row_tag_bits=row_tag, col_tag_bits=col_tag)


class Mapped:
    """Passes of one layer on an array: sets placed in columns from the left, chains upwards."""

    def __init__(self, rng, rows, cols, word_bits, psum_bits):
        self.height = int(rng.integers(1, rows + 1))
        self.e = int(rng.integers(1, cols + 1))
        self.r = int(rng.integers(1, rows // self.height + 1))
        self.t = int(rng.integers(1, (rows // (self.height * self.r)) * (cols // self.e) + 1))
        self.width = int(rng.integers(1, 5))
        self.q = int(rng.integers(1, 12 // self.width + 1))
        self.stride = int(rng.integers(1, self.width + 1))
        self.p = int(rng.integers(1, min(5, 40 // (self.width * self.q)) + 1))
        self.f = int(rng.integers(1, 5))
        self.n = int(rng.integers(1, 3))
        self.bits = word_bits, psum_bits
        self.shift = int(rng.integers(0, 2 * word_bits - psum_bits + 1)) if word_bits == psum_bits else 0
        low, high = -(1 << word_bits - 1), 1 << word_bits - 1
        self.lines = self.stride * (self.e - 1) + self.height
        columns = self.stride * (self.f - 1) + self.width
        self.passes = []
        for _ in range(3):
            ifmap = rng.integers(low, high, (self.n, self.r, self.lines, columns, self.q))
            ifmap *= rng.random(ifmap.shape) < 0.5
            weights = rng.integers(low, high, (self.t, self.p, self.r, self.height, self.width, self.q))
            psums = rng.integers(-(1 << psum_bits - 1), 1 << psum_bits - 1, (self.t, self.e, self.n, self.f, self.p))
            self.passes.append((int(rng.integers(0, 2)), ifmap, weights, psums))

    def setups(self, rows, cols):
        """Setups of all PEs, row by row."""
        idle = {"active": 0, "bottom": 0, "top": 0}
        grid = [[dict(idle) for _ in range(cols)] for _ in range(rows)]
        beside = cols // self.e
        for t in range(self.t):
            above, left = t // beside * self.height * self.r, t % beside * self.e
            for r in range(self.r):
                for i in range(self.height):
                    for j in range(self.e):
                        grid[above + r * self.height + i][left + j] = {
                            "active": 1, "top": int(r == i == 0),
                            "bottom": int(r == self.r - 1 and i == self.height - 1),
                            "ifmap": {"row": r, "col": self.stride * j + i},
                            "filters": {"row": t * self.r + r, "col": i},
                            "psums": {"row": t, "col": j}}
        return [setup for row in grid for setup in row]

    def streams(self):
        """Data on each network, with their tags."""
        result = {"shapes": [], "ifmap": [], "filters": [], "psums": [], "wants": []}
        window = self.width * self.q
        for fresh, ifmap, weights, psums in self.passes:
            result["shapes"].append({"data": {
                "window": window - 1, "kept": window - self.stride * self.q, "moved": self.stride * self.q,
                "filters": self.p - 1, "windows": self.f - 1, "rows": self.n - 1, "fresh": fresh}})
            for n in range(self.n):
                for column in range(ifmap.shape[3]):
                    for r in range(self.r):
                        for line in range(self.lines):
                            for word in ifmap[n, r, line, column]:
                                result["ifmap"].append({"tag": {"row": r, "col": line}, "data": int(word)})
            for t in range(self.t):
                for r in range(self.r):
                    for i in range(self.height):
                        words = weights[t, :, r, i].reshape(-1)
                        result["filters"] += [{"tag": {"row": t * self.r + r, "col": i}, "data": beat}
                                              for beat in beats(words, LANES)]
            for tag, at in self.order():
                result["wants"].append(tag)
                if not fresh:
                    result["psums"].append({"tag": tag, "data": next(beats(psums[at], LANES))})
        return result

    def order(self):
        """Tags of the beats of sums of a pass, in the order in which they move, and where their sums stand."""
        for n in range(self.n):
            for f in range(self.f):
                for start in range(0, self.p, LANES):
                    for t in range(self.t):
                        for j in range(self.e):
                            yield {"row": t, "col": j}, (t, j, n, f, slice(start, min(start + LANES, self.p)))

    def expected(self):
        """Beats that leave, as lists of sums."""
        word_bits, psum_bits = self.bits
        result = []
        for fresh, ifmap, weights, psums in self.passes:
            sums = np.zeros_like(psums) if fresh else psums.copy()
            for j in range(self.e):
                for f in range(self.f):
                    lines = ifmap[:, :, self.stride * j:self.stride * j + self.height]
                    window = lines[:, :, :, self.stride * f:self.stride * f + self.width]
                    products = window[:, None, None] * weights[None]
                    if word_bits == psum_bits:
                        products = wrap(products >> self.shift, psum_bits)
                    sums[:, j, :, f] += products.sum(axis=(3, 4, 5, 6)).transpose(1, 0, 2)
            sums = wrap(sums, psum_bits)
            result += [sums[at].tolist() for _, at in self.order()]
        return result


def run(dut, layers, rng, stall):
    """Set the array up for each layer, run its passes, and return the beats that left and the products counted."""
    taken, counted = [], {"mac": 0, "gated": 0}
    arrived = {}

    async def testbench(ctx):
        for setups, streams, shift, count in layers:
            ctx.set(dut.shift, shift)
            ctx.set(dut.setup.valid, 1)
            for setup in reversed(setups):
                ctx.set(dut.setup.payload, setup)
                await ctx.tick()
            ctx.set(dut.setup.valid, 0)
            ports = {name: getattr(dut, name) for name in streams}
            left = {name: list(items)[::-1] for name, items in streams.items()}
            start, waited = len(taken), 0
            while len(taken) < start + count:
                for name, port in ports.items():
                    # What is offered once stays until it is taken.
                    if left[name] and not ctx.get(port.valid) and rng.random() >= stall:
                        ctx.set(port.payload, left[name].pop())
                        ctx.set(port.valid, 1)
                ctx.set(dut.out.ready, int(rng.random() >= stall))
                values = [value for port in ports.values() for value in (port.valid, port.ready)]
                *_, valid, ready, beat, events, values = await ctx.tick().sample(
                    dut.out.valid, dut.out.ready, dut.out.payload, dut.events, Cat(*values))
                for index, (name, port) in enumerate(ports.items()):
                    if values >> 2 * index & 3 == 3:
                        ctx.set(port.valid, 0)
                        arrived[name] = arrived.get(name, 0) + 1
                if valid and ready:
                    taken.append([int(word) for word in beat["words"]][:beat["last"] + 1])
                for name in counted:
                    counted[name] += events[name]
                waited += 1
                assert waited < 100_000, f"stuck after {arrived}"
            ctx.set(dut.out.ready, 0)
            for _ in range(4):
                *_, idle, events = await ctx.tick().sample(dut.idle, dut.events)
                for name in counted:
                    counted[name] += events[name]
            assert idle
            assert not any(left.values())

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    return taken, counted


@pytest.mark.parametrize(("rows", "cols", "bits", "stall"), [
    (1, 1, (16, 16), 0.4), (3, 2, (9, 32), 0.0), (2, 5, (16, 16), 0.0), (4, 4, (9, 32), 0.4)])
def test_mappings(rng, rows, cols, bits, stall):
    """If it failed, some mapping would send words to wrong PEs, chain wrong PEs, or lock up between passes."""
    dut = RowStationaryArray(array_shape(rows, cols, *bits))
    layers = [Mapped(rng, rows, cols, *bits) for _ in range(3)]
    wanted = [layer.expected() for layer in layers]
    runs = [(layer.setups(rows, cols), layer.streams(), layer.shift, len(beats)) for layer, beats in
            zip(layers, wanted, strict=True)]
    taken, counted = run(dut, runs, rng, stall)
    assert taken == [beat for beats in wanted for beat in beats]
    products = sum(layer.height * layer.e * layer.r * layer.t * layer.n * layer.f * layer.p * layer.width * layer.q
                   for layer in layers) * 3
    assert counted["mac"] + counted["gated"] == products


def test_wrong_shape_is_named():
    """If it failed, an array without PEs would be made."""
    with pytest.raises(PearrayError, match=r"^cols must be an integer of at least 1, not 0$"):
        ArrayShape(**vars(array_shape(2, 2)) | {"cols": 0})
