"""The whole accelerator on a small configuration, with programs written by hand."""

import numpy as np
import pytest
from amaranth.hdl import ClockDomain, Module
from amaranth.lib import data

from pearray.hdl.accelerator import Accelerator, counter_registers
from pearray.hdl.shell.commands import HEADER_BITS, Opcode, Rounding
from pearray.hdl.shell.config import Array, Memory, Post
from pearray.hdl.shell.registers import Cause
from pearray.hdl.systolic.commands import COMMANDS, Destination
from pearray.hdl.systolic.config import Accumulators, Scratchpads, SystolicConfig
from pearray.sim.pysim import simulate
from pearray.sim.pysim_memory import DECERR, SLVERR, MemoryModel, lite_read, lite_write

CONTROL, STATUS, PROGRAM_ADDRESS, ERROR_ADDRESS, TIMEOUT = 0x008, 0x00C, 0x010, 0x014, 0x018
PROGRAM, A, B, RECORD = 0x0400, 0x2003, 0x2101, 0x2F40
DONE, ERROR = 2, 4
COLS = 2


def configuration(data_width=32):
    return SystolicConfig(
        name="tiny", array=Array(rows=2, cols=COLS),
        scratchpads=Scratchpads(activation_bytes=256, weight_bytes=256, output_bytes=256),
        accumulators=Accumulators(depth=16), post=Post(lanes=1), memory=Memory(data_width=data_width),
    )


def program(c, *, rows=5, inner=7):
    """Assemble C = A B with int8 A (rows, inner) at A, B (inner, COLS) at B and int32 C at ``c``."""
    one = {"count1": 1, "count2": 1}
    encode = COMMANDS.encode
    return b"".join([
        encode(Opcode.LOAD, {}, {"destination": Destination.ACTIVATION, "dram": A, "address": 0,
                                 "length": rows * inner} | one),
        encode(Opcode.LOAD, {}, {"destination": Destination.WEIGHT, "dram": B, "address": 8,
                                 "length": inner * COLS} | one),
        encode(Opcode.EXECUTE, {"load": 2}, {
            "first": 1, "k_total": inner, "run": inner, "run_count": 1, "n_count": 1,
            "m_count0": rows, "m_count1": 1, "m_count2": 1, "m_step0": inner, "w_base": 8, "w_pitch": COLS}),
        encode(Opcode.POST, {"execute": 1}, {"rounding": Rounding.NONE, "n_count": 1, "m_count": rows,
                                             "out_base": 16, "out_mstep": 4 * COLS}),
        encode(Opcode.STORE, {"post": 1}, {"dram": c, "address": 16, "length": rows * 4 * COLS} | one),
        encode(Opcode.STORE, {"store": 1}, {"profile": 1, "dram": RECORD}),
        encode(Opcode.END, {"store": 2}, {}),
    ])


class Bench:
    """An accelerator with its memory."""

    def __init__(self, rng, data_width=32, **memory):
        self.rng = rng
        self.dut = Accelerator(configuration(data_width))
        self.memory = MemoryModel(self.dut.m_axi, rng=rng, **memory)
        self.memory.data[:] = rng.integers(0, 256, self.memory.size)

    def prepare(self, c, **shape):
        """Put a program into memory; return what it should compute."""
        rows, inner = shape.get("rows", 5), shape.get("inner", 7)
        text = np.frombuffer(program(c, **shape), np.uint8)
        self.memory.data[PROGRAM:PROGRAM + len(text)] = text
        signed = self.memory.data.view(np.int8).astype(np.int64)
        a = signed[A:A + rows * inner].reshape(rows, inner)
        b = signed[B:B + inner * COLS].reshape(inner, COLS)
        return a @ b

    def result(self, c, rows=5):
        """Read the product back."""
        return self.memory.data[c:c + rows * 4 * COLS].view("<i4").reshape(rows, COLS)

    async def start(self, ctx, address=PROGRAM):
        """Start a program and wait until it is done; return the status and the cycles it took."""
        bus = self.dut.s_axi
        await lite_write(ctx, bus, PROGRAM_ADDRESS, address)
        await lite_write(ctx, bus, CONTROL, 1)
        status = 0
        while not status & DONE:
            status = await lite_read(ctx, bus, STATUS)
        return status

    async def cause(self, ctx):
        """Wait for the end of a run that must fail; return its cause and address."""
        status = await self.start(ctx)
        assert status & ERROR
        return Cause(status >> 8 & 0xFF), await lite_read(ctx, self.dut.s_axi, ERROR_ADDRESS)

    async def succeed(self, ctx, c):
        """Run the program and compare its product."""
        expected = self.prepare(c)
        assert await self.start(ctx) == DONE
        np.testing.assert_array_equal(self.result(c), expected)

    def simulate(self, testbench):
        """Run a testbench beside the memory."""
        simulate(self.dut, testbench, background=self.memory.testbenches, timeout=4_000)


@pytest.mark.parametrize(("data_width", "stall"), [(32, 0.0), (64, 0.4), (128, 0.2)])
def test_back_to_back_programs(rng, data_width, stall):
    """A second program would meet leftovers of the first: counts, queued commands, or stale beats."""
    bench = Bench(rng, data_width, stall=stall)

    async def testbench(ctx):
        await bench.succeed(ctx, 0x3000)
        await bench.succeed(ctx, 0x3805)
        counters = {}
        for name, words in counter_registers(bench.dut.config).items():
            values = [await lite_read(ctx, bench.dut.s_axi, word) for word in words]
            counters[name] = sum(value << 32 * index for index, value in enumerate(values))
        beat = data_width // 8

        def span(start, size):
            return -(-(start % beat + size) // beat)

        assert counters["commands"] == 7
        assert [counters[f"{name}_commands"] for name in ("load", "execute", "post", "store")] == [2, 1, 1, 2]
        assert counters["load_beats"] == span(A, 35) + span(B, 7 * COLS)
        assert counters["write_beats"] == span(0x3805, 20 * COLS) + span(RECORD, 16)
        assert counters["fetch_beats"] >= 7 * 64 // beat
        assert counters["execute_active"] == 4 * 5
        record = bench.memory.data[RECORD:RECORD + 16].view("<u4")
        assert record[0] < counters["cycles"]
        assert record[1] == counters["load_beats"] + counters["fetch_beats"]
        assert record[2] == span(0x3805, 20 * COLS)
        assert record[3] == counters["execute_active"]

    bench.simulate(testbench)


@pytest.mark.parametrize("stall", [0.0, 0.3])
def test_error_response(rng, stall):
    """An error would be lost, hang the ports, be reported wrongly, or spoil the next program."""
    bench = Bench(rng, stall=stall)
    c = 0x3000

    async def testbench(ctx):
        for where in ("fetch", "load", "store"):
            beat = int(rng.integers(0, 6)) * 4
            errors, address, direction = {
                "fetch": (bench.memory.read_errors, PROGRAM + 64 * int(rng.integers(0, 6)) + beat, "READ"),
                "load": (bench.memory.read_errors, A - A % 4 + beat, "READ"),
                "store": (bench.memory.write_errors, c, "WRITE"),
            }[where]
            burst = {"fetch": address - address % 64, "load": A - A % 4, "store": c}[where]
            response, kind = [(SLVERR, "SLVERR"), (DECERR, "DECERR")][rng.integers(0, 2)]
            bench.prepare(c)
            errors[address] = response
            assert await bench.cause(ctx) == (Cause[f"{direction}_{kind}"], burst), where
            errors.clear()
        await bench.succeed(ctx, c)

    bench.simulate(testbench)


def test_errors_beyond_the_end(rng):
    """A program at the end of memory would fail, as the fetch reads ahead; a corrupt one would run on."""
    bench = Bench(rng)
    bench.prepare(0x3000)
    place = bench.memory.size - 64 * 7
    bench.memory.data[place:] = bench.memory.data[PROGRAM:PROGRAM + 64 * 7]

    async def testbench(ctx):
        assert await bench.start(ctx, place) == DONE
        bench.memory.data[PROGRAM + 3 * 64] = 9
        assert await bench.cause(ctx) == (Cause.BAD_COMMAND, PROGRAM + 3 * 64)
        await bench.succeed(ctx, 0x3000)

    bench.simulate(testbench)


def test_empty_commands(rng):
    """A length or count of zero would hang, move 65,536 rows, or spoil the program after it."""
    bench = Bench(rng)
    c = 0x3000

    async def testbench(ctx):
        for index, opcode in enumerate((Opcode.LOAD, Opcode.LOAD, Opcode.EXECUTE, Opcode.POST, Opcode.STORE)):
            name = str(rng.choice(COMMANDS.counts[opcode]))
            field = data.Layout.cast(COMMANDS.bodies[opcode])[name]
            bench.prepare(c)
            place = PROGRAM + 64 * index
            command = int.from_bytes(bench.memory.data[place:place + 64].tobytes(), "little")
            command &= ~((1 << field.width) - 1 << HEADER_BITS + field.offset)
            bench.memory.data[place:place + 64] = np.frombuffer(command.to_bytes(64, "little"), np.uint8)
            before = bench.memory.data.copy()
            assert await bench.cause(ctx) == (Cause.BAD_COMMAND, place), name
            np.testing.assert_array_equal(bench.memory.data, before)
        bench.prepare(c)
        bus = bench.dut.s_axi
        status = await bench.start(ctx, PROGRAM + 8)
        assert (status & ERROR, Cause(status >> 8 & 0xFF)) == (ERROR, Cause.BAD_COMMAND)
        assert await lite_read(ctx, bus, ERROR_ADDRESS) == PROGRAM
        await bench.succeed(ctx, c)

    bench.simulate(testbench)


def test_hung_memory(rng):
    """A memory that stops answering would hang the host; one that comes back would spoil the next run."""
    bench = Bench(rng)

    async def testbench(ctx):
        bus = bench.dut.s_axi
        await lite_write(ctx, bus, TIMEOUT, 100)
        await lite_write(ctx, bus, PROGRAM_ADDRESS, PROGRAM)
        for cycles in (50, 120, 190):
            bench.prepare(0x3000)
            await lite_write(ctx, bus, CONTROL, 1)
            await ctx.tick().repeat(cycles)
            bench.memory.hung = True
            status = 0
            while not status & DONE:
                status = await lite_read(ctx, bus, STATUS)
            assert (status & ERROR, Cause(status >> 8 & 0xFF)) == (ERROR, Cause.TIMEOUT)
            if cycles == 120:
                assert (await bench.cause(ctx))[0] is Cause.TIMEOUT
            bench.memory.hung = False
        await bench.succeed(ctx, 0x3000)

    bench.simulate(testbench)


def test_reset_in_mid_run(rng):
    """Some state would survive reset and spoil the next run."""
    bench = Bench(rng)
    module = Module()
    module.domains.sync = domain = ClockDomain("sync")
    module.submodules.dut = bench.dut

    async def testbench(ctx):
        bus = bench.dut.s_axi
        for cycles in (40, 110, 180):
            bench.prepare(0x3000)
            await lite_write(ctx, bus, PROGRAM_ADDRESS, PROGRAM)
            await lite_write(ctx, bus, CONTROL, 1)
            await ctx.tick().repeat(cycles + int(rng.integers(0, 30)))
            for level in (1, 0):
                ctx.set(domain.rst, level)
                await ctx.tick()
            assert await lite_read(ctx, bus, STATUS) == 0
        await bench.succeed(ctx, 0x3000)

    simulate(module, testbench, background=bench.memory.testbenches, timeout=4_000)
