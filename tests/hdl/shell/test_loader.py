"""The loader behind the read arbiter, against a memory model."""

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring

from pearray.hdl.shell.config import Array, Memory, Post
from pearray.hdl.shell.loader import Loader
from pearray.hdl.shell.reader import Reader
from pearray.hdl.systolic.commands import Destination
from pearray.hdl.systolic.config import Accumulators, Scratchpads, SystolicConfig
from pearray.sim.pysim import simulate
from pearray.sim.pysim_memory import MemoryModel

SPACE = 1 << 12


def configuration(data_width):
    return SystolicConfig(
        name="test", array=Array(rows=4, cols=4),
        scratchpads=Scratchpads(activation_bytes=1 << 12, weight_bytes=1 << 12, output_bytes=1 << 12),
        accumulators=Accumulators(depth=16), post=Post(), memory=Memory(data_width=data_width),
    )


class Bench:
    """A loader with a reader, a memory, and a record of what reaches each destination."""

    def __init__(self, data_width, **memory):
        config = configuration(data_width)
        self.module = Module()
        self.module.submodules.reader = self.reader = Reader(config, 2)
        self.module.submodules.loader = self.loader = Loader(config)
        wiring.connect(self.module, self.loader.request, self.reader.request[0])
        wiring.connect(self.module, self.reader.response[0], self.loader.response)
        self.memory = MemoryModel(self.reader.bus, **memory)
        self.lanes = config.beat_bytes
        self.written = {destination: np.zeros(SPACE, np.uint8) for destination in Destination}
        self.expected = {destination: np.zeros(SPACE, np.uint8) for destination in Destination}
        self.write_cycles = []
        self.done_cycles = []
        self.addresses = []
        self.snapshots = []

    def expect(self, body):
        """Do to ``expected`` what a command does, byte by byte."""
        target = self.expected[Destination(body["destination"])]
        for i2 in range(body["count2"]):
            for i1 in range(body["count1"]):
                dram = body["dram"] + i2 * body["dram_step2"] + i1 * body["dram_step1"]
                place = body["address"] + i2 * body["step2"] + i1 * body["step1"]
                for byte in range(body["length"]):
                    value = body["value"] if body["fill"] else self.memory.data[(dram + byte) % (1 << 32)]
                    target[(place + byte) % SPACE] = value
        self.snapshots.append({key: value.copy() for key, value in self.expected.items()})

    async def rival(self, ctx):
        """Read as well, as the fetch of commands does."""
        request = self.reader.request[1]
        ctx.set(self.reader.response[1].ready, 1)
        ctx.set(request.p, {"beat": 0, "more": 7})
        ctx.set(request.valid, 1)

    async def record(self, ctx):
        """Note what comes out, cycle by cycle."""
        load = self.loader.load
        cycle = 0
        async for _, _, valid, done, destination, word, wrap, mask, data in ctx.tick().sample(
                load.valid, self.loader.done, load.destination, load.word, load.wrap, load.mask, load.data):
            cycle += 1
            if valid:
                self.write_cycles.append(cycle)
                for lane in range(self.lanes):
                    if mask >> lane & 1:
                        place = ((word + (wrap >> lane & 1)) * self.lanes + lane) % SPACE
                        self.written[destination][place] = data[lane]
            if done:
                for key, value in self.snapshots[len(self.done_cycles)].items():
                    np.testing.assert_array_equal(self.written[key], value, err_msg=f"{key} at done")
                self.done_cycles.append(cycle)

    def run(self, bodies, *more):
        """Give the commands, wait for the last one, and compare."""
        for body in bodies:
            self.expect(body)

        async def drive(ctx):
            commands = self.loader.commands
            for body in bodies:
                ctx.set(commands.payload, body)
                ctx.set(commands.valid, 1)
                await ctx.tick().until(commands.ready)
            ctx.set(commands.valid, 0)
            while len(self.done_cycles) < len(bodies):
                await ctx.tick()

        simulate(self.module, drive, background=[*self.memory.testbenches, self.record, *more])
        for key in Destination:
            np.testing.assert_array_equal(self.written[key], self.expected[key], err_msg=str(key))


def draw(rng, *, fill):
    """Draw a command whose rows do not overlap on chip."""
    length = int(rng.integers(1, 70))
    count1, count2 = int(rng.integers(1, 5)), int(rng.integers(1, 4))
    step1 = length + int(rng.integers(0, 5))
    step2 = step1 * count1 + int(rng.integers(0, 9))
    address = int(rng.integers(0, SPACE - step2 * count2))
    return {
        "destination": Destination(int(rng.integers(0, 5))), "fill": int(rng.random() < fill),
        "value": int(rng.integers(0, 256)),
        "dram": int(rng.integers(16_000, 30_000)), "dram_step1": int(rng.integers(-900, 900)) % (1 << 32),
        "dram_step2": int(rng.integers(-3000, 3000)) % (1 << 32),
        "address": address, "step1": step1, "step2": step2,
        "length": length, "count1": count1, "count2": count2,
    }


@pytest.mark.parametrize("stall", [0.0, 0.4])
@pytest.mark.parametrize("data_width", [32, 64, 128])
def test_random_blocks(rng, data_width, stall):
    """Bytes would land on wrong lanes, rows or destinations, bursts cross 4 KB, or done come early."""
    bench = Bench(data_width, rng=rng, stall=stall, read_latency=int(rng.integers(1, 20)))
    bench.memory.data[:] = rng.integers(0, 256, bench.memory.size)
    bench.run([draw(rng, fill=0.3) for _ in range(20)])


@pytest.mark.parametrize("outstanding", [1, 2])
def test_late_addresses(rng, outstanding):
    """The rest of a row whose address had to wait for the bus would land where an old burst went.

    Found by tests/sim/test_disturbances.py: wrong results with a memory that takes one burst at a time.
    """
    bench = Bench(64, rng=rng, outstanding=outstanding, read_latency=2)
    bench.memory.data[:] = rng.integers(0, 256, bench.memory.size)
    bench.run([draw(rng, fill=0.3) | {"length": int(rng.integers(150, 300)), "count1": 2, "count2": 1, "step1": 300,
                                      "address": int(rng.integers(0, SPACE - 600))} for _ in range(8)], bench.rival)


@pytest.mark.parametrize("length", [5000, 4096])
def test_long_row(rng, length):
    """A row of many bursts would lose its place at a burst's or a page's end."""
    bench = Bench(64, rng=rng)
    bench.memory.data[:] = rng.integers(0, 256, bench.memory.size)
    bench.run([{"destination": Destination.WEIGHT, "fill": 0, "value": 0, "dram": 4093, "dram_step1": 0,
                "dram_step2": 0, "address": 3, "step1": 0, "step2": 0, "length": length, "count1": 1,
                "count2": 1}])


@pytest.mark.parametrize("beats", [1, 2, 3, 5])
def test_short_rows_sustain_the_bus(rng, beats):
    """Addresses of short rows, or the change of commands, would leave beats of the bus unused."""
    bench = Bench(64, rng=rng, read_latency=8, outstanding=64)
    bench.memory.data[:] = rng.integers(0, 256, bench.memory.size)
    rows = 12
    body = {"destination": Destination.ACTIVATION, "fill": 0, "value": 0, "dram_step1": 512,
            "dram_step2": 2048, "address": 0, "step1": 8 * beats, "step2": 32 * beats,
            "length": 8 * beats, "count1": 4, "count2": 3}
    bench.run([body | {"dram": 8192 + 64 * index, "address": 1024 * index} for index in range(3)])
    assert len(bench.write_cycles) == 3 * rows * beats
    # One beat a cycle, but for the cycle in which the fetch of commands would have its turn.
    assert bench.write_cycles[-1] - bench.write_cycles[0] <= 3 * rows * beats + 3


def test_latency(rng):
    """Every cycle between a command and its first address is a cycle of every program's ramp."""
    bench = Bench(64, rng=rng, read_latency=5)
    body = draw(rng, fill=0) | {"length": 8, "dram": 64, "address": 0, "count1": 1, "count2": 1}
    cycles = {}

    async def watch(ctx):
        names = [bench.loader.commands.valid, bench.reader.bus.arvalid, bench.reader.bus.rvalid,
                 bench.loader.load.valid]
        cycle = 0
        async for _, _, *values in ctx.tick().sample(*names):
            for name, value in zip(["command", "address", "data", "write"], values, strict=True):
                if value:
                    cycles.setdefault(name, cycle)
            cycle += 1

    bench.expect(body)

    async def drive(ctx):
        ctx.set(bench.loader.commands.payload, body)
        ctx.set(bench.loader.commands.valid, 1)
        await ctx.tick()
        ctx.set(bench.loader.commands.valid, 0)
        while not bench.done_cycles:
            await ctx.tick()

    simulate(bench.module, drive, background=[*bench.memory.testbenches, watch, bench.record])
    assert cycles["address"] - cycles["command"] == 4
    assert cycles["data"] - cycles["address"] == 5
    assert cycles["write"] - cycles["data"] == 3
