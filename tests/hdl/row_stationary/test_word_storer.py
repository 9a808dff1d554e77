"""The storer of words in front of the writer, against a memory model and the golden code."""

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring

from pearray.golden import run_length
from pearray.hdl.row_stationary.buffer import GlobalBuffer as Buffer
from pearray.hdl.row_stationary.buffer import buffer_ways
from pearray.hdl.row_stationary.config import GlobalBuffer, RowStationaryConfig
from pearray.hdl.row_stationary.word_storer import WordStorer
from pearray.hdl.shell.config import Array, Memory
from pearray.hdl.shell.writer import DATA_DEPTH, Writer
from pearray.sim.pysim import simulate
from pearray.sim.pysim_memory import MemoryModel

BANKS, BANK_LINES = 3, 64
SPACE = BANKS * BANK_LINES * 8
RECORD = [0x01234567 * index & 0xFFFFFFFF for index in range(1, 17)]
NAMES = ("dram_step1", "dram_step2", "step1", "step2")


class Bench:
    """A storer with a writer, a memory, and a global buffer."""

    def __init__(self, rng, data_width, skip=0, **memory):
        config = RowStationaryConfig(
            name="test", array=Array(kind="row-stationary", rows=1, cols=1, operand_bits=16),
            global_buffer=GlobalBuffer(banks=BANKS, bank_lines=BANK_LINES, skip_zeros=skip),
            memory=Memory(data_width=data_width))
        self.rng = rng
        self.module = Module()
        self.module.submodules.writer = self.writer = Writer(config)
        self.module.submodules.storer = self.storer = WordStorer(config)
        self.module.submodules.buffer = self.buffer = Buffer(
            BANKS, BANK_LINES, 64, 0, 1, ways=buffer_ways(config.beat_bytes), wide=True)
        wiring.connect(self.module, self.storer.request, self.writer.request)
        wiring.connect(self.module, self.storer.data, self.writer.data)
        wiring.connect(self.module, self.storer.read, self.buffer.wide)
        self.module.d.comb += [
            self.storer.sent.eq(self.writer.sent),
            self.storer.marked.eq(self.writer.marked),
        ]
        self.module.d.comb += [self.storer.record[index].eq(word) for index, word in enumerate(RECORD)]
        self.memory = MemoryModel(self.writer.bus, rng=rng, **memory)
        self.memory.data[:] = rng.integers(0, 256, self.memory.size)
        words = rng.integers(-(1 << 15), 1 << 15, SPACE // 2).astype(np.int16)
        words[rng.random(len(words)) < 0.4] = 0
        # Runs of zeros as long as one can be, and longer ones.
        for start in rng.integers(0, len(words) - 70, 6):
            words[start:start + rng.choice([31, 32, 33, 64])] = 0
        self.contents = words.view(np.uint8)
        self.expected = self.memory.data.copy()
        self.beat_cycles, self.given_cycles, self.done = [], [], 0

    def expect(self, body):
        """Do to ``expected`` what a command does, byte by byte."""
        dram = body["dram"]
        if body["profile"]:
            self.expected[dram:dram + 64] = np.array(RECORD, "<u4").view(np.uint8)
            return
        rows = []
        for i2 in range(body["count2"]):
            for i1 in range(body["count1"]):
                place = (body["address"] + i2 * body["step2"] + i1 * body["step1"]) % (1 << 20)
                row = self.contents[place:place + body["length"]].view(np.int16)
                assert 2 * len(row) == body["length"]
                row = np.maximum(row, 0) if body["relu"] else row
                at = (dram + i2 * body["dram_step2"] + i1 * body["dram_step1"]) % (1 << 32)
                rows.append(row)
                if not body["coded"]:
                    self.expected[at:at + body["length"]] = row.view(np.uint8)
        if body["coded"]:
            code = run_length.encode(np.concatenate(rows)).view(np.uint8)
            self.expected[dram:dram + len(code)] = code

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
            write = self.buffer.write[0]
            ctx.set(write.valid, 1)
            for line, value in enumerate(self.contents.view("<u8").tolist()):
                ctx.set(write.payload, {"address": line, "data": value, "mask": 0xFF})
                await ctx.tick()
            ctx.set(write.valid, 0)
            commands = self.storer.commands
            for body in bodies:
                while self.rng.random() < 0.2:
                    await ctx.tick()
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


def draw(rng, slot):
    """Draw a command that writes to a part of memory of its own."""
    base = 4096 * slot + 64 * int(rng.integers(0, 4))
    if rng.random() < 0.15:
        return {"profile": 1, "dram": base}
    coded = int(rng.random() < 0.5)
    grain = 8 if coded else 2
    length = grain * int(rng.integers(1, 60 // grain + 1) if rng.random() < 0.8 else 200 // grain)
    count1, count2 = int(rng.integers(1, 5)), int(rng.integers(1, 4))
    dram_step1 = length + 2 * int(rng.integers(0, 5))
    dram_step2 = dram_step1 * count1 + 2 * int(rng.integers(0, 5))
    steps = [grain * int(rng.integers(0, 60 // grain)) for _ in range(2)]
    address = grain * int(rng.integers(0, (SPACE - 600) // grain))
    dram = base
    if not coded:
        dram += 2 * int(rng.integers(0, 32))
    return {"profile": 0, "coded": coded, "relu": int(rng.random() < 0.5), "dram": dram,
            "dram_step1": dram_step1, "dram_step2": dram_step2, "address": address, "step1": steps[0],
            "step2": steps[1], "length": length, "count1": count1, "count2": count2}


@pytest.mark.parametrize("skip", [0, 1])
@pytest.mark.parametrize("stall", [0.0, 0.4])
@pytest.mark.parametrize("data_width", [32, 64, 128, 512])
def test_random_blocks(rng, data_width, stall, skip):
    """Words would come from other lines, negative ones stay, codes differ, or overtake what comes behind them."""
    bench = Bench(rng, data_width, skip, stall=stall, write_latency=int(rng.integers(1, 20)))
    bench.run([draw(rng, slot) for slot in range(15)])


@pytest.mark.parametrize("data_width", [32, 64])
def test_beats_wait_for_room(rng, data_width):
    """Strobes of a row's first or last beat, or a word of a code, would be lost while there is no room for it."""
    bench = Bench(rng, data_width, write_pace=20)
    code = {"profile": 0, "coded": 1, "relu": 0, "dram": 4096, "address": 8 * int(rng.integers(64)), "step1": 0,
            "step2": 0, "length": 240, "count1": 1, "count2": 1, "dram_step1": 0, "dram_step2": 0}
    bench.run([draw(rng, 0), code, *(draw(rng, slot) for slot in range(2, 4))])
    # Room for a beat comes when memory takes one: most of the rest have waited for most of that time.
    assert np.count_nonzero(np.diff(bench.given_cycles) > 10) > 2 * DATA_DEPTH


@pytest.mark.parametrize("data_width", [32, 64, 256])
def test_a_word_a_cycle(rng, data_width):
    """Codes would be written more slowly than words can be encoded, or bursts cross 4 KB."""
    bench = Bench(rng, data_width)
    length = 1536
    body = {"profile": 0, "coded": 1, "relu": 0, "dram": 4096 - 64, "address": 0, "step1": 0, "step2": 0,
            "length": length, "count1": 1, "count2": 1, "dram_step1": 0, "dram_step2": 0}
    bench.run([body])
    assert bench.beat_cycles[-1] - SPACE // 8 <= length // 2 + 60


@pytest.mark.parametrize("data_width", [64, 256])
def test_zeros_beside_words(rng, data_width):
    """Zeros would take cycles of the coder of their own, beside the words of their beats."""
    bench = Bench(rng, data_width, skip=1)
    length = 1536
    body = {"profile": 0, "coded": 1, "relu": 1, "dram": 4096, "address": 0, "step1": 0, "step2": 0,
            "length": length, "count1": 1, "count2": 1, "dram_step1": 0, "dram_step2": 0}
    bench.run([body])
    beats = np.maximum(bench.contents[:length].view(np.int16), 0).reshape(-1, data_width // 16)
    cycles = np.maximum(1, np.count_nonzero(beats, axis=1)).sum()
    assert bench.beat_cycles[-1] - SPACE // 8 <= cycles + 60 < length // 2


@pytest.mark.parametrize("shift", [0, 6])
def test_rows_sustain_the_bus(rng, shift):
    """Plain rows would leave beats of the bus unused, whatever their alignment."""
    bench = Bench(rng, 64, outstanding=64, write_latency=2)
    beats = 40
    body = {"profile": 0, "coded": 0, "relu": 1, "dram": 8192, "address": shift, "step1": 0, "step2": 0,
            "length": 8 * beats, "count1": 1, "count2": 1, "dram_step1": 0, "dram_step2": 0}
    bench.run([body])
    assert len(bench.beat_cycles) == beats
    assert bench.beat_cycles[-1] - bench.beat_cycles[0] <= beats - 1
