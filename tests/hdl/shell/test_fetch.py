"""Fetch, command queues and token gates, with engines that only count."""

from itertools import cycle, islice

import numpy as np
import pytest
from amaranth.hdl import Module, Value
from amaranth.lib import data, wiring

from pearray.hdl.row_stationary.commands import COMMANDS as PASSES
from pearray.hdl.row_stationary.commands import Destination
from pearray.hdl.shell.commands import FORMAT_VERSION, Opcode
from pearray.hdl.shell.config import Array, Memory, Post
from pearray.hdl.shell.fetch import Fetch
from pearray.hdl.shell.queues import CommandQueues, slot_name
from pearray.hdl.shell.reader import Reader
from pearray.hdl.shell.tokens import TokenGates
from pearray.hdl.systolic.commands import COMMANDS, command_set
from pearray.hdl.systolic.config import Accumulators, Scratchpads, SystolicConfig
from pearray.sim.pysim import simulate
from pearray.sim.pysim_memory import MemoryModel

PROGRAM = 0x1340


def configuration(data_width, moves=0):
    size = 1 << 12
    return SystolicConfig(
        name="test", array=Array(rows=4, cols=4),
        scratchpads=Scratchpads(activation_bytes=size, weight_bytes=size, output_bytes=size, moves=moves),
        accumulators=Accumulators(depth=16), post=Post(), memory=Memory(data_width=data_width),
    )


class Bench:
    """Fetch to gates, and one engine per queue that takes a random time for each command."""

    def __init__(self, rng, data_width=64, busy=0.9, depth=16, program_address=PROGRAM, moves=0, **memory):
        self.rng = rng
        self.busy = busy
        self.module = m = Module()
        config = configuration(data_width, moves)
        self.names = [opcode.name.lower() for opcode in config.commands.queues]
        m.submodules.reader = self.reader = Reader(config, 1)
        m.submodules.fetch = self.fetch = Fetch(config)
        m.submodules.queues = self.queues = CommandQueues(config, depth)
        m.submodules.gates = self.gates = TokenGates(config.commands)
        wiring.connect(m, self.fetch.request, self.reader.request[0])
        wiring.connect(m, self.reader.response[0], self.fetch.response)
        m.d.comb += [
            self.reader.drain.eq(~self.fetch.run),
            self.fetch.program_address.eq(program_address),
            self.fetch.room.eq(self.queues.room),
            self.fetch.hungry.eq(self.queues.hungry),
            self.queues.put.eq(self.fetch.put),
            self.queues.queue.eq(self.fetch.queue),
            self.queues.beat.eq(self.fetch.beat),
            self.queues.data.eq(self.fetch.data),
            self.gates.valid.eq(self.queues.valid),
            self.queues.take.eq(self.gates.take),
        ]
        for opcode in config.commands.queues:
            name = slot_name(opcode)
            m.d.comb += getattr(self.gates, name).eq(getattr(self.queues, name))
        self.memory = MemoryModel(self.reader.bus, rng=rng, **memory)
        self.log = []
        self.completed = dict.fromkeys(self.names, 0)
        self.taken = dict.fromkeys(self.names, 0)
        self.released = 0
        self.bad = []

    def engine(self, index, name):
        """Make a background testbench: takes commands, and completes them in order some time later."""
        async def testbench(ctx):
            commands = getattr(self.gates, name)
            waiting = 0
            ready = done = released = False
            kept = 0
            async for _, _, valid, payload in ctx.tick().sample(commands.valid, Value.cast(commands.payload)):
                if done:
                    # The count that the gates know has grown with this edge.
                    self.completed[name] += 1
                    waiting -= 1
                if released:
                    self.released += 1
                    kept -= 1
                if valid and ready:
                    counts = dict(self.completed)
                    if name == "execute":
                        # A POST that has released its sums has read them.
                        counts["post"] = self.released
                    self.log.append((name, payload, counts))
                    waiting += 1
                    kept += name == "post"
                ready = self.rng.random() > self.busy / 2
                released = kept > 0 and self.rng.random() > self.busy
                done = waiting > kept and self.rng.random() > self.busy
                ctx.set(commands.ready, ready)
                ctx.set(self.gates.done[index], done)
                if name == "post":
                    ctx.set(self.gates.released, released)
        return testbench

    async def watch_bad(self, ctx):
        """Note unknown commands."""
        async for _, _, bad, address in ctx.tick().sample(self.fetch.bad, self.fetch.bad_address):
            if bad:
                self.bad.append(address)

    def run(self, program, timeout=20_000):
        """Run a program until it has finished or met an unknown command."""
        data = np.frombuffer(program, np.uint8)
        self.memory.data[:] = self.rng.integers(0, 256, self.memory.size)
        self.memory.data[PROGRAM:PROGRAM + len(data)] = data

        async def drive(ctx):
            for _ in range(3):
                await ctx.tick()
            ctx.set(self.fetch.run, 1)
            while not ctx.get(self.gates.finished) and not self.bad:
                await ctx.tick()
            ctx.set(self.fetch.run, 0)
            while not ctx.get(self.reader.idle):
                await ctx.tick()

        engines = [self.engine(index, name) for index, name in enumerate(self.names)]
        simulate(self.module, drive, background=[*self.memory.testbenches, *engines, self.watch_bad],
                 timeout=timeout)


def random_command(rng, commands, counts, following=15):
    """Draw a command that waits for some commands before it; give its opcode, waits, body bits and bytes."""
    opcode = commands.queues[rng.integers(len(commands.queues))]
    layout = data.Layout.cast(commands.bodies[opcode])
    bits = int.from_bytes(rng.bytes(52), "little") % (1 << layout.size)
    for name in commands.counts[opcode]:
        bits |= 1 << layout[name].offset + int(rng.integers(layout[name].width))
    waits = {name: int(rng.integers(max(0, count - 3), count + 1)) for name, count in counts.items()}
    header = int.from_bytes(commands.encode(opcode, waits, {}, following), "little")
    return opcode, waits, bits, (header | bits << commands.header_bits).to_bytes(64, "little")


def random_program(rng, count, told=False, moves=0):
    format = command_set(moves=bool(moves))
    counts = dict.fromkeys([opcode.name.lower() for opcode in format.queues], 0)
    commands = []
    program = b""
    for following in range(count, 0, -1):
        opcode, waits, bits, encoded = random_command(rng, format, counts, following if told else 15)
        commands.append((opcode.name.lower(), waits, bits))
        counts[opcode.name.lower()] += 1
        program += encoded
    return commands, program + format.encode(Opcode.END, counts, {}, 0 if told else 15)


@pytest.mark.parametrize("moves", [0, 1])
@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("data_width", [32, 64, 128, 512])
def test_order_and_waits(rng, data_width, stall, moves):
    """A dropped token, a swapped count, a lost beat or a reordered queue would start a wrong command."""
    commands, program = random_program(rng, 60, moves=moves)
    bench = Bench(rng, data_width, busy=float(rng.choice([0.3, 0.9])), stall=stall, moves=moves,
                  read_latency=int(rng.integers(1, 30)))
    bench.run(program)
    assert not bench.bad
    assert sum(bench.completed.values()) == len(commands)
    for name in bench.names:
        expected = [(waits, bits) for queue, waits, bits in commands if queue == name]
        started = [(bits, completed) for queue, bits, completed in bench.log if queue == name]
        assert len(started) == len(expected)
        for index, ((waits, bits), (seen, completed)) in enumerate(zip(expected, started, strict=True)):
            assert seen == bits, f"body of {name} command {index}"
            for other, count in waits.items():
                assert completed[other] >= count, f"{name} command {index} started before {count} {other}"


@pytest.mark.parametrize("data_width", [32, 64, 512])
@pytest.mark.parametrize("count", [1, 6, 30])
def test_nothing_is_read_beyond_the_end(rng, data_width, count):
    """Reads beyond the end would be wasted, may hit what must not be read, and no model could count them."""
    commands, program = random_program(rng, count, told=True)
    bench = Bench(rng, data_width, busy=0.3, stall=float(rng.choice([0.0, 0.3])), read_latency=int(rng.integers(1, 30)))
    bench.run(program)
    assert sum(bench.completed.values()) == len(commands)
    assert count + 1 <= len(bench.memory.reads) <= max(count + 1, bench.fetch.ahead)


@pytest.mark.parametrize("wait", [0, 1, 3, 0x8000, 0x8001, 0x8003, 0xFFFD, 0xFFFF])
def test_counts_wrap(wait):
    """Programs of more than 65,536 commands of a queue would stall or lose their order."""
    module = Module()
    module.submodules.gates = gates = TokenGates(COMMANDS)
    command = int.from_bytes(COMMANDS.encode(Opcode.EXECUTE, {"load": wait}, {}), "little")

    async def drive(ctx):
        ctx.set(gates.slot_execute, command % (1 << len(gates.slot_execute)))
        for count in range(6):
            # Counting takes one cycle, opening the gate another.
            await ctx.tick()
            ctx.set(gates.valid, 0b0010)
            await ctx.tick()
            assert ctx.get(gates.execute.valid) == ((count - wait) % (1 << 16) < 1 << 15), count
            ctx.set(gates.execute.ready, 1)
            await ctx.tick()
            ctx.set(gates.execute.ready, 0)
            ctx.set(gates.valid, 0)
            ctx.set(gates.done, 0b0001)
            await ctx.tick()
            ctx.set(gates.done, 0)

    simulate(module, drive)


@pytest.mark.parametrize(("destination", "free"), [
    (Destination.FILTER_BUFFER, "filters_free"), (Destination.GLOBAL_BUFFER, "ifmap_free"),
    (Destination.GLOBAL_BUFFER_CODED, "ifmap_free")])
def test_passes_give_buffers_back(destination, free):
    """A load would overwrite what a pass has not yet read, or wait until its last sums are written."""
    module = Module()
    module.submodules.gates = gates = TokenGates(PASSES)
    command = int.from_bytes(PASSES.encode(Opcode.LOAD, {"execute": 2}, {"destination": destination}), "little")

    async def drive(ctx):
        ctx.set(gates.slot_load, command % (1 << len(gates.slot_load)))
        ctx.set(gates.valid, 0b0001)
        other, = {"filters_free", "ifmap_free"} - {free}
        # What the other buffer gives back, and commands that complete, say nothing of this one.
        for name, opened in ((other, 0), (other, 0), (other, 0), (free, 0), (free, 1)):
            ctx.set(getattr(gates, name), 1)
            ctx.set(gates.done, 0b0010)
            await ctx.tick()
            ctx.set(getattr(gates, name), 0)
            ctx.set(gates.done, 0)
            await ctx.tick().repeat(2)
            assert ctx.get(gates.load.valid) == opened

    simulate(module, drive)


@pytest.mark.parametrize(("position", "byte", "value"), [(0, 0, 5), (3, 0, 255), (7, 1, FORMAT_VERSION + 1)])
def test_unknown_command(rng, position, byte, value):
    """A corrupt program would be executed, or its address reported wrongly."""
    _, program = random_program(rng, 12)
    broken = bytearray(program)
    broken[position * 64 + byte] = value
    bench = Bench(rng, busy=0.1)
    bench.run(bytes(broken))
    assert bench.bad == [PROGRAM + 64 * position]
    assert len(bench.log) <= position


@pytest.mark.parametrize("moves", [0, 1])
@pytest.mark.parametrize("first", [0, *(pytest.param(first, marks=pytest.mark.slow) for first in range(1, 5))])
def test_zero_counts(rng, first, moves):
    """A length or count of zero would wrap: the engine would move 65,536 rows, or hang.

    Widths of the bus take turns; the slow tests begin with each of the others.
    """
    format, widths = command_set(moves=bool(moves)), islice(cycle((32, 64, 128, 256, 512)), first, None)
    for opcode in format.queues:
        layout = data.Layout.cast(format.bodies[opcode])
        for name, data_width in zip(format.counts[opcode], widths, strict=False):
            commands, program = random_program(rng, 2, moves=moves)
            flag = int(rng.integers(2))
            bits = int.from_bytes(rng.bytes(52), "little") % (1 << layout.size) & ~1 | flag
            for other in format.counts[opcode]:
                bits |= 1 << layout[other].offset + int(rng.integers(layout[other].width))
            bits &= ~((1 << layout[name].width) - 1 << layout[name].offset)
            bench = Bench(rng, data_width, busy=0.1, moves=moves)
            header = int.from_bytes(format.encode(opcode, {}, {}), "little")
            program = program[:-64] + (header | bits << format.header_bits).to_bytes(64, "little") + format.encode(
                Opcode.END, {other: sum(queue == other for queue, *_ in commands) for other in bench.names}, {})
            bench.run(program)
            allowed = flag and name in format.counts_except.get(opcode, ())
            assert bench.bad == ([] if allowed else [PROGRAM + 128]), (opcode, name, flag)


def test_misaligned_program(rng):
    """A program at no multiple of 64 would be read from another place than the host wrote."""
    _, program = random_program(rng, 3)
    bench = Bench(rng, program_address=PROGRAM + 4)
    bench.run(program)
    assert bench.bad == [PROGRAM]
    assert not bench.memory.reads


def test_first_command_is_fast(rng):
    """Each cycle between start and the first load is a cycle of every program."""
    _, program = random_program(rng, 0)
    load = COMMANDS.encode(Opcode.LOAD, {}, {"length": 8, "count1": 1, "count2": 1})
    bench = Bench(rng, busy=0.0, read_latency=5)
    cycles = {}

    async def watch(ctx):
        signals = {"run": bench.fetch.run, "address": bench.reader.bus.arvalid,
                   "data": bench.reader.bus.rvalid, "load": bench.gates.load.valid}
        cycle = 0
        async for _, _, *values in ctx.tick().sample(*signals.values()):
            for name, value in zip(signals, values, strict=True):
                if value:
                    cycles.setdefault(name, cycle)
            cycle += 1

    bench.memory.__class__ = type("Watched", (MemoryModel,), {
        "testbenches": property(lambda self: [*MemoryModel.testbenches.fget(self), watch])})
    bench.run(load + program)
    assert cycles["address"] - cycles["run"] == 1
    assert cycles["data"] - cycles["address"] == 5
    # The load's last bits are in the fifth beat.
    assert cycles["load"] - cycles["data"] == 4 + 2
