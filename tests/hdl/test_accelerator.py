"""The whole accelerator on small configurations: a program written by hand, and layers on every kind of array."""

import numpy as np
import pytest
from amaranth.hdl import ClockDomain, Module
from amaranth.lib import data
from kinds import PROGRAMS, each_build, stores

from pearray.hdl.accelerator import Accelerator, counter_registers
from pearray.hdl.shell.commands import Opcode, Rounding
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

    def __init__(self, rng, config, **memory):
        self.rng = rng
        self.dut = Accelerator(config)
        self.memory = MemoryModel(self.dut.m_axi, rng=rng, **memory)
        self.memory.data[:] = rng.integers(0, 256, self.memory.size)

    def put(self, address, image):
        """Put bytes into memory."""
        self.memory.data[address:address + len(image)] = np.frombuffer(image, np.uint8)

    def read(self, address, length):
        """Bytes of memory."""
        return self.memory.data[address:address + length].tobytes()

    def prepare(self, case):
        """Put a compiled case into memory, and noise where its outputs go."""
        for placed in case.compiled.outputs.values():
            self.put(placed.address, self.rng.bytes(placed.nbytes))
        for address, image in case.segments:
            self.put(address, image)

    async def counter(self, ctx, name):
        """Read a performance counter."""
        words = [await lite_read(ctx, self.dut.s_axi, word) for word in counter_registers(self.dut.config)[name]]
        return sum(value << 32 * index for index, value in enumerate(words))

    async def begin(self, ctx, address):
        """Start a program."""
        await lite_write(ctx, self.dut.s_axi, PROGRAM_ADDRESS, address)
        await lite_write(ctx, self.dut.s_axi, CONTROL, 1)

    async def end(self, ctx):
        """Wait until the program is done; return the status. After an error, nothing is in flight."""
        status = 0
        while not status & DONE:
            status = await lite_read(ctx, self.dut.s_axi, STATUS)
        if status & ERROR and Cause(status >> 8 & 0xFF) is not Cause.TIMEOUT:
            assert (self.memory.reads_in_flight, self.memory.writes_in_flight) == ([], [])
        return status

    async def start(self, ctx, address=PROGRAM):
        """Start a program and wait until it is done; return the status."""
        await self.begin(ctx, address)
        return await self.end(ctx)

    async def cause(self, ctx, address=PROGRAM):
        """Wait for the end of a run that must fail; return its cause and address."""
        status = await self.start(ctx, address)
        assert status & ERROR
        return Cause(status >> 8 & 0xFF), await lite_read(ctx, self.dut.s_axi, ERROR_ADDRESS)

    async def succeed(self, ctx, case):
        """Run a case and compare its outputs; return the cycles that it took."""
        self.prepare(case)
        assert await self.start(ctx, case.compiled.program_address) == DONE
        case.compare(self.read)
        return await self.counter(ctx, "cycles")

    def simulate(self, testbench, dut=None):
        """Run a testbench beside the memory."""
        simulate(dut or self.dut, testbench, background=self.memory.testbenches, timeout=5000)


def program_with_a_move(commands, c, *, rows=5, inner=4):
    """Assemble C = A W, where W (inner, COLS) are the first bytes of the int32 sums A B, moved from the outputs."""
    one = {"count1": 1, "count2": 1}
    execute = {"first": 1, "k_total": inner, "run": inner, "run_count": 1, "n_count": 1, "m_count0": rows,
               "m_count1": 1, "m_count2": 1, "m_step0": inner, "w_pitch": COLS}
    post = {"rounding": Rounding.NONE, "n_count": 1, "m_count": rows, "out_base": 16, "out_mstep": 4 * COLS}
    return b"".join(commands.encode(*command) for command in (
        (Opcode.LOAD, {}, {"destination": Destination.ACTIVATION, "dram": A, "length": rows * inner} | one),
        (Opcode.LOAD, {}, {"destination": Destination.WEIGHT, "dram": B, "address": 32, "length": inner * COLS} | one),
        (Opcode.EXECUTE, {"load": 2}, execute | {"w_base": 32}),
        (Opcode.POST, {"execute": 1}, post),
        (Opcode.MOVE, {"post": 1}, {"destination": Destination.WEIGHT, "address": 16, "target": 3,
                                    "length": inner * COLS} | one),
        (Opcode.EXECUTE, {"move": 1}, execute | {"w_base": 3, "bank": 1}),
        (Opcode.POST, {"execute": 2, "move": 1}, post | {"bank": 1}),
        (Opcode.STORE, {"post": 2}, {"dram": c, "address": 16, "length": rows * 4 * COLS} | one),
        (Opcode.END, {"store": 1}, {})))


def layers(rng, kind):
    """Draw a small layer of several commands of every kind and a smaller one, for the kind's least accelerator."""
    return [kind.layer(rng, *shape).compile(kind.tiny, search=True)
            for shape in ((2, int(rng.integers(3, 5)), 3), (1, 2, 2))]


@pytest.mark.parametrize(("data_width", "stall"), [(32, 0.0), (64, 0.4), (128, 0.2)])
def test_counters_of_a_program(rng, data_width, stall):
    """A command or access would be counted twice, never, or for another engine, or a record differ from counters."""
    bench = Bench(rng, configuration(data_width), stall=stall)
    beat = data_width // 8

    def span(start, size):
        return -(-(start % beat + size) // beat)

    async def testbench(ctx):
        for c in (0x3000, 0x3805):
            bench.put(PROGRAM, program(c))
            assert await bench.start(ctx) == DONE
            signed = bench.memory.data.view(np.int8).astype(np.int64)
            expected = signed[A:A + 35].reshape(5, 7) @ signed[B:B + 7 * COLS].reshape(7, COLS)
            found = np.frombuffer(bench.read(c, 20 * COLS), "<i4").reshape(5, COLS)
            np.testing.assert_array_equal(found, expected)
        counters = {name: await bench.counter(ctx, name) for name in counter_registers(bench.dut.config)}
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


def test_outputs_become_weights(rng):
    """A layer would compute with weights that were not moved, late, to another place, or over its activations."""
    config = next(kind.tiny for kind in PROGRAMS if kind.name == "moves")
    bench = Bench(rng, config)
    c, rows, inner = 0x3000, 5, 4

    async def testbench(ctx):
        bench.put(PROGRAM, program_with_a_move(config.commands, c))
        assert await bench.start(ctx) == DONE
        signed = bench.memory.data.view(np.int8).astype(np.int32)
        a = signed[A:A + rows * inner].reshape(rows, inner)
        sums = a @ signed[B:B + inner * COLS].reshape(inner, COLS)
        moved = np.frombuffer(sums.astype("<i4").tobytes(), np.int8)[:inner * COLS].astype(np.int32)
        found = np.frombuffer(bench.read(c, rows * 4 * COLS), "<i4").reshape(rows, COLS)
        np.testing.assert_array_equal(found, a @ moved.reshape(inner, COLS))
        assert await bench.counter(ctx, "move_commands") == 1
        # Bytes 3 to 10.
        assert await bench.counter(ctx, "moved_beats") == 3

    bench.simulate(testbench)


@each_build
def test_back_to_back_programs(rng, kind):
    """A second program would meet leftovers of the first, or, at the end of memory, fail as the fetch reads ahead."""
    bench = Bench(rng, kind.tiny, stall=0.2)
    case, other = layers(rng, kind)
    commands = other.commands
    place = bench.memory.size - 64 * len(commands)
    bad = place + 64 * int(rng.integers(1, len(commands)))

    async def testbench(ctx):
        await bench.succeed(ctx, case)
        assert await bench.counter(ctx, "commands") == len(case.commands)
        bench.prepare(other)
        bench.put(place, b"".join(commands))
        assert await bench.start(ctx, place) == DONE
        other.compare(bench.read)
        assert await bench.counter(ctx, "commands") == len(commands)
        bench.memory.data[bad] = 9
        assert await bench.cause(ctx, place) == (Cause.BAD_COMMAND, bad)

    bench.simulate(testbench)


@each_build
def test_error_response(rng, kind):
    """An error would be lost, hang the ports, end the run with bursts in flight, or spoil the next program."""
    # Some bursts are long under way when the error comes.
    bench = Bench(rng, kind.tiny, stall=float(rng.choice([0.0, 0.2])), write_latency=30)
    case, other = layers(rng, kind)

    async def testbench(ctx):
        memory = bench.memory
        x, = case.compiled.inputs.values()
        y, = case.compiled.outputs.values()
        for where in ("fetch", "load", "store"):
            response, name = [(SLVERR, "SLVERR"), (DECERR, "DECERR")][rng.integers(2)]
            bench.prepare(case)
            memory.reads.clear()
            memory.writes.clear()
            if where == "store":
                # The first burst, behind which others are under way.
                errors, direction = memory.write_errors, "WRITE"
                errors |= dict.fromkeys(range(y.address & -4, y.address + y.nbytes), response)
            else:
                address = (case.address(rng, x) if where == "load" else
                           case.compiled.program_address + int(rng.integers(64 * len(case.commands)))) & -4
                errors, direction = memory.read_errors, "READ"
                errors[address] = response
            cause, burst = await bench.cause(ctx, case.compiled.program_address)
            assert cause is Cause[f"{direction}_{name}"], where
            if where == "store":
                assert burst == memory.writes[0][0]
            else:
                assert burst in [burst for burst, beats in memory.reads if burst <= address < burst + 4 * beats], where
            errors.clear()
        await bench.succeed(ctx, other)

    bench.simulate(testbench)


@each_build
def test_empty_commands(rng, kind):
    """A length or count of zero would hang, move 65,536 rows, or spoil the program after it."""
    bench = Bench(rng, kind.tiny)
    case, other = layers(rng, kind)
    command_set = kind.tiny.commands
    opcodes = [Opcode(command[0]) for command in case.commands]
    counted, excepted = command_set.counts, command_set.counts_except

    async def testbench(ctx):
        for opcode, names in counted.items():
            if not names or opcode not in opcodes:
                continue
            place = case.compiled.program_address + 64 * opcodes.index(opcode)
            name = str(rng.choice(names))
            layout = data.Layout.cast(command_set.bodies[opcode])
            field = layout[name]
            bench.prepare(case)
            command = int.from_bytes(bench.read(place, 64), "little")
            if name in excepted.get(opcode, ()):
                command &= ~(1 << command_set.header_bits)
            command &= ~((1 << field.width) - 1 << command_set.header_bits + field.offset)
            bench.put(place, command.to_bytes(64, "little"))
            # From there on, so that the commands before it take no time.
            assert await bench.cause(ctx, place) == (Cause.BAD_COMMAND, place), name
        bench.prepare(case)
        assert await bench.cause(ctx, case.compiled.program_address + 8) == (
            Cause.BAD_COMMAND, case.compiled.program_address)
        await bench.succeed(ctx, other)

    bench.simulate(testbench)


@each_build
def test_hung_memory(rng, kind):
    """A memory that stops answering would hang the host; one that comes back would spoil the next run."""
    bench = Bench(rng, kind.tiny)
    case, other = layers(rng, kind)

    async def testbench(ctx):
        await lite_write(ctx, bench.dut.s_axi, TIMEOUT, 100)
        for storing in (False, True):
            bench.prepare(case)
            await bench.begin(ctx, case.compiled.program_address)
            if storing:
                # Beats that wait for memory are refused when the run ends.
                await ctx.tick().until(bench.dut.m_axi.wvalid)
            else:
                await ctx.tick().repeat(150 - int(rng.integers(100)))
            bench.memory.hung = True
            status = await bench.end(ctx)
            assert (status & ERROR, Cause(status >> 8 & 0xFF)) == (ERROR, Cause.TIMEOUT)
            if not storing:
                assert (await bench.cause(ctx, case.compiled.program_address))[0] is Cause.TIMEOUT
            bench.memory.hung = False
        await bench.succeed(ctx, other)

    bench.simulate(testbench)


@each_build
def test_reset_in_mid_run(rng, kind):
    """Some state would survive reset and spoil the next run."""
    bench = Bench(rng, kind.tiny)
    case, other = layers(rng, kind)
    module = Module()
    module.domains.sync = domain = ClockDomain("sync")
    module.submodules.dut = bench.dut

    async def testbench(ctx):
        for cycles in (150, 300):
            bench.prepare(case)
            await bench.begin(ctx, case.compiled.program_address)
            await ctx.tick().repeat(cycles - int(rng.integers(100)))
            for level in (1, 0):
                ctx.set(domain.rst, level)
                await ctx.tick()
            assert await lite_read(ctx, bench.dut.s_axi, STATUS) == 0
        await bench.succeed(ctx, other)

    bench.simulate(testbench, module)


@each_build
def test_stores_without_room(rng, kind):
    """A row's first or last bytes would be lost, or others written, when a beat must wait for room in the writer."""
    # Behind the first 16 beats, none finds room: each comes when one has left.
    bench = Bench(rng, kind.tiny, write_pace=3)

    async def testbench(ctx):
        for _ in range(2):
            text, written = stores(rng, kind.tiny, 0x2000, 2)
            bench.put(PROGRAM, text)
            expected, beats = bench.memory.data.copy(), bench.memory.write_beats
            expected[0x2000:0x2000 + len(written)][written] = 0
            assert await bench.start(ctx) == DONE
            np.testing.assert_array_equal(bench.memory.data, expected)
            assert bench.memory.write_beats > beats + 40
            bench.put(0x2000, rng.bytes(len(written)))

    bench.simulate(testbench)
