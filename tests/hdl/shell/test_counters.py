# amaranth: UnusedElaboratable=no
"""Performance counters and the register map."""

import numpy as np
import pytest
from amaranth.hdl import Module

from pearray import load_config
from pearray.hdl.accelerator import counter_names, counter_registers, registers
from pearray.hdl.errors import PearrayError
from pearray.hdl.shell.config import Array, Memory, Post
from pearray.hdl.shell.counters import Counters
from pearray.hdl.shell.registers import TIMEOUT_RESET, Cause, Registers, capabilities
from pearray.hdl.systolic.config import Accumulators, Scratchpads, SystolicConfig
from pearray.sim.pysim import simulate
from pearray.sim.pysim_memory import lite_read, lite_write

CONFIG = SystolicConfig(
    name="test", array=Array(rows=4, cols=3), scratchpads=Scratchpads(
        activation_bytes=1 << 12, weight_bytes=1 << 11, output_bytes=1 << 10, channels=64),
    accumulators=Accumulators(depth=16), post=Post(), memory=Memory(data_width=64),
)


@pytest.mark.parametrize("widths", [(1,), (1,) * 3, (1,) * 5, (1,) * 22, (8,), (1, 3, 1, 8, 8)])
def test_counters_count_every_event(rng, widths):
    """An event in the cycle of a sweep, of a start or of a read would be lost or counted twice, or cut off."""
    count = len(widths)
    names = [f"event_{index}" for index in range(count)]
    dut = Counters(names, {name: width for name, width in zip(names, widths, strict=True) if width > 1})
    starts = np.cumsum([0, *widths])
    limit = (1 << int(starts[-1])) - 1

    async def read(ctx, index):
        ctx.set(dut.index, index)
        ctx.set(dut.request, 1)
        value, = await ctx.tick().sample(dut.value).until(dut.valid)
        ctx.set(dut.request, 0)
        return value

    async def testbench(ctx):
        for cycles in (1, 37, 300):
            ctx.set(dut.clear, 1)
            ctx.set(dut.events, limit)
            await ctx.tick()
            ctx.set(dut.clear, 0)
            expected = [0] * count
            for _ in range(cycles):
                events = int(rng.integers(0, limit + 1)) | int(rng.integers(0, limit + 1))
                ctx.set(dut.events, events)
                await ctx.tick()
                expected = [value + (events >> int(start) & (1 << width) - 1)
                            for value, start, width in zip(expected, starts, widths, strict=False)]
            ctx.set(dut.events, 0)
            await ctx.tick()
            for index in rng.permutation(count).tolist():
                assert await read(ctx, index) == expected[index], f"counter {index}"

    simulate(dut, testbench)


@pytest.mark.parametrize("config", [CONFIG, load_config("eyeriss").hardware], ids=["systolic", "row-stationary"])
def test_registers(rng, config):
    """The host would read or write a wrong register."""
    counters = len(counter_names(config))
    module = Module()
    module.submodules.dut = dut = Registers(config, counters)
    offsets = {register.name: register.offset for register in registers(config)}
    starts = []

    async def watch(ctx):
        sample = ctx.tick().sample(dut.start, dut.counter_request, dut.counter)
        async for _, _, start, request, counter in sample:
            if start:
                starts.append(1)
            ctx.set(dut.counter_value, 1000 + counter)
            ctx.set(dut.counter_valid, request)

    async def testbench(ctx):
        bus = dut.bus
        assert await lite_read(ctx, bus, offsets["id"]) == 0x50454152
        assert await lite_read(ctx, bus, offsets["timeout"]) == TIMEOUT_RESET
        for name, (value, _) in capabilities(config).items():
            assert await lite_read(ctx, bus, offsets[name]) == value, name
        for name in ("program_address", "timeout"):
            value = int(rng.integers(0, 1 << 32))
            await lite_write(ctx, bus, offsets[name], value)
            assert await lite_read(ctx, bus, offsets[name]) == value == ctx.get(getattr(dut, name))
        for reserved in (0x008, 0x020, 0x080, 0x100 + 4 * counters, 0x200, 0xFFC):
            assert await lite_read(ctx, bus, reserved) == 0
        for index, (_, words) in enumerate(counter_registers(config).items()):
            if len(words) == 1:
                assert await lite_read(ctx, bus, words[0]) == 1000 + index + (index > 0)
        ctx.set(dut.busy, 1)
        await lite_write(ctx, bus, offsets["control"], 1)
        assert not starts
        ctx.set(dut.busy, 0)
        await lite_write(ctx, bus, offsets["control"], 0)
        assert not starts
        await lite_write(ctx, bus, offsets["control"], 1)
        await ctx.tick()
        assert starts == [1]
        ctx.set(dut.done, 1)
        ctx.set(dut.error, 1)
        ctx.set(dut.cause, Cause.TIMEOUT)
        assert await lite_read(ctx, bus, offsets["status"]) == 0x0606
        assert not ctx.get(dut.irq)
        await lite_write(ctx, bus, offsets["interrupt_enable"], 1)
        await ctx.tick()
        assert ctx.get(dut.irq)

    simulate(module, testbench, background=[watch])


@pytest.mark.parametrize("bits", [8, 16])
def test_both_kinds_have_their_common_registers_in_place(bits):
    """A host that asks what it talks to would read another figure."""
    ours, other = capabilities(CONFIG), capabilities(load_config("eyeriss", {"array.operand_bits": bits}).hardware)
    places = [list(block).index for block in (ours, other)]
    for name in ours.keys() & other.keys():
        assert len({place(name) for place in places}) == 1
    assert (ours["kind"][0], other["kind"][0]) == (1, 2)
    assert len(other) <= 16


@pytest.mark.parametrize("config", [
    CONFIG, load_config("eyeriss").hardware, load_config("eyeriss", {"array.operand_bits": 8}).hardware])
def test_map_has_no_overlap(config):
    """Two registers would share an address, or one would lie outside the port's 4 KB."""
    offsets = [register.offset for register in registers(config)]
    assert len(set(offsets)) == len(offsets)
    assert offsets == sorted(offsets)
    assert max(offsets) < 1 << 12


def test_names_are_checked():
    """Two counters of one name could not be told apart."""
    with pytest.raises(PearrayError, match=r"^names must be distinct"):
        Counters(["a", "a"])
    with pytest.raises(PearrayError, match=r"^width of b must be"):
        Counters(["a"], {"b": 2})
    with pytest.raises(PearrayError, match=r"^counters must be at most 64"):
        Registers(CONFIG, 65)
