# amaranth: UnusedElaboratable=no
"""A lane's numerators of softmax against Python's integers."""

import numpy as np
import pytest

from pearray.golden import fused_attention as golden
from pearray.hdl.post.numerators import EMPTY, NUDGES, NUMERATORS, Numerator
from pearray.sim.pysim import simulate


def shifted(value, bits):
    """Shift right, and round halves upwards."""
    return value + (1 << bits >> 1) >> bits


def expected(score, masked, greatest, two_bytes, nudge):
    """A numerator of 16 bits."""
    if masked:
        return 0
    octaves, part = divmod(greatest * 256 - score, 256)
    entry = round(65280 * 2 ** (-part / 256))
    return shifted(entry, octaves) if two_bytes else (entry >> octaves) + nudge >> 8 << 8


def run(wait, cases):
    """Exponents, numerators and bytes of (score, masked, greatest, two_bytes, low_byte, nudge), one a cycle."""
    lane, exponents, values, outputs = Numerator(wait), [], [], []
    at = 1 + wait

    async def drive(ctx):
        for cycle in range(len(cases) + at + Numerator.VALUE + 2):
            for port, field, late in (("score", 0, 0), ("masked", 1, 0), ("greatest", 2, at),
                                      ("two_bytes", 3, at + Numerator.VALUE - 1),
                                      ("low_byte", 4, at + Numerator.VALUE),
                                      ("nudge", 5, at + Numerator.VALUE - 1)):
                if 0 <= cycle - late < len(cases):
                    ctx.set(getattr(lane, port), int(cases[cycle - late][field]))
            for port, found, late in ((lane.exponent, exponents, 1), (lane.value, values, at + Numerator.VALUE),
                                      (lane.output, outputs, at + Numerator.VALUE + 1)):
                if 0 <= cycle - late < len(cases):
                    found.append(ctx.get(port))
            await ctx.tick()

    simulate(lane, drive)
    return exponents, values, outputs


def check(wait, cases):
    exponents, values, outputs = run(wait, cases)
    for index, (score, masked, greatest, two_bytes, low_byte, nudge) in enumerate(cases):
        assert exponents[index] == (EMPTY if masked else -(-score // 256)), (index, score)
        value = expected(score, masked, greatest, two_bytes, nudge)
        assert values[index] == value, f"{cases[index]}: {values[index]}, not {value}"
        assert outputs[index] == (value & 255 if low_byte else value >> 8), cases[index]


def test_table_is_that_of_the_golden_model():
    """Numerators of the hardware and of the model that programs are held against would differ."""
    assert NUMERATORS == tuple(golden.NUMERATORS.tolist())
    assert NUDGES == tuple(golden.NUDGES.tolist())


@pytest.mark.parametrize("two_bytes", [0, 1])
def test_every_entry_and_shift(rng, two_bytes):
    """A wrong entry, a lost bit of a distance, or a half that goes the other way would show."""
    greatest = rng.integers(-65535, 65537, 24)
    cases = [(max(int(top) * 256 - octaves * 256 - part, 1 - (1 << 24)), 0, int(top), two_bytes, int(part) & 1,
              int(rng.choice(NUDGES)))
             for octaves, top in enumerate(greatest) for part in range(256)]
    check(7, cases)


def test_distant_and_masked(rng):
    """What is far below the greatest, or masked, is nothing, whatever the low bits of its distance say."""
    cases = []
    for _ in range(600):
        top = int(rng.integers(-65000, 65537))
        far = int(rng.integers(0, 1 << 25) >> rng.integers(0, 25))
        score = min(max(top * 256 - far, 1 - (1 << 24)), top * 256, (1 << 24) - 1)
        masked = int(rng.random() < 0.3)
        # Where all of a row are masked, nothing is its greatest.
        cases.append((score, masked, EMPTY if masked and rng.random() < 0.5 else top, int(rng.integers(0, 2)),
                      int(rng.integers(0, 2)), int(rng.choice(NUDGES))))
    cases += [((1 << 24) - 1, 0, 65536, 1, 0, 4), (1 - (1 << 24), 0, 65536, 1, 0, 252),
              (1 - (1 << 24), 0, -65535, 1, 1, 4)]
    check(9, cases)


def test_model_rounds_to_nearest():
    """The model's halves go upwards, its greatest is 255, and small ones of many columns are right together."""
    assert [shifted(value, 1) for value in (0, 1, 2, 3, -1)] == [0, 1, 1, 2, 0]
    assert {expected(512, 0, 2, 0, nudge) for nudge in NUDGES} == {255 << 8}
    assert expected(512, 0, 2, 1, 4) == 65280
    # A quarter of a step, in one column of four.
    assert sum(expected(-10 * 256, 0, 0, 0, nudge) for nudge in NUDGES) == 8 * 256
    assert np.all(np.diff(NUMERATORS) < 0)
