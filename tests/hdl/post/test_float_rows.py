"""Quotients of float32 numbers rounded to integers, against exact fractions."""

from fractions import Fraction

import numpy as np
from amaranth.sim import Simulator

from pearray.hdl.post.float_rows import FloatShare


def draw(rng):
    """Draw a term, its total and the steps in one: any quotient, halves, and what is next to them."""
    inverse = int(rng.choice([0, 1, 255, 256, 511, rng.integers(1, 512)]))
    total = np.float32(rng.integers(1 << 23, 1 << 24) * 2.0 ** int(rng.integers(0, 60)))
    kind = rng.integers(4)
    if kind == 0:
        # Of a power of two halves are exact.
        total = np.float32(2.0 ** int(rng.integers(24, 60)))
    term = total * np.float32((rng.integers(0, 256) + 0.5) / max(inverse, 1)) if kind < 3 else (
        total * np.float32(2.0 ** -rng.uniform(0, 100)))
    step = (0, 0, 1, -1)[rng.integers(4)] if kind == 1 else 0
    term = np.float32(min(term, total)) if not step else np.nextafter(np.float32(term), np.float32(step * np.inf))
    return np.float32(min(term, total)), total, inverse


def test_shares_are_those_of_fractions(rng):
    """A quotient whose tie is taken for none, or the other way round, is another output than onnxruntime's."""
    cases = [draw(rng) for _ in range(600)]
    # 3 * 11184811 is 2**25 + 1: but for a bit that is shifted out, this would be a half.
    cases += [(np.float32(11184811 / 8), np.float32(1 << 23), 3)]
    cases += [(np.float32(np.finfo(np.float32).tiny / 2), np.float32(1 << 23), 256)]
    dut = FloatShare()

    async def drive(ctx):
        for number, (term, total, inverse) in enumerate([*cases, *cases[:dut.LATENCY]]):
            ctx.set(dut.term, int(term.view(np.uint32)))
            ctx.set(dut.total, int(total.view(np.uint32)))
            ctx.set(dut.inverse, inverse)
            await ctx.tick()
            at = number - dut.LATENCY + 1
            if 0 <= at < len(cases):
                term, total, inverse = cases[at]
                assert ctx.get(dut.share) == round(Fraction(float(term)) * inverse / Fraction(float(total))), cases[at]

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(drive)
    sim.run()
