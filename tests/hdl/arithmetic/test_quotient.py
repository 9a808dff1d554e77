# amaranth: UnusedElaboratable=no
"""Quotients of float32 numbers and integers against Python's integers."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from pearray.hdl.arithmetic.quotient import DIVISOR_BITS, Quotient


def expected(dividend, divisor):
    """Bits of the quotient: leading 24 bits of both, and of what is between 2**23 and 2**25."""
    if divisor == 0:
        return 0
    length = divisor.bit_length()
    leading = divisor >> length - 24 if length > 24 else divisor << 24 - length
    found = ((dividend & 0x7FFFFF) + (1 << 23) << 24) // leading
    beyond = found >> 24
    return ((dividend >> 23) - length + beyond << 23) + (found >> beyond & 0x7FFFFF)


def run(every, dividends, divisors, pauses):
    """Quotients of one pair every few cycles, and the cycles that the first took."""
    unit, found, begun = Quotient(every), [], []

    async def drive(ctx):
        for divisor, pause in zip(divisors, pauses, strict=True):
            ctx.set(unit.valid, 1)
            ctx.set(unit.divisor, divisor)
            await ctx.tick()
            if every + pause > 1:
                ctx.set(unit.valid, 0)
                ctx.set(unit.divisor, 12345)
                await ctx.tick().repeat(every + pause - 1)
        ctx.set(unit.valid, 0)
        await ctx.tick().repeat(Quotient.latency_of(every) + 2)

    async def watch(ctx):
        cycle = 0
        async for _, _, valid in ctx.tick().sample(unit.valid):
            begun.extend([cycle] * valid)
            cycle += 1
            # What stands now is sampled at the next edge.
            if cycle - Quotient.DIVIDEND in begun:
                ctx.set(unit.dividend, dividends[begun.index(cycle - Quotient.DIVIDEND)])
            if cycle - Quotient.latency_of(every) in begun:
                found.append(ctx.get(unit.quotient))

    sim = Simulator(unit)
    sim.add_clock(1e-6)
    sim.add_testbench(watch, background=True)
    sim.add_testbench(drive)
    sim.run()
    return found


@pytest.mark.parametrize("every", [1, 2, 4, 30])
def test_quotients_are_those_of_integers(rng, every):
    """A bit of the quotient, of its exponent, or one of the pair before it would make another number."""
    count = 300 if every < 30 else 60
    lengths = rng.integers(0, DIVISOR_BITS + 1, count)
    divisors = [int(bits) >> DIVISOR_BITS - int(length) for bits, length in
                zip(rng.integers(1 << DIVISOR_BITS - 1, 1 << DIVISOR_BITS, count), lengths, strict=True)]
    # Significands alike, and next to one another, decide whether there is a bit above the others.
    fractions = [int(each) for each in rng.integers(0, 1 << 23, count)]
    for index in range(0, count, 5):
        leading = int(rng.integers(1 << 23, 1 << 24))
        fractions[index] = min(max(leading + int(rng.integers(-1, 2)), 1 << 23), (1 << 24) - 1) & 0x7FFFFF
        divisors[index] = leading << int(rng.integers(0, 16)) | int(rng.integers(0, 2))
    divisors[:4], fractions[:4] = [1, (1 << DIVISOR_BITS) - 1, 1 << 39, 0], [0, 0x7FFFFF, 0, 5]
    dividends = [int(exponent) << 23 | fraction for exponent, fraction in
                 zip(rng.integers(87, 188, count), fractions, strict=True)]
    found = run(every, dividends, divisors, rng.integers(0, 3, count).tolist())
    wanted = [expected(*pair) for pair in zip(dividends, divisors, strict=True)]
    assert len(found) == count
    wrong = [index for index in range(count) if found[index] != wanted[index]]
    assert not wrong, (f"{len(wrong)} wrong, first {dividends[wrong[0]]:08x} / {divisors[wrong[0]]} = "
                       f"{wanted[wrong[0]]:08x}, not {found[wrong[0]]:08x}")


def test_expected_is_a_quotient(rng):
    """The model that the hardware is held against must be within two steps of the number it stands for."""
    for _ in range(200):
        dividend, divisor = int(rng.integers(100 << 23, 180 << 23)), int(rng.integers(1, 1 << 40))
        number = np.uint32(dividend).view(np.float32).astype(float) / divisor
        found = np.uint32(expected(dividend, divisor)).view(np.float32).astype(float)
        assert abs(found / number - 1) < 2.0 ** -22


def test_divisors_keep_their_distance():
    """Divisors that come before a stage is free break a rule."""
    unit = Quotient(3)

    async def drive(ctx):
        ctx.set(unit.valid, 1)
        for _ in range(4):
            await ctx.tick()

    sim = Simulator(unit)
    sim.add_clock(1e-6)
    sim.add_testbench(drive)
    with pytest.raises(AssertionError, match=r"divisors: they must come 3 cycles apart"):
        sim.run()
