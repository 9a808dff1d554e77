# amaranth: UnusedElaboratable=no
"""Scratchpads filled over the load bus, read bank by bank."""

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.sim import Simulator

from pearray import PearrayError
from pearray.hdl.blocks.banks import BankRead
from pearray.hdl.blocks.scratchpad import Scratchpad
from pearray.hdl.shell.config import Array, Memory, Post
from pearray.hdl.shell.load_port import LoadPort
from pearray.hdl.systolic.commands import Destination
from pearray.hdl.systolic.config import Accumulators, Scratchpads, SystolicConfig


def config(data_width=32):
    return SystolicConfig(
        name="test", array=Array(rows=4, cols=4), post=Post(), accumulators=Accumulators(depth=16),
        scratchpads=Scratchpads(activation_bytes=1024, weight_bytes=1024, output_bytes=1024),
        memory=Memory(data_width=data_width))


@pytest.mark.parametrize(("data_width", "banks", "lines", "width"),
                         [(32, 4, 16, 8), (32, 16, 8, 8), (64, 4, 16, 16), (32, 8, 4, 16), (64, 8, 2, 8)])
def test_load(rng, data_width, banks, lines, width):
    """A byte in a wrong bank or line, or lost at the end of a row, would corrupt a tensor."""
    beat_bytes = data_width // 8
    bank_bytes = width // 8
    size = banks * lines * bank_bytes
    top = Module()
    top.submodules.pad = pad = Scratchpad(banks, lines, width)
    top.submodules.port = port = LoadPort(config(data_width), Destination.WEIGHT, banks, lines, width)
    wiring.connect(top, port.write, pad.write)
    expected = np.zeros(size, np.int64)
    bus = port.load

    async def write(ctx, start, values, destination):
        """Write bytes of any alignment: beats are as the loader's, rotated to the destination's lanes."""
        # As of a row that begins with the bank, of which the first byte may be masked.
        skip = start % bank_bytes
        position = 0
        shift = (start - skip) % beat_bytes
        while position < len(values) + skip:
            count = min(beat_bytes, len(values) + skip - position)
            first = start - skip + position
            lanes = [0] * beat_bytes
            mask = wrap = 0
            for offset in range(count):
                lane = (first + offset) % beat_bytes
                wrap |= (lane < shift) << lane
                if position + offset >= skip:
                    lanes[lane] = int(values[position + offset - skip])
                    mask |= 1 << lane
            ctx.set(bus.valid, 1)
            ctx.set(bus.destination, destination)
            ctx.set(bus.word, first // beat_bytes)
            ctx.set(bus.wrap, wrap)
            ctx.set(bus.mask, mask)
            ctx.set(bus.data, lanes)
            await ctx.tick()
            ctx.set(bus.valid, 0)
            position += count

    async def testbench(ctx):
        for _ in range(16):
            # Single bytes too, as fills of two-byte operands write them.
            length = int(rng.integers(1, size + 1)) if rng.integers(3) else 1
            start = int(rng.integers(0, size - length + 1))
            values = rng.integers(0, 256, length)
            expected[start:start + length] = values
            await write(ctx, start, values, Destination.WEIGHT)
            await write(ctx, start, rng.integers(0, 256, length), Destination.ACTIVATION)
        await ctx.tick().repeat(LoadPort.LATENCY)
        words = expected.reshape(lines, banks, bank_bytes) @ (256 ** np.arange(bank_bytes))
        order = [rng.permutation(lines) for _ in range(banks)]
        ctx.set(pad.read.en, 1)
        for step in range(lines + BankRead.LATENCY):
            for bank in range(banks):
                if step < lines:
                    ctx.set(pad.read.line[bank], int(order[bank][step]))
                if step >= BankRead.LATENCY:
                    line = order[bank][step - BankRead.LATENCY]
                    assert ctx.get(pad.read.data[bank]) == words[line, bank], f"bank {bank} line {line}"
            await ctx.tick()

    sim = Simulator(top)
    sim.add_clock(1e-6)
    sim.add_testbench(testbench)
    sim.run()


def test_line_wrong():
    """A line of no whole number of beats has no simple place for a lane."""
    with pytest.raises(PearrayError, match=r"must be a power-of-two multiple of 4, not 12$"):
        LoadPort(config(), Destination.WEIGHT, 12, 16, 8)
    with pytest.raises(PearrayError, match=r"^width must be 8 or 16, not 32$"):
        LoadPort(config(), Destination.WEIGHT, 4, 16, 32)


def test_scratchpad_wrong():
    """One line would need an address of no bits."""
    with pytest.raises(PearrayError, match=r"^lines must be an integer of at least 2, not 1$"):
        Scratchpad(4, 1, 8)
