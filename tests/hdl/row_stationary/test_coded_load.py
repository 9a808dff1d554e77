"""The loader with run-length codes, behind the read arbiter, against a memory model and the golden code."""

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring

from pearray.golden import run_length
from pearray.hdl.row_stationary.coded_load import CodedLoad
from pearray.hdl.row_stationary.commands import Destination
from pearray.hdl.row_stationary.config import RowStationaryConfig
from pearray.hdl.shell.block_walk import burst_beats
from pearray.hdl.shell.config import Array, Memory
from pearray.hdl.shell.loader import Loader
from pearray.hdl.shell.reader import Reader
from pearray.sim.pysim import simulate
from pearray.sim.pysim_memory import MemoryModel

SPACE = 1 << 12
#: Where codes stand in memory.
CODES = 1 << 14


def configuration(data_width):
    return RowStationaryConfig(name="test", array=Array(kind="row-stationary", rows=1, cols=1, operand_bits=16),
                               memory=Memory(data_width=data_width))


def feature_map(rng):
    """Words with runs of every length around the longest one, and last code words of one to three pairs."""
    length = int(rng.choice([1, 2, 3, 4, 5, 7, 40, 150]))
    words = rng.integers(-(1 << 15), 1 << 15, length).astype(np.int16)
    words[rng.random(length) >= rng.choice([0.1, 0.5, 1.0])] = 0
    runs = [np.zeros(int(rng.choice([31, 32, 33, 63, 64])), np.int16)] if rng.random() < 0.5 else []
    return np.concatenate([words, *runs, words[:int(rng.integers(3))]])


class Bench:
    """A loader with a reader, a memory, and a record of what reaches each destination."""

    def __init__(self, rng, data_width, **memory):
        config = configuration(data_width)
        self.rng = rng
        self.module = Module()
        self.module.submodules.reader = self.reader = Reader(config, 2)
        self.module.submodules.loader = self.loader = Loader(config, CodedLoad(config))
        wiring.connect(self.module, self.loader.request, self.reader.request[0])
        wiring.connect(self.module, self.reader.response[0], self.loader.response)
        self.memory = MemoryModel(self.reader.bus, rng=rng, **memory)
        self.memory.data[:] = rng.integers(0, 256, self.memory.size)
        self.lanes = config.beat_bytes
        self.burst_bytes = burst_beats(config) * self.lanes
        self.written = {destination: np.zeros(SPACE, np.uint8) for destination in Destination}
        self.expected = {destination: np.zeros(SPACE, np.uint8) for destination in Destination}
        self.bodies, self.snapshots = [], []
        self.bursts = 0
        self.code_at = CODES
        self.done = 0
        self.last_write = self.cycle = 0
        self.words = 0

    def note(self, body):
        """Add a command, after which ``expected`` holds."""
        self.bodies.append({"fill": 0, "value": 0, "dram_step1": 0, "dram_step2": 0, "step1": 0, "step2": 0,
                            "count1": 1, "count2": 1} | body)
        self.snapshots.append({key: value.copy() for key, value in self.expected.items()})

    def code(self, words, slack):
        """Add a load of a code, and up to how many bytes its length overstates it."""
        code = run_length.encode(words)
        dram, size = self.code_at, code.nbytes
        self.memory.data[dram:dram + size] = code.view(np.uint8)
        self.code_at += size + slack + int(self.rng.integers(0, 9)) * 8
        address = int(self.rng.integers(0, SPACE // 2 - len(words) - 2)) * 2
        # Zeros that the last code word has to spare are written too.
        pairs = code[:, None] >> np.arange(0, 63, 21, dtype=np.uint64) & np.uint64(31)
        whole = np.zeros(int(pairs.sum()) + pairs.size, np.int16)
        assert len(words) <= len(whole) <= len(words) + 2
        whole[:len(words)] = words
        self.expected[Destination.GLOBAL_BUFFER][address:address + whole.nbytes] = whole.view(np.uint8)
        # Those that hold the code, and no other.
        first, last = dram // self.burst_bytes, (dram + size - 1) // self.burst_bytes
        self.bursts += last - first + 1
        self.words += len(whole)
        self.note({"destination": Destination.GLOBAL_BUFFER_CODED, "dram": dram, "address": address,
                   "length": size + slack})

    def plain(self):
        """Add a load of bytes, or a fill."""
        rng = self.rng
        length, fill, value = int(rng.integers(1, 70)), int(rng.random() < 0.3), int(rng.integers(0, 256))
        dram, address = int(rng.integers(0, CODES - length)), int(rng.integers(0, SPACE - length))
        destination = Destination(int(rng.integers(5, 7)))
        self.expected[destination][address:address + length] = (
            value if fill else self.memory.data[dram:dram + length])
        if not fill:
            self.bursts += (dram + length - 1) // self.burst_bytes - dram // self.burst_bytes + 1
        self.note({"destination": destination, "fill": fill, "value": value, "dram": dram, "address": address,
                   "length": length})

    async def record(self, ctx):
        """Note what comes out, cycle by cycle; compare when a command is said to be done."""
        load = self.loader.load
        async for _, _, valid, done, destination, word, wrap, mask, data in ctx.tick().sample(
                load.valid, self.loader.done, load.destination, load.word, load.wrap, load.mask, load.data):
            self.cycle += 1
            if valid:
                self.last_write = self.cycle
                for lane in range(self.lanes):
                    if mask >> lane & 1:
                        place = ((word + (wrap >> lane & 1)) * self.lanes + lane) % SPACE
                        self.written[destination][place] = data[lane]
            if done:
                assert valid
                for key, value in self.snapshots[self.done].items():
                    np.testing.assert_array_equal(self.written[key], value, err_msg=f"{key} at done {self.done}")
                self.done += 1

    async def rival(self, ctx):
        """Read as well, as the fetch of commands does."""
        ctx.set(self.reader.response[1].ready, 1)
        ctx.set(self.reader.request[1].p, {"beat": 0, "more": 7})
        while True:
            ctx.set(self.reader.request[1].valid, int(self.rng.random() < 0.02))
            await ctx.tick()

    def run(self, *more):
        """Give the commands, and wait for the last one."""
        async def drive(ctx):
            commands = self.loader.commands
            for body in self.bodies:
                while self.rng.random() < 0.2:
                    await ctx.tick()
                ctx.set(commands.payload, body)
                ctx.set(commands.valid, 1)
                await ctx.tick().until(commands.ready)
                ctx.set(commands.valid, 0)
            while self.done < len(self.bodies):
                await ctx.tick()
            await ctx.tick().repeat(100)
            assert self.done == len(self.bodies)

        simulate(self.module, drive, background=[*self.memory.testbenches, self.record, *more])


@pytest.mark.parametrize("stall", [0.0, 0.4])
@pytest.mark.parametrize("data_width", [32, 64, 128, 512])
def test_codes_among_bytes(rng, data_width, stall):
    """Words would be lost, written elsewhere or after done, or bytes of a later load overtake them."""
    bench = Bench(rng, data_width, stall=stall, read_latency=int(rng.integers(1, 30)))
    for _ in range(14):
        if rng.random() < 0.6:
            bench.code(feature_map(rng), int(rng.choice([0, 8, 56, 400, 3000])))
        else:
            bench.plain()
    bench.run(bench.rival)
    own = sum(1 for address, _ in bench.memory.reads if address)
    assert own <= bench.bursts, f"{own} bursts were read, {bench.bursts} had to be"


@pytest.mark.parametrize("data_width", [32, 64, 256])
def test_a_word_a_cycle(rng, data_width):
    """A dense map would take longer than its words, and a wait for memory for each burst."""
    bench = Bench(rng, data_width, read_latency=10)
    words = rng.integers(1, 1 << 15, 900).astype(np.int16)
    bench.code(words, 0)
    bench.run()
    assert bench.last_write <= bench.words + 12 * bench.bursts + 60


def test_code_without_mark(rng):
    """A wrong address of a code would stop the accelerator for ever instead of giving wrong words."""
    bench = Bench(rng, 64)
    bench.memory.data[CODES:CODES + 512] = 1
    body = {"destination": Destination.GLOBAL_BUFFER_CODED, "dram": CODES, "address": 0, "length": 512}
    for _ in range(2):
        bench.note(body)
    words = np.zeros(SPACE // 2, np.int16)
    code = bench.memory.data[CODES:CODES + 512].view("<u8")
    at = 0
    for word in code.tolist():
        for pair in range(3):
            run, level = word >> 21 * pair & 31, word >> 21 * pair + 5 & 0xFFFF
            words[at + run] = np.uint16(level).view(np.int16)
            at += run + 1
    for snapshot in bench.snapshots:
        snapshot[Destination.GLOBAL_BUFFER][:2 * at] = words[:at].view(np.uint8)
    bench.run()
