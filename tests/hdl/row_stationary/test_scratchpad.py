# amaranth: UnusedElaboratable=no
"""Scratchpads of a PE against lists, with random reads."""

import pytest
from amaranth.sim import Simulator

from pearray import PearrayError
from pearray.hdl.row_stationary.scratchpad import QueueScratchpad, RingScratchpad


def run(dut, testbench):
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()


@pytest.mark.parametrize("depth", [1, 2, 5, 8])
def test_queue(rng, depth):
    """If it failed, sums of a PE would be lost or overwritten while they wait, or its idle state would be wrong."""
    dut = QueueScratchpad(8, depth)

    async def testbench(ctx):
        held, coming, reserved, taken = [], [], 0, 0
        while taken < 100:
            assert ctx.get(dut.room) == (reserved < depth)
            assert ctx.get(dut.empty) == (reserved == 0)
            assert ctx.get(dut.some) == bool(held)
            if held:
                assert ctx.get(dut.word) == held[0]
            reserve = reserved < depth and rng.random() < 0.6
            arrive = bool(coming) and rng.random() < 0.6
            take = bool(held) and rng.random() < 0.5
            ctx.set(dut.reserve, int(reserve))
            ctx.set(dut.i.valid, int(arrive))
            ctx.set(dut.take, int(take))
            if arrive:
                ctx.set(dut.i.payload, coming[0])
            await ctx.tick()
            if take:
                held.pop(0)
                taken += 1
            if arrive:
                held.append(coming.pop(0))
            if reserve:
                coming.append(int(rng.integers(0, 256)))
            reserved += reserve - take

    run(dut, testbench)


@pytest.mark.parametrize("registered", [False, True])
@pytest.mark.parametrize("depth", [3, 8])
def test_ring(rng, depth, registered):
    """If it failed, a window would be read from wrong places once the ring has wrapped around."""
    dut = RingScratchpad(8, depth, registered=registered)

    async def testbench(ctx):
        words = [int(word) for word in rng.integers(0, 256, 400)]
        arrived = oldest = pointer = fresh = 0
        while fresh < 10 * depth:
            assert ctx.get(dut.some) == (fresh < arrived)
            assert ctx.get(dut.i.ready) == (arrived - oldest < depth)
            put = arrived < len(words) and rng.random() < 0.6
            read = pointer < arrived and rng.random() < 0.8
            # Only the oldest word may be given up, and none that has not been read.
            pop = read and pointer == oldest and rng.random() < 0.4
            rewind = read and (rng.random() < 0.2 or pointer + 1 - oldest == depth)
            ctx.set(dut.i.valid, int(put))
            if arrived < len(words):
                ctx.set(dut.i.payload, words[arrived])
            ctx.set(dut.read, int(read))
            ctx.set(dut.new, int(pointer == fresh))
            ctx.set(dut.pop, int(pop))
            ctx.set(dut.rewind, int(rewind))
            if read and not registered:
                assert ctx.get(dut.word) == words[pointer]
            taken = put and arrived - oldest < depth
            await ctx.tick()
            if read and registered:
                assert ctx.get(dut.word) == words[pointer]
            arrived += taken
            if read:
                fresh = max(fresh, pointer + 1)
                oldest += pop
                pointer = oldest if rewind else pointer + 1

    run(dut, testbench)


@pytest.mark.parametrize("kind", [QueueScratchpad, RingScratchpad])
def test_no_words_are_refused(kind):
    """If it failed, a scratchpad without words would be made, and its PE would never begin."""
    with pytest.raises(PearrayError, match=r"^depth must be an integer of at least 1, not 0$"):
        kind(8, 0)
