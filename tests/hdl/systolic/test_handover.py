"""Array and post-processing share sums: each hands them over before it has done with them, and neither may overtake."""

from collections import deque

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from arithmetics import ARITHMETICS, with_arithmetic
from execute_model import config, draw, draw_like, execute
from slow import slow

from pearray.compiler.systolic.handover import release
from pearray.compiler.systolic.timing import Latencies
from pearray.hdl.blocks.scratchpad import Scratchpad
from pearray.hdl.post.engine import Post
from pearray.hdl.shell.commands import Rounding
from pearray.hdl.shell.config import Post as PostSection
from pearray.hdl.shell.tokens import TokenGates
from pearray.hdl.systolic.execute import Execute
from pearray.sim.pysim import simulate

KINDS = ("fold", "runs", "left", "diagonal", "outer")


def chip(arithmetic, shape, lanes, toeplitz=0):
    """Configuration of an array."""
    cfg = config(*shape, depth=64, activation_bytes=512, weight_bytes=512, toeplitz=toeplitz)
    object.__setattr__(cfg, "post", PostSection(lanes=lanes))
    return with_arithmetic(cfg, ARITHMETICS[arithmetic](8))


class Bench:
    """Both engines, and gates that let a command go as soon as the tokens of :class:`TokenGates` could.

    Every EXECUTE waits for the POST before it, or with two `banks` for the one before that, and every POST for the
    EXECUTE before it.
    """

    def __init__(self, cfg, banks=1):
        self.banks = banks
        self.config, self.module = cfg, Module()
        self.module.submodules.execute = self.execute = Execute(cfg)
        self.module.submodules.post = self.post = Post(cfg, Execute.untouched_of(cfg))
        self.pads = {}
        for name in ("activation", "weight"):
            lines = getattr(cfg.scratchpads, f"{name}_bytes") // cfg.banks // cfg.operand_bytes
            self.module.submodules[name] = pad = self.pads[name] = Scratchpad(cfg.banks, lines, 8 * cfg.operand_bytes)
            wiring.connect(self.module, getattr(self.execute, name), pad.read)
        wiring.connect(self.module, self.execute.accumulators, self.post.accumulators)
        self.outputs = np.full(cfg.scratchpads.output_bytes, -1)
        self.finished = 0

    def run(self, memories, pairs, check):
        """Run pairs of an EXECUTE and a POST of its sums; ``check(index)`` is called when a POST has completed."""
        execute, post = self.execute, self.post
        streams, tokens = (execute.commands, post.commands), (execute.done, post.released)
        queues = [deque(pair[queue] for pair in pairs) for queue in (0, 1)]

        async def drive(ctx):
            for name, pad in self.pads.items():
                ctx.set(pad.write.en, (1 << len(pad.write.en)) - 1)
                for line, values in enumerate(memories[name].reshape(-1, self.config.banks).tolist()):
                    ctx.set(pad.write.line, [line] * self.config.banks)
                    ctx.set(pad.write.data, values)
                    await ctx.tick()
                ctx.set(pad.write.en, 0)
            completed, taken, seen = [0, 0], [0, 0], deque([(0, 0)] * (TokenGates.DONE_LATENCY - 1))
            while self.finished < len(pairs):
                for queue, stream in enumerate(streams):
                    # An EXECUTE waits for as many POSTs as stand before it, a POST for one EXECUTE more.
                    wanted = taken[queue] + (1 if queue else 1 - self.banks)
                    there = taken[queue] < len(pairs) and completed[1 - queue] >= wanted
                    ctx.set(stream.valid, there)
                    ctx.set(stream.payload, queues[queue][0] if there else {})
                sampled = [stream.valid & stream.ready for stream in streams]
                _, _, *values = await ctx.tick().sample(*sampled, *tokens, post.done, post.output.en, post.output.line,
                                                        post.output.data)
                self._write(*values[5:])
                for queue in (0, 1):
                    if values[queue]:
                        taken[queue] += 1
                        queues[queue].popleft()
                seen.append((values[2], values[3]))
                completed = [count + one for count, one in zip(completed, seen.popleft(), strict=True)]
                if values[4]:
                    check(self.finished)
                    self.finished += 1

        simulate(self.module, drive)

    def _write(self, enable, line, values):
        banks = self.config.output_banks
        for bank in range(banks):
            if enable >> bank & 1:
                self.outputs[line[bank] * banks + bank] = values[bank]


def post_of(cfg, body, rng):
    """POST of the sums that an EXECUTE leaves, as far as the output holds them, and their rows in order."""
    pixels = body["m_count0"] * body["m_count1"] * body["m_count2"]
    if body["output_stationary"]:
        pixels = cfg.array.rows * cfg.arithmetic.add_latency
    row = cfg.array.cols * 4
    room = cfg.output_lines * cfg.output_banks // row
    n_count = min(body["n_count"], room)
    m_count = min(pixels, room // n_count)
    # The last row is written last, and a POST may begin with it.
    first = int(rng.choice([0, pixels - m_count]))
    fields = {"rounding": Rounding.NONE, "bank": body["bank"], "n_count": n_count, "m_count": m_count,
              "acc_base": (body["acc_base"] + first) % (1 << 16), "acc_nstep": body["acc_nstep"],
              "out_mstep": row, "out_nstep": row * m_count}
    rows = [(fields["acc_base"] + n * body["acc_nstep"] + m) % cfg.accumulators.depth
            for n in range(n_count) for m in range(m_count)]
    return fields, rows


@pytest.mark.parametrize(("arithmetic", "shape", "lanes"), [
    ("integer", (4, 4), 2), slow("integer", (8, 8), 2), slow("integer", (4, 4), 4), ("integer", (3, 6), 1),
    ("direct", (2, 2), 1), slow("slow-sum", (3, 4), 2), ("float-like", (4, 4), 4)])
def test_one_bank(rng, arithmetic, shape, lanes):
    """With all sums in one bank, a token too early reads what is not there, or writes over what is still needed."""
    cfg = chip(arithmetic, shape, lanes)
    memories = {name: rng.integers(0, 256, 512) for name in ("activation", "weight")}
    sums = np.zeros((2, cfg.accumulators.depth, cfg.array.cols), np.int64)
    pairs, expected = [], []
    for index in range(14):
        # Tiles of one pixel and POSTs of one row as well.
        body = draw(cfg, rng, str(rng.choice(KINDS)), pixels=int(rng.choice([1, 3, 48, 48])), elements=2 * shape[0])
        body |= {"bank": 0, "first": int(index < 2 or rng.random() < 0.5)}
        execute(cfg, body, memories["activation"], memories["weight"], sums)
        post, rows = post_of(cfg, body, rng)
        pairs.append((body, post))
        expected.append(sums[0, rows].astype("<i4").view(np.uint8).reshape(-1))
    bench = Bench(cfg)

    def check(index):
        np.testing.assert_array_equal(bench.outputs[:expected[index].size], expected[index], f"POST {index}")

    bench.run(memories, pairs, check)
    assert bench.finished == len(pairs)


@pytest.mark.parametrize(("arithmetic", "shape", "lanes"), [
    ("integer", (4, 4), 2), ("integer", (4, 4), 4), ("integer", (3, 6), 1), ("slow-sum", (3, 4), 2)])
def test_rows_in_flight(rng, arithmetic, shape, lanes):
    """Rows given back while others are read: a row too many is written over unread, or met on the bank's port."""
    cfg = chip(arithmetic, shape, lanes)
    memories = {name: rng.integers(0, 256, 512) for name in ("activation", "weight")}
    sums = np.zeros((2, cfg.accumulators.depth, cfg.array.cols), np.int64)
    bodies, pairs, expected, drawn = [], [], [], 0
    for index in range(12):
        # Tiles of elements or none but the first, after another of all rows or some.
        body = draw(cfg, rng, str(rng.choice(KINDS)), pixels=int(rng.choice([6, 20, 48])),
                    elements=int(rng.choice([1, 3])) * shape[0])
        bodies.append(body | {"bank": 0, "first": int(index % 4 != 3), "acc_base": int(rng.integers(0, 3))})
    for body, following in zip(bodies, bodies[1:] + bodies[:1], strict=True):
        execute(cfg, body, memories["activation"], memories["weight"], sums)
        post, rows = post_of(cfg, body, rng)
        expected.append(sums[0, rows].astype("<i4").view(np.uint8).reshape(-1))
        pairs.append((body, post | {"release": release(cfg, post, following)}))
        drawn += pairs[-1][1]["release"] > Latencies.of(cfg).few
    assert drawn > 1, "too few banks given back early"
    bench = Bench(cfg)

    def check(index):
        np.testing.assert_array_equal(bench.outputs[:expected[index].size], expected[index], f"POST {index}")

    bench.run(memories, pairs, check)
    assert bench.finished == len(pairs)


@pytest.mark.parametrize(("shape", "lanes"), [((4, 4), 2), slow((16, 4), 2), ((6, 4), 4)])
def test_two_banks(rng, shape, lanes):
    """Weights passed on to the next command at once would bring sums to a bank of which a POST still reads the last."""
    cfg = chip("integer", shape, lanes, toeplitz=1)
    memories = {name: rng.integers(0, 256, 512) for name in ("activation", "weight")}
    sums = np.zeros((2, cfg.accumulators.depth, cfg.array.cols), np.int64)
    pairs, expected, body = [], [], draw(cfg, rng, "toeplitz")
    for index in range(20):
        body = draw_like(cfg, rng, body, pixels=int(rng.choice([1, 3, 6, 32])))
        body |= {"bank": index % 2, "first": 1, "acc_base": 0, "acc_nstep": 32, "n_count": int(rng.integers(1, 3))}
        execute(cfg, body, memories["activation"], memories["weight"], sums)
        post, rows = post_of(cfg, body, rng)
        pairs.append((body, post))
        expected.append(sums[index % 2, rows].astype("<i4").view(np.uint8).reshape(-1))
    bench = Bench(cfg, banks=2)

    def check(index):
        np.testing.assert_array_equal(bench.outputs[:expected[index].size], expected[index], f"POST {index}")

    bench.run(memories, pairs, check)
    assert bench.finished == len(pairs)
