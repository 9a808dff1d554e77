# amaranth: UnusedElaboratable=no
"""Loads of any alignment into a buffer of lines, and its wide port, against a plain list of bytes."""

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import data, wiring
from amaranth.sim import Simulator

from pearray.hdl.row_stationary.buffer import GlobalBuffer as Buffer
from pearray.hdl.row_stationary.buffer import LineReader, WideRead, buffer_ways
from pearray.hdl.row_stationary.commands import Destination
from pearray.hdl.row_stationary.config import GlobalBuffer, RowStationaryConfig
from pearray.hdl.row_stationary.ports import LINE_BYTES, LineLoadPort, LineSums
from pearray.hdl.shell.config import Array, Memory

BANKS = 3
#: Lines that only results are written to.
RESULTS = 8


def configuration(data_width):
    """Smallest configuration whose buffer has the ways that beats of this width need."""
    return RowStationaryConfig(
        name="test", array=Array(kind="row-stationary", rows=1, cols=1),
        global_buffer=GlobalBuffer(banks=BANKS, bank_lines=32), memory=Memory(data_width=data_width))


def beats_of_row(rng, lanes, address, row):
    """Cut a row into beats as the loader gives them, for a random place in DRAM."""
    rotation = int(rng.integers(lanes))
    # Lane 0 of the first beat, before rotation, stands at this byte on chip.
    start = address - (address - rotation) % lanes
    for base in range(start, address + len(row), lanes):
        word = base // lanes
        inside = {at: row[at - address] for at in range(base, base + lanes) if 0 <= at - address < len(row)}
        values, mask = [int(value) for value in rng.integers(256, size=lanes)], 0
        for at, value in inside.items():
            values[at % lanes] = int(value)
            mask |= 1 << at % lanes
        wrap = sum(1 << lane for lane in range(lanes) if lane < base % lanes)
        yield {"valid": 1, "word": word % (1 << 20), "wrap": wrap, "mask": mask, "data": values}


@pytest.mark.parametrize("data_width", [32, 64, 128, 512])
def test_loads_and_wide_reads(rng, data_width):
    """If it failed, loaded bytes would land in other lines, or stores would read others, than addresses say."""
    config = configuration(data_width)
    lanes, ways, lines = config.beat_bytes, buffer_ways(config.beat_bytes), config.buffer_lines
    m = Module()
    m.submodules.buffer = buffer = Buffer(BANKS, 32, 8 * LINE_BYTES, 1, 1, ways=ways, wide=True)
    m.submodules.port = port = LineLoadPort(config, Destination.GLOBAL_BUFFER, lines)
    m.submodules.reader = reader = LineReader(lines, 8 * LINE_BYTES, 0)
    wiring.connect(m, port.write, buffer.load)
    wiring.connect(m, reader.port, buffer.read[0])
    memory = rng.integers(256, size=LINE_BYTES * lines).astype(np.uint8)
    held, got = [0, 0], []
    phase = []

    async def load(ctx):
        rows = [(0, memory.copy())]
        end = len(memory) - LINE_BYTES * RESULTS
        for _ in range(40):
            length = int(rng.integers(1, 5 * lanes))
            rows.append((int(rng.integers(end - length)), rng.integers(256, size=length)))
        for index, (address, row) in enumerate(rows):
            ignored = index > 0 and rng.random() < 0.2
            ctx.set(port.load.destination, Destination.FILTER_BUFFER if ignored else Destination.GLOBAL_BUFFER)
            for beat in beats_of_row(rng, lanes, address, row):
                for name, value in beat.items():
                    ctx.set(getattr(port.load, name), value)
                await ctx.tick()
            ctx.set(port.load.valid, 0)
            if not ignored:
                memory[address:address + len(row)] = row
            if index == 0:
                phase.append("loaded")
        await ctx.tick().repeat(2)
        phase.append("complete")

    async def write(ctx):
        """Write results, as the array does, to lines of their own in a bank that loads write as well."""
        while not phase:
            await ctx.tick()
        result = buffer.write[0]
        while len(phase) < 2:
            line, value = int(rng.integers(lines - RESULTS, lines)), int(rng.integers(1 << 62))
            ctx.set(result.payload, {"address": line, "data": value, "mask": 0xFF})
            memory.view("<u8")[line] = value
            ctx.set(result.valid, 1)
            while not (await ctx.tick().sample(result.ready))[-1]:
                held[0] += 1
            ctx.set(result.valid, 0)
        phase.append("complete")

    async def wide(ctx):
        while len(phase) < 3:
            await ctx.tick()
        asked = []
        for _ in range(150):
            enable, which = int(rng.integers(1 << ways)), rng.integers(lines // ways, size=ways).tolist()
            ctx.set(buffer.wide.en, enable)
            ctx.set(buffer.wide.line, which)
            asked.append((enable, which))
            *_, values = await ctx.tick().sample(buffer.wide.data)
            if len(asked) > WideRead.LATENCY:
                enable, which = asked[-1 - WideRead.LATENCY]
                for way in range(ways):
                    at = LINE_BYTES * (which[way] * ways + way)
                    expected = int.from_bytes(memory[at:at + LINE_BYTES].tobytes(), "little")
                    assert not enable >> way & 1 or values[way] == expected
        ctx.set(buffer.wide.en, 0)

    addresses = rng.integers(lines, size=60).tolist()

    async def ask(ctx):
        while len(phase) < 3:
            await ctx.tick()
        for address in addresses:
            ctx.set(reader.i.payload, {"address": address, "along": 0})
            ctx.set(reader.i.valid, 1)
            while not (await ctx.tick().sample(reader.i.ready))[-1]:
                held[1] += 1
            ctx.set(reader.i.valid, 0)

    async def receive(ctx):
        while len(got) < len(addresses):
            ctx.set(reader.o.ready, int(rng.random() < 0.8))
            *_, valid, ready, payload = await ctx.tick().sample(reader.o.valid, reader.o.ready, reader.o.payload)
            if valid and ready:
                got.append(payload.line)

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    for process in (load, write, wide, ask, receive):
        simulator.add_testbench(process)
    simulator.run()
    whole = memory.view("<u8")
    assert got == [int(whole[address]) for address in addresses]
    # The clients that wait must have met those that do not.
    assert min(held) > 0


@pytest.mark.parametrize("data_width", [32, 128])
def test_rows_of_sums(rng, data_width):
    """If it failed, post-processing would take the sums of another pixel."""
    ways = buffer_ways(data_width // 8)
    lines = BANKS * 32
    m = Module()
    m.submodules.buffer = buffer = Buffer(BANKS, 32, 64, 0, 1, ways=ways, wide=True)
    m.submodules.sums = sums = LineSums(ways, lines // ways, data.ArrayLayout(32, 2))
    wiring.connect(m, sums.port, buffer.wide)
    values = rng.integers(1 << 32, size=(lines, 2)).tolist()

    async def testbench(ctx):
        port = buffer.write[0]
        for line, (low, high) in enumerate(values):
            ctx.set(port.payload, {"address": line, "data": high << 32 | low, "mask": 0xFF})
            ctx.set(port.valid, 1)
            await ctx.tick().until(port.ready)
        ctx.set(port.valid, 0)
        ctx.set(sums.en, 1)
        rows = rng.integers(lines, size=50).tolist()
        for index, row in enumerate(rows):
            ctx.set(sums.row, row)
            *_, found = await ctx.tick().sample(sums.data)
            if index >= WideRead.LATENCY:
                assert list(found) == values[rows[index - WideRead.LATENCY]]

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
