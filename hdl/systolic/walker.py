"""Three nested loops and the addresses they walk, without multipliers and without idle cycles."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..shell.commands import ADDRESS_BITS

__all__ = ["COUNT_BITS", "AddressStart", "AddressSteps", "AddressWalk", "LoopCounter"]

#: Width of a loop count minus two, signed.
COUNT_BITS = 17


class AddressStart(data.Struct):
    """Where a walk starts, and the running bases of its outer loops."""

    #: First address.
    now: unsigned(ADDRESS_BITS)
    #: First address of the second turn of loop 1: ``now + step1``.
    row: unsigned(ADDRESS_BITS)
    #: First address of the second turn of loop 2: ``now + step2``.
    plane: unsigned(ADDRESS_BITS)


class AddressSteps(data.Struct):
    """What one turn of each loop adds to the address; loop 0 is the innermost."""

    step0: unsigned(ADDRESS_BITS)
    step1: unsigned(ADDRESS_BITS)
    step2: unsigned(ADDRESS_BITS)


class LoopCounter(wiring.Component):
    """Three nested counters.

    A counter holds the turns left minus two, so that its sign bit says "last turn" without a
    comparator. ``last`` is valid in the cycle after ``load``, and changes in the cycle after
    ``step``. A new walk may be loaded in the last step of the one before.

    Members
    -------
    load : In(1)
        Start a walk, with the counts of ``counts_load``.
    step : In(1)
        Take one turn of the innermost loop. ``load`` takes precedence.
    counts_load, counts : In(ArrayLayout(signed(17), 3))
        Turns of each loop minus two, innermost first: those of a walk that starts, and of the
        walk that runs.
    last : Out(3)
        Whether this is the last turn of each loop.
    end : Out(1)
        Whether this is the last step of a walk. Clear once that was taken, until a walk is loaded. From
        a register, because much depends on it.
    end_next : Out(1)
        What it will be in the next cycle.
    """

    load: In(1)
    step: In(1)
    counts_load: In(data.ArrayLayout(signed(COUNT_BITS), 3))
    counts: In(data.ArrayLayout(signed(COUNT_BITS), 3))
    last: Out(3)
    end: Out(1)
    end_next: Out(1)

    def elaborate(self, platform):
        """Build the counters."""
        m = Module()

        counters = [Signal(signed(COUNT_BITS), name=f"counter{loop}", reset_less=True) for loop in range(3)]
        m.d.comb += self.last.eq(Cat(counter[-1] for counter in counters))
        for loop, counter in enumerate(counters):
            with m.If(self.load):
                m.d.sync += counter.eq(self.counts_load[loop])
            with m.Elif(self.step & self.last[:loop].all()):
                m.d.sync += counter.eq(Mux(self.last[loop], self.counts[loop], counter - 1))

        # Whether each loop is in its last turn after this step.
        lasts_then = [Mux(self.last[:loop].all(), Mux(self.last[loop], self.counts[loop][-1], counter == 0),
                          self.last[loop]) for loop, counter in enumerate(counters)]
        m.d.comb += self.end_next.eq(self.end)
        with m.If(self.load):
            m.d.comb += self.end_next.eq(Cat(counts[-1] for counts in self.counts_load).all())
        with m.Elif(self.step):
            m.d.comb += self.end_next.eq(Cat(lasts_then).all() & ~self.end)
        m.d.sync += self.end.eq(self.end_next)

        return m


class AddressWalk(wiring.Component):
    """Address of a walk that a :class:`LoopCounter` counts.

    Each loop has a register that holds where its next turn begins, so that any step is one
    addition. Arithmetic is modulo 2**20.

    Members
    -------
    load, step : In(1)
        As given to the counter.
    last : In(3)
        From the counter.
    start : In(AddressStart)
        Addresses to start with, taken with ``load``.
    steps : In(AddressSteps)
        Steps of the walk that runs.
    address : Out(20)
        Current address, from the cycle after ``load``.
    """

    load: In(1)
    step: In(1)
    last: In(3)
    start: In(AddressStart)
    steps: In(AddressSteps)
    address: Out(ADDRESS_BITS)

    def elaborate(self, platform):
        """Build the running bases."""
        m = Module()

        now = Signal(ADDRESS_BITS, reset_less=True)
        row = Signal(ADDRESS_BITS, reset_less=True)
        plane = Signal(ADDRESS_BITS, reset_less=True)
        m.d.comb += self.address.eq(now)
        with m.If(self.load):
            m.d.sync += [
                now.eq(self.start.now),
                row.eq(self.start.row),
                plane.eq(self.start.plane),
            ]
        with m.Elif(self.step):
            m.d.sync += now.eq(now + self.steps.step0)
            with m.If(self.last[0]):
                m.d.sync += [
                    now.eq(Mux(self.last[1], plane, row)),
                    row.eq(Mux(self.last[1], plane, row) + self.steps.step1),
                ]
                with m.If(self.last[1]):
                    m.d.sync += plane.eq(plane + self.steps.step2)

        return m
