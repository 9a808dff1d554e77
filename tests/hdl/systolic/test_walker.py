"""Three nested loops and their addresses."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from pearray.hdl.shell.commands import ADDRESS_BITS
from pearray.hdl.systolic.walker import AddressStart, AddressSteps, AddressWalk, LoopCounter
from pearray.sim.pysim import simulate


class Bench(wiring.Component):
    """A counter with one address."""

    load: In(1)
    step: In(1)
    start: In(AddressStart)
    steps: In(AddressSteps)
    address: Out(ADDRESS_BITS)
    last: Out(1)

    def __init__(self):
        self.counter = LoopCounter()
        super().__init__()

    def elaborate(self, platform):
        """Connect them."""
        m = Module()
        m.submodules.counter = counter = self.counter
        m.submodules.walk = walk = AddressWalk()
        m.d.comb += [
            counter.load.eq(self.load),
            counter.step.eq(self.step),
            walk.load.eq(self.load),
            walk.step.eq(self.step),
            walk.last.eq(counter.last),
            walk.start.eq(self.start),
            walk.steps.eq(self.steps),
            self.address.eq(walk.address),
            self.last.eq(counter.end),
        ]
        return m


def test_walks(rng):
    """A turn too many or a stale base would read pixels of another row; an idle cycle would cost speed."""
    dut = Bench()
    space = 1 << ADDRESS_BITS
    walks = []
    for _ in range(40):
        counts = rng.integers(1, 5, 3).tolist()
        base, *steps = rng.integers(0, space, 4).tolist()
        walks.append((counts, base, steps))

    async def testbench(ctx):
        def load(index):
            counts, base, steps = walks[index]
            ctx.set(dut.load, 1)
            ctx.set(dut.counter.counts_load, [count - 2 for count in counts])
            ctx.set(dut.start, {"now": base, "row": (base + steps[1]) % space,
                                "plane": (base + steps[2]) % space})

        load(0)
        await ctx.tick()
        ctx.set(dut.load, 0)
        for index, (counts, base, steps) in enumerate(walks):
            ctx.set(dut.counter.counts, [count - 2 for count in counts])
            ctx.set(dut.steps, dict(zip(("step0", "step1", "step2"), steps, strict=True)))
            for i2 in range(counts[2]):
                for i1 in range(counts[1]):
                    for i0 in range(counts[0]):
                        ctx.set(dut.step, 0)
                        while rng.random() < 0.2:
                            await ctx.tick()
                        ctx.set(dut.step, 1)
                        assert ctx.get(dut.address) == (base + i2 * steps[2] + i1 * steps[1]
                                                        + i0 * steps[0]) % space
                        end = (i0, i1, i2) == tuple(count - 1 for count in counts)
                        assert ctx.get(dut.last) == end
                        if end and index + 1 < len(walks):
                            load(index + 1)
                        await ctx.tick()
                        ctx.set(dut.load, 0)

    simulate(dut, testbench)
