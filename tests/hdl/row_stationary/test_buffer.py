# amaranth: UnusedElaboratable=no
"""Global buffer with clients that get into each other's way, against a plain list of bytes."""

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.sim import Simulator

from pearray import PearrayError
from pearray.hdl.row_stationary.buffer import GlobalBuffer, LineReader

BANKS, BANK_LINES, WIDTH = 3, 4, 16
LINES = BANKS * BANK_LINES


def test_clients(rng):
    """If it failed, clients of one bank would lose accesses, or lines would come for the wrong addresses."""
    m = Module()
    m.submodules.dut = dut = GlobalBuffer(BANKS, BANK_LINES, WIDTH, readers=2, writers=2)
    readers = [LineReader(LINES, WIDTH, 8) for _ in range(2)]
    for index, reader in enumerate(readers):
        m.submodules[f"reader_{index}"] = reader
        wiring.connect(m, reader.port, dut.read[index])
    memory = [0] * LINES
    waits = [0, 0]
    addresses = rng.integers(LINES, size=(2, 80)).tolist()
    got = [[], []]

    def writer(client):
        async def process(ctx):
            port = dut.write[client]
            for _ in range(100):
                address, value, mask = (int(rng.integers(limit)) for limit in (LINES, 1 << WIDTH, 4))
                ctx.set(port.payload, {"address": address, "data": value, "mask": mask})
                ctx.set(port.valid, 1)
                while not (await ctx.tick().sample(port.ready))[-1]:
                    waits[client] += 1
                ctx.set(port.valid, 0)
                kept = sum(0xFF << 8 * byte for byte in range(2) if not mask >> byte & 1)
                memory[address] = memory[address] & kept | value & ~kept
        return process

    def ask(client):
        async def process(ctx):
            port = readers[client].i
            for number, address in enumerate(addresses[client]):
                ctx.set(port.payload, {"address": address, "along": number})
                ctx.set(port.valid, 1)
                await ctx.tick().until(port.ready)
                ctx.set(port.valid, 0)
        return process

    def receive(client):
        async def process(ctx):
            port = readers[client].o
            while len(got[client]) < len(addresses[client]):
                ctx.set(port.ready, int(rng.random() < 0.8))
                *_, valid, ready, payload = await ctx.tick().sample(port.valid, port.ready, port.payload)
                if valid and ready:
                    got[client].append((payload.along, payload.line))
        return process

    written = []

    def after(process):
        """Wait with a process until all is written: what is read while it is written is not defined."""
        async def later(ctx):
            while len(written) < 2:
                await ctx.tick()
            await process(ctx)
        return later

    def noted(process):
        async def noting(ctx):
            await process(ctx)
            written.append(process)
        return noting

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    for client in range(2):
        simulator.add_testbench(noted(writer(client)))
        simulator.add_testbench(after(ask(client)))
        simulator.add_testbench(after(receive(client)))
    simulator.run()
    assert waits[0] == 0
    assert waits[1] > 0
    for client in range(2):
        assert got[client] == [(number, memory[address]) for number, address in enumerate(addresses[client])]


def test_wrong_banks_are_named():
    """If it failed, a bank of an odd number of lines would be made whose addresses overlap."""
    with pytest.raises(PearrayError, match=r"not 2 x 3 x 16 bits$"):
        GlobalBuffer(2, 3, 16, 1, 1)
