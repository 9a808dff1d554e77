"""The mover beside a storer that reads for it, with a loader's beats on their way to the same memories."""

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring

from pearray.hdl.blocks.scratchpad import Scratchpad
from pearray.hdl.shell.config import Array, Memory, Post
from pearray.hdl.shell.load_port import LoadPort
from pearray.hdl.shell.loader import Loader
from pearray.hdl.shell.mover import Mover
from pearray.hdl.shell.storer import Storer
from pearray.hdl.systolic.commands import Destination
from pearray.hdl.systolic.config import Accumulators, Scratchpads, SystolicConfig
from pearray.sim.pysim import simulate

SPACE = 1 << 10


def configuration(data_width):
    return SystolicConfig(
        name="test", array=Array(rows=4, cols=4),
        scratchpads=Scratchpads(activation_bytes=SPACE, weight_bytes=SPACE, output_bytes=SPACE, moves=1),
        accumulators=Accumulators(depth=16), post=Post(), memory=Memory(data_width=data_width),
    )


class Bench:
    """A mover and a storer at an output scratchpad; what is moved is noted byte by byte."""

    def __init__(self, rng, data_width, banks):
        config = configuration(data_width)
        self.beat, self.banks = config.beat_bytes, banks
        self.module = m = Module()
        m.submodules.mover = self.mover = Mover(config, banks)
        m.submodules.storer = self.storer = Storer(config, banks)
        m.submodules.pad = self.pad = Scratchpad(banks, SPACE // banks, 8)
        wiring.connect(m, self.mover.reads, self.storer.reads)
        wiring.connect(m, self.storer.read, self.pad.read)
        m.d.comb += [
            self.mover.read.eq(self.storer.moved),
            # A writer that takes all at once.
            self.storer.request.ready.eq(1), self.storer.data.ready.eq(1), self.storer.sent.eq(self.storer.data.valid),
        ]
        self.contents = rng.integers(0, 256, SPACE, dtype=np.uint8)
        self.found = {each: rng.integers(0, 256, SPACE, dtype=np.uint8) for each in (0, 1)}
        self.expected = {each: memory.copy() for each, memory in self.found.items()}
        #: Cycles in which a command was taken, a beat was written, one was done, and beats of STOREs came, in order.
        self.taken, self.written, self.done, self.stored = [], [], [], []
        self.soon = []

    def expect(self, body):
        """Do to ``expected`` what a command does, row by row."""
        for i2 in range(body["count2"]):
            for i1 in range(body["count1"]):
                source = body["address"] + i2 * body["step2"] + i1 * body["step1"]
                target = body["target"] + i2 * body["target_step2"] + i1 * body["target_step1"]
                row = np.arange(body["length"])
                self.expected[body["destination"]][(target + row) % SPACE] = self.contents[(source + row) % SPACE]

    async def record(self, ctx):
        """Note what the mover does, cycle by cycle."""
        move, commands = self.mover.move, self.mover.commands
        cycle = 0
        async for _, _, taken, stored, valid, done, soon, *write in ctx.tick().sample(
                commands.valid & commands.ready, self.storer.data.valid, move.valid, self.mover.done,
                self.mover.hold.valid, move.destination, move.word, move.wrap, move.mask,
                move.data.as_value()):
            cycle += 1
            for events, happens in ((self.taken, taken), (self.stored, stored), (self.written, valid),
                                    (self.done, done), (self.soon, soon)):
                if happens:
                    events.append(cycle)
            if valid:
                destination, word, wrap, mask, lanes = write
                assert wrap == 0
                for lane in range(self.beat):
                    if mask >> lane & 1:
                        place = (word * self.beat + lane) % SPACE
                        self.found[destination][place] = lanes >> 8 * lane & 255

    async def give(self, ctx, commands, bodies):
        """Give commands to an engine."""
        for body in bodies:
            ctx.set(commands.payload, body)
            ctx.set(commands.valid, 1)
            await ctx.tick().until(commands.ready)
        ctx.set(commands.valid, 0)

    def run(self, bodies, stores=()):
        """Fill the pad, give MOVEs, with STOREs beside them, wait for the last, and compare."""
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
            filled.append(True)
            await self.give(ctx, self.mover.commands, bodies)
            while len(self.done) < len(bodies):
                await ctx.tick()
            # No beat comes behind the last.
            for _ in range(20):
                await ctx.tick()
            assert self.done[-1] == self.written[-1]
            assert len(self.done) == len(bodies)

        async def store(ctx):
            while not filled:
                await ctx.tick()
            await self.give(ctx, self.storer.commands, stores)

        filled = []
        simulate(self.module, drive, background=[self.record, store], timeout=40_000)
        for destination, memory in self.expected.items():
            np.testing.assert_array_equal(self.found[destination], memory)


def draw(rng):
    """Draw a command of rows of any alignment, with steps of both signs."""
    places = ("address", "step1", "step2", "target", "target_step1", "target_step2")
    return {"destination": int(rng.integers(2)), "length": int(rng.integers(1, 70)), "count1": int(rng.integers(1, 5)),
            "count2": int(rng.integers(1, 4)), **{name: int(rng.integers(1 << 20)) for name in places}}


def rows(beats, count=16):
    """Make a command of aligned rows of as many beats of 8 bytes."""
    return {"destination": 0, "length": 8 * beats, "count1": count, "count2": 1, "address": 0, "step1": 8 * beats,
            "step2": 0, "target": 0, "target_step1": 8 * beats, "target_step2": 0}


def store(beats, count=16):
    """Make a STORE of the same rows."""
    return {"profile": 0, "dram": 4096, "dram_step1": 8 * beats, "dram_step2": 0, "address": 0, "step1": 8 * beats,
            "step2": 0, "length": 8 * beats, "count1": count, "count2": 1}


@pytest.mark.parametrize("stores", [False, True])
@pytest.mark.parametrize(("data_width", "banks"), [(32, 4), (32, 16), (64, 8), (128, 32)])
def test_random_blocks(rng, data_width, banks, stores):
    """Bytes would come from wrong lanes, lines or rows, go to wrong ones, or be lost beside a STORE's."""
    bench = Bench(rng, data_width, banks)
    bench.run([draw(rng) for _ in range(15)], [store(3), store(1)] * 8 if stores else [])
    # Turns were taken: beats of both came in the same stretch of time.
    assert not stores or bench.stored[0] < bench.written[len(bench.written) // 2] < bench.stored[-1]


def test_long_row(rng):
    """A row of many bursts would lose its place where one ends."""
    bench = Bench(rng, 64, 8)
    bench.run([rows(1) | {"length": 700, "count1": 1, "address": 13, "target": 22}])


@pytest.mark.parametrize("banks", [8, 16])
@pytest.mark.parametrize("beats", [1, 2, 5])
def test_a_beat_a_cycle(rng, beats, banks):
    """The compiler's timing would promise tiles before they stand, or the array wait for beats that are not moved."""
    bench = Bench(rng, 64, banks)
    bench.run([rows(beats)])
    config = configuration(64)
    first = bench.taken[0] + Mover.START + Mover.latency_of(config, banks)
    assert bench.written == list(range(first, first + 16 * beats))
    assert bench.done == [first + 16 * beats - 1]
    # The loader is told as many cycles before as its own beats take.
    assert bench.soon == [cycle - Loader.latency_of(config) for cycle in bench.written]


def test_turns(rng):
    """One of the two that read outputs would starve, and with it whoever waits for it."""
    bench = Bench(rng, 64, 8)
    # As long as both read, each has every second cycle.
    bench.run([rows(4)], [store(4)])
    for own, other in ((bench.written, bench.stored), (bench.stored, bench.written)):
        both = [cycle for cycle in own if other[0] < cycle < other[-1]]
        assert len(both) >= 20
        assert both[-1] - both[0] == 2 * (len(both) - 1)


def test_beats_of_loads_are_held_back(rng):
    """A loaded beat would be lost under a moved one, or loads to other memories wait for nothing."""
    config = configuration(64)
    m = Module()
    m.submodules.loader = loader = Loader(config)
    m.submodules.port = port = LoadPort(config, Destination.ACTIVATION, config.banks, SPACE // config.banks, 8)
    for name in port.load.signature.members:
        m.d.comb += getattr(port.load, name).eq(getattr(loader.load, name))
    held = {Destination.ACTIVATION: [], Destination.WEIGHT: []}

    async def drive(ctx):
        ctx.set(loader.request.ready, 1)
        ctx.set(loader.response.valid, 1)
        for destination, seen in held.items():
            ctx.set(loader.commands.payload, {
                "destination": destination, "fill": 0, "length": 8 * 16, "count1": 4, "count2": 1, "step1": 128})
            ctx.set(loader.commands.valid, 1)
            await ctx.tick().until(loader.commands.ready)
            ctx.set(loader.commands.valid, 0)
            ctx.set(loader.hold.destination, Destination.ACTIVATION)
            holds, done = [], False
            while not done:
                holds.append(bool(rng.integers(2)))
                ctx.set(loader.hold.valid, holds[-1])
                _, _, valid, done = await ctx.tick().sample(loader.load.valid, loader.done)
                seen.append((valid, holds[-1 - Loader.latency_of(config)] if len(holds) > 4 else False))

    simulate(m, drive)
    assert sum(valid for valid, _ in held[Destination.ACTIVATION]) == 64
    assert not any(valid and hold for valid, hold in held[Destination.ACTIVATION])
    # Those to the other memory come a beat a cycle.
    others = [index for index, (valid, _) in enumerate(held[Destination.WEIGHT]) if valid]
    assert others[-1] - others[0] == 63
