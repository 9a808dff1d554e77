"""The storer in front of the writer, against a memory model."""

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring

from pearray.hdl.blocks.scratchpad import Scratchpad
from pearray.hdl.shell.config import Array, Memory, Post
from pearray.hdl.shell.storer import Storer
from pearray.hdl.shell.writer import DATA_DEPTH, Writer
from pearray.hdl.systolic.config import Accumulators, Scratchpads, SystolicConfig
from pearray.sim.pysim import simulate
from pearray.sim.pysim_memory import MemoryModel

SPACE = 1 << 11
RECORD = [0x11223344, 0x55667788, 0x99AABBCC, 0xDDEEFF00]


def configuration(data_width):
    return SystolicConfig(
        name="test", array=Array(rows=4, cols=4),
        scratchpads=Scratchpads(activation_bytes=1 << 12, weight_bytes=1 << 12, output_bytes=SPACE),
        accumulators=Accumulators(depth=16), post=Post(), memory=Memory(data_width=data_width),
    )


class Bench:
    """A storer with a writer, a memory, and an output scratchpad."""

    def __init__(self, rng, data_width, banks, **memory):
        config = configuration(data_width)
        self.banks = banks
        self.module = Module()
        self.module.submodules.writer = self.writer = Writer(config)
        self.module.submodules.storer = self.storer = Storer(config, banks)
        self.module.submodules.pad = self.pad = Scratchpad(banks, SPACE // banks, 8)
        wiring.connect(self.module, self.storer.request, self.writer.request)
        wiring.connect(self.module, self.storer.data, self.writer.data)
        wiring.connect(self.module, self.storer.read, self.pad.read)
        bus = self.writer.bus
        self.module.d.comb += [
            self.storer.sent.eq(self.writer.sent),
            self.storer.marked.eq(self.writer.marked),
        ]
        self.module.d.comb += [self.storer.record[index].eq(word) for index, word in enumerate(RECORD)]
        self.memory = MemoryModel(bus, rng=rng, **memory)
        self.memory.data[:] = rng.integers(0, 256, self.memory.size)
        self.contents = rng.integers(0, 256, SPACE).astype(np.uint8)
        self.expected = self.memory.data.copy()
        self.beat_cycles, self.given_cycles, self.done = [], [], 0

    def expect(self, body):
        """Do to ``expected`` what a command does, byte by byte."""
        if body["profile"]:
            record = np.array(RECORD, "<u4").view(np.uint8)
            self.expected[body["dram"]:body["dram"] + 16] = record
            return
        for i2 in range(body["count2"]):
            for i1 in range(body["count1"]):
                dram = body["dram"] + i2 * body["dram_step2"] + i1 * body["dram_step1"]
                place = body["address"] + i2 * body["step2"] + i1 * body["step1"]
                for byte in range(body["length"]):
                    self.expected[dram + byte & 0xFFFFFFFF] = self.contents[(place + byte) % SPACE]

    async def record(self, ctx):
        """Note what comes out, cycle by cycle."""
        bus = self.writer.bus
        cycle = 0
        async for _, _, valid, ready, given, done in ctx.tick().sample(bus.wvalid, bus.wready, self.storer.data.valid,
                                                                       self.storer.done):
            cycle += 1
            if valid and ready:
                self.beat_cycles.append(cycle)
            if given:
                self.given_cycles.append(cycle)
            self.done += done

    def run(self, bodies):
        """Give the commands, wait for the last one, and compare."""
        for body in bodies:
            self.expect(body)

        async def drive(ctx):
            write = self.pad.write
            ctx.set(write.en, (1 << self.banks) - 1)
            for line in range(SPACE // self.banks):
                ctx.set(write.line, [line] * self.banks)
                ctx.set(write.data, self.contents[line * self.banks:(line + 1) * self.banks].tolist())
                await ctx.tick()
            ctx.set(write.en, 0)
            commands = self.storer.commands
            for body in bodies:
                ctx.set(commands.payload, body)
                ctx.set(commands.valid, 1)
                await ctx.tick().until(commands.ready)
            ctx.set(commands.valid, 0)
            while self.done < len(bodies):
                await ctx.tick()
            np.testing.assert_array_equal(self.memory.data, self.expected)
            for _ in range(20):
                await ctx.tick()
            assert self.done == len(bodies)
            assert ctx.get(self.writer.idle)

        simulate(self.module, drive, background=[*self.memory.testbenches, self.record])


def draw(rng, profile):
    """Draw a command whose rows do not overlap in memory."""
    length = int(rng.integers(1, 70))
    count1, count2 = int(rng.integers(1, 5)), int(rng.integers(1, 4))
    sign = int(rng.choice([-1, 1]))
    dram_step1 = length + int(rng.integers(0, 9))
    dram_step2 = dram_step1 * count1 + int(rng.integers(0, 9))
    is_profile = int(rng.random() < profile)
    return {
        "profile": is_profile,
        "dram": int(rng.integers(200, 500)) * 64 if is_profile else int(rng.integers(16_000, 30_000)),
        "dram_step1": sign * dram_step1 % (1 << 32), "dram_step2": sign * dram_step2 % (1 << 32),
        "address": int(rng.integers(0, SPACE)), "step1": int(rng.integers(0, SPACE)),
        "step2": int(rng.integers(0, SPACE)), "length": length, "count1": count1, "count2": count2,
    }


@pytest.mark.parametrize("stall", [0.0, 0.4])
@pytest.mark.parametrize(("data_width", "banks"),
                         [(32, 4), (32, 16), (64, 8), (64, 16), (128, 16), (256, 32)])
def test_random_blocks(rng, data_width, banks, stall):
    """Bytes would come from wrong lanes or lines, strobes leave a row, or done precede its response."""
    bench = Bench(rng, data_width, banks, stall=stall, write_latency=int(rng.integers(1, 20)))
    bench.run([draw(rng, 0.2) for _ in range(15)])


@pytest.mark.parametrize(("data_width", "banks"), [(32, 16), (64, 8)])
def test_beats_wait_for_room(rng, data_width, banks):
    """Strobes of a row's first or last beat, or a beat itself, would be lost while there is no room for it."""
    bench = Bench(rng, data_width, banks, write_pace=20)
    bench.run([draw(rng, 0.2) for _ in range(8)])
    # Room for a beat comes when memory takes one: most of the rest have waited for most of that time.
    assert np.count_nonzero(np.diff(bench.given_cycles) > 10) > 2 * DATA_DEPTH


def test_long_row(rng):
    """A row of many bursts would lose its place at a burst's or a page's end."""
    bench = Bench(rng, 64, 8)
    bench.run([draw(rng, 0) | {"profile": 0, "dram": 4001, "length": 1999, "count1": 1, "count2": 1}])


@pytest.mark.parametrize("beats", [1, 2, 5])
def test_rows_sustain_the_bus(rng, beats):
    """Rows, or the change of commands, would leave more beats of the bus unused than they must."""
    bench = Bench(rng, 64, 8, outstanding=64, write_latency=2)
    body = {"profile": 0, "dram": 8192, "dram_step1": 512, "dram_step2": 2048, "address": 0,
            "step1": 8 * beats, "step2": 32 * beats, "length": 8 * beats, "count1": 4, "count2": 4}
    bench.run([body, body | {"address": 3}])
    count = 2 * 16 * beats
    assert len(bench.beat_cycles) == count
    # Between two commands one address is not ready in time if the last row has one beat only.
    assert bench.beat_cycles[-1] - bench.beat_cycles[0] <= count - 1 + (beats == 1)
