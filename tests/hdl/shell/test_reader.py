"""The read arbiter with several clients."""

import numpy as np
import pytest

from pearray.hdl.shell.config import Array, Memory, Post
from pearray.hdl.shell.reader import Reader
from pearray.hdl.systolic.config import Accumulators, Scratchpads, SystolicConfig
from pearray.sim.pysim import simulate
from pearray.sim.pysim_memory import SLVERR, MemoryModel

CONFIG = SystolicConfig(
    name="test", array=Array(rows=2, cols=2), scratchpads=Scratchpads(
        activation_bytes=1 << 12, weight_bytes=1 << 12, output_bytes=1 << 12),
    accumulators=Accumulators(depth=16), post=Post(), memory=Memory(data_width=64),
)


class Bench:
    """A reader, its memory, and what each client received."""

    def __init__(self, rng, clients, **memory):
        self.rng = rng
        self.dut = Reader(CONFIG, clients)
        self.memory = MemoryModel(self.dut.bus, rng=rng, **memory)
        self.memory.data[:] = rng.integers(0, 256, self.memory.size)
        self.received = [[] for _ in range(clients)]
        self.errors = []

    def words(self, beat, count):
        """Read beats from the memory directly."""
        return self.memory.data.view("<u8")[beat:beat + count].tolist()

    async def request(self, ctx, client, beat, count):
        """Ask for a burst."""
        stream = self.dut.request[client]
        ctx.set(stream.payload, {"beat": beat, "more": count - 1})
        ctx.set(stream.valid, 1)
        await ctx.tick().until(stream.ready)
        ctx.set(stream.valid, 0)

    def client(self, client, patience):
        """Make a background testbench that takes beats when it likes."""
        async def testbench(ctx):
            stream = self.dut.response[client]
            ready = False
            async for _, _, valid, payload in ctx.tick().sample(stream.valid, stream.payload):
                if valid and ready:
                    self.received[client].append((payload.data, payload.last))
                ready = self.rng.random() < patience
                ctx.set(stream.ready, ready)
        return testbench

    async def watch(self, ctx):
        """Note errors."""
        dut = self.dut
        async for _, _, error, address, client in ctx.tick().sample(
                dut.error, dut.error_address, dut.error_client):
            if error:
                self.errors.append((client, address))

    def simulate(self, *testbenches, patience=1.0):
        """Run testbenches beside the memory and the clients."""
        clients = [self.client(index, patience) for index in range(len(self.received))]
        simulate(self.dut, *testbenches, background=[*self.memory.testbenches, *clients, self.watch])


@pytest.mark.parametrize(("stall", "patience", "latency"), [(0.0, 1.0, 8), (0.5, 0.5, 8), (0.0, 1.0, 1)])
def test_each_client_gets_its_beats(rng, stall, patience, latency):
    """Beats would reach the wrong client, get lost, come before their client is known, or come out of order."""
    bench = Bench(rng, 3, stall=stall, read_latency=latency, outstanding=32)
    expected = [[] for _ in range(3)]
    bursts = []
    for client in range(3):
        places = (64 * rng.permutation(60)[:20] + 16 * client).tolist()
        bursts.append([(place, int(rng.integers(1, 17))) for place in places])
        for beat, count in bursts[client]:
            words = bench.words(beat, count)
            expected[client] += [(word, index == count - 1) for index, word in enumerate(words)]

    def driver(client):
        async def testbench(ctx):
            for beat, count in bursts[client]:
                await bench.request(ctx, client, beat, count)
            while len(bench.received[client]) < len(expected[client]):
                await ctx.tick()
        return testbench

    bench.simulate(*[driver(client) for client in range(3)], patience=patience)
    assert bench.received == expected
    # Nobody waits for more than one burst of each other client.
    order = [next(client for client in range(3) if (address // 8, beats) in bursts[client])
             for address, beats in bench.memory.reads[:30]]
    for place in range(3, 27, 3):
        assert set(order[place:place + 3]) == {0, 1, 2} or stall


def test_drain_drops_what_is_in_flight(rng):
    """Beats of a stopped run would reach the next one, or its errors be reported there."""
    bench = Bench(rng, 2, read_latency=10)
    bench.memory.read_errors[8 * 40] = SLVERR
    bench.memory.read_errors[8 * 100] = SLVERR

    async def testbench(ctx):
        for beat in (0, 32, 64):
            await bench.request(ctx, 1, beat, 16)
        while not bench.received[1]:
            await ctx.tick()
        ctx.set(bench.dut.drain, 1)
        await ctx.tick()
        ctx.set(bench.dut.drain, 0)
        known = len(bench.received[1])
        # The drain goes on: the next request waits until nothing is in flight.
        await bench.request(ctx, 0, 96, 8)
        assert len(bench.received[1]) <= known + 1 < 16
        while len(bench.received[0]) < 8:
            await ctx.tick()
        await ctx.tick()
        assert ctx.get(bench.dut.idle)

    bench.simulate(testbench)
    assert np.array_equal([word for word, _ in bench.received[0]], bench.words(96, 8))
    assert bench.memory.read_beats == 3 * 16 + 8
    assert bench.errors == [(0, 8 * 96)]
