# amaranth: UnusedElaboratable=no
"""The requantiser against the golden rules, NumPy's own float32, and plain integers."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from pearray.golden import requantise as golden
from pearray.hdl.post.requantise import WIDE_RESULT_BITS, Requantiser
from pearray.hdl.shell.commands import Rounding

LIMIT = (1 << 17) - 1


def requantise(dut, rounding, sums, scales, shifts, gaps=None):
    """Give one value per cycle, with idle cycles where ``gaps`` is set; return results and raw sums."""
    sums, scales, shifts = (np.broadcast_to(item, np.shape(sums)).tolist() for item in (sums, scales, shifts))
    gaps = [False] * len(sums) if gaps is None else gaps
    rounding = rounding if isinstance(rounding, list) else [rounding] * len(sums)
    results, raw, cycles = [], [], []

    async def drive(ctx):
        for index, value in enumerate(sums):
            if gaps[index]:
                ctx.set(dut.valid, 0)
                await ctx.tick()
            ctx.set(dut.valid, 1)
            ctx.set(dut.rounding, rounding[index])
            ctx.set(dut.sum, value)
            ctx.set(dut.scale, scales[index] & 0xFFFFFFFF)
            ctx.set(dut.shift, shifts[index])
            cycles.append(index)
            await ctx.tick()
        ctx.set(dut.valid, 0)
        await ctx.tick().repeat(dut.latency)

    async def watch(ctx):
        sampled = ctx.tick().sample(dut.valid, dut.result_valid, dut.result, dut.raw)
        history = []
        async for _, _, given, valid, result, whole in sampled:
            history.append(given)
            if valid:
                assert history[-1 - dut.latency], "a result came at another latency than its value"
                results.append(result)
                raw.append(whole)

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(drive)
    sim.add_testbench(watch, background=True)
    sim.run()
    assert len(results) == len(sums), "values went missing or were made up"
    return np.array(results, np.int64), np.array(raw, np.int64)


def check(actual, expected, *context):
    """Compare within the range that a clamp of 17 bits can tell apart."""
    actual, expected = np.clip(actual, -LIMIT, LIMIT), np.clip(expected, -LIMIT, LIMIT)
    wrong = np.flatnonzero(actual != expected)
    assert not len(wrong), (f"{len(wrong)} wrong, first at {wrong[0]}: {actual[wrong[0]]} instead of "
                            f"{expected[wrong[0]]} for {[item[wrong[0]] for item in context]}")


def bits(scales):
    return np.asarray(scales, np.float32).view(np.uint32).astype(np.int64)


def random_sums(rng, count, width=32):
    """Draw sums of every magnitude, with the extremes."""
    magnitude = rng.integers(0, width, count)
    sums = rng.integers(-(1 << width - 1), 1 << width - 1, count) >> magnitude
    low, high = -(1 << width - 1), (1 << width - 1) - 1
    special = [0, 1, -1, low, high, low + 1, high - 1]
    special += [sign * ((1 << 24) + delta) for sign in (1, -1) for delta in range(-2, 8)]
    sums[:len(special)] = special
    return sums


def random_scales(rng, sums):
    """Draw scales from 2**-40 to 2, most of them such that the results are small."""
    scales = np.exp2(rng.uniform(-40, 1, len(sums)))
    target = rng.uniform(0.2, 400, len(sums)) / np.maximum(np.abs(sums), 1)
    scales = np.where(rng.random(len(sums)) < 0.7, target, scales)
    return np.clip(scales, 2.0 ** -60, 2).astype(np.float32)


def test_onnx_random(rng):
    """A wrong rounding of the sum, the product or the result would show among these values."""
    sums = random_sums(rng, 12000)
    scales = random_scales(rng, sums)
    result, _ = requantise(Requantiser(), Rounding.ONNX, sums, bits(scales), 0)
    expected = np.rint(sums.astype(np.float32) * scales).astype(np.float64)
    check(result, expected, sums, scales)
    assert np.mean(np.abs(expected) < 128) > 0.3, "too few values would reach an int8 output"


def check_onnx(sums, scales):
    """Compare with float32 arithmetic, for sums of both signs."""
    sums = np.concatenate([sums, -np.asarray(sums)]).astype(np.int64)
    scales = np.concatenate([scales, scales]).astype(np.float32)
    result, _ = requantise(Requantiser(), Rounding.ONNX, sums, bits(scales), 0)
    check(result, np.rint(sums.astype(np.float32) * scales), sums, scales)


def test_onnx_ties_of_results(rng):
    """A result halfway between two integers must go to the even one."""
    scales = np.exp2(rng.integers(-8, 0, 400))
    check_onnx((rng.integers(-300, 300, 400) + 0.5) / scales, scales)


def test_onnx_ties_of_sums(rng):
    """A sum halfway between two float32 numbers goes to the even one, which here decides the result."""
    odd = 2 * rng.integers(1 << 7, 1 << 10, 400) + 1
    # The significand that should be chosen makes a tie of integers; its neighbours on either side don't.
    significands = odd << 24 - np.floor(np.log2(odd)).astype(int) - 1
    place = rng.integers(1, 8, 400)
    sums = (significands << place) + (rng.choice([-1, 1], 400) << place - 1)
    check_onnx(sums, odd / 2 / (significands * 2.0 ** place))


def test_onnx_ties_of_products():
    """A product halfway between two float32 numbers goes to the even one, which here decides the result."""
    sums, scales = [], []
    for half in range(129, 256, 2):
        # Of 25 bits, one more than float32 holds; the even neighbour makes a tie of integers.
        for product in ((half << 17) - 1, (half << 17) + 1):
            for factor in range(3, 600, 2):
                if product % factor == 0 and product // factor < 1 << 24:
                    sums += [product // factor, factor]
                    scales += [factor / 2 ** 18, product // factor / 2 ** 18]
    assert len(sums) > 100, "too few products among the cases"
    check_onnx(sums, scales)


def test_onnx_scale_extremes(rng):
    """A scale of zero or a subnormal one gives zero; a huge one saturates with the sign of the sum."""
    tiny = np.array([0, 1e-45, 1.17549421e-38, 1.17549435e-38, 2.0 ** -60], np.float32)
    huge = np.array([2.0 ** 40, 3e38, 2.0 ** 17], np.float32)
    for width in (32, 48):
        sums = random_sums(rng, 60, width)
        scales = np.tile(np.concatenate([tiny, huge]), 60)
        sums = np.repeat(sums, len(tiny) + len(huge))
        result, _ = requantise(Requantiser(width), Rounding.ONNX, sums, bits(scales), 0)
        with np.errstate(over="ignore", under="ignore"):
            expected = np.rint(sums.astype(np.float32) * scales)
        check(result, expected, sums, scales)


def wide_cases(rng, count):
    """Sums and scales whose products have up to 26 bits, many of them near 2**23 and 2**24."""
    sums = random_sums(rng, count)
    goals = np.exp2(rng.uniform(-3, 26, count))
    near = rng.random(count) < 0.4
    goals[near] = np.exp2(rng.integers(22, 26, near.sum())) * (1 + rng.integers(-4, 5, near.sum()) * 2.0 ** -24)
    scales = np.float32(goals / np.maximum(np.abs(sums), 1))
    scales[::50] = rng.choice(np.float32([0, 1e-40, 2.0 ** 20, 3e38, np.inf]), len(scales[::50]))
    return sums, scales


def test_wide_results(rng):
    """Results that count to 2**24 must be exact up to there, and saturated at 2**24 - 1, not a step beyond."""
    sums, scales = wide_cases(rng, 8000)
    sums[0], scales[::50][:1] = 0, np.float32(3e38)
    result, _ = requantise(Requantiser(32, WIDE_RESULT_BITS), Rounding.ONNX, sums, bits(scales), 0)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        expected = np.nan_to_num(np.rint(sums.astype(np.float32) * scales), nan=0, posinf=1e30, neginf=-1e30)
    most = (1 << 24) - 1
    expected = np.clip(expected, -most, most)
    wrong = np.flatnonzero(result != expected)
    assert not len(wrong), (f"{len(wrong)} wrong, first {sums[wrong[0]]} * {scales[wrong[0]]}: {result[wrong[0]]} "
                            f"instead of {expected[wrong[0]]}")
    assert ((np.abs(expected) > 1 << 23) & (np.abs(expected) < most)).sum() > 300, "too few results of 24 bits"


def test_wide_results_of_other_rules(rng):
    """Where results are wide, those of every rule must still be what a clamp of 17 bits expects."""
    count = 3000
    sums, multipliers, shifts = tflite_cases(rng, count)
    scales = random_scales(rng, sums)
    rules = [list(Rounding)[index] for index in rng.integers(0, 4, count)]
    given = [int(bits(scales)[i]) if rule == Rounding.ONNX else int(multipliers[i]) for i, rule in enumerate(rules)]
    narrow = requantise(Requantiser(), rules, sums, given, shifts)
    wide = requantise(Requantiser(32, WIDE_RESULT_BITS), rules, sums, given, shifts)
    rounded = np.array([rule != Rounding.NONE for rule in rules])
    check(wide[0][rounded], narrow[0][rounded], sums[rounded])
    check(wide[1][~rounded], sums[~rounded])


def test_onnx_wide(rng):
    """Sums of 48 bits round to float32 from further out."""
    sums = random_sums(rng, 4000, 48)
    scales = random_scales(rng, sums)
    result, _ = requantise(Requantiser(48), Rounding.ONNX, sums, bits(scales), 0)
    check(result, np.rint(sums.astype(np.float32) * scales), sums, scales)


def doubling_high(a, b):
    """Saturating rounding doubling high multiply, in Python's integers."""
    if a == b == -(1 << 31):
        return (1 << 31) - 1
    nudged = a * b + (1 << 30 if a * b >= 0 else 1 - (1 << 30))
    return nudged >> 31 if nudged >= 0 else -(-nudged >> 31)


def tflite(value, multiplier, right, double):
    """Apply a TFLite rule to one sum, in Python's integers."""
    if not double:
        return value * multiplier + (1 << 30 + right) >> 31 + right
    left, right = max(-right, 0), max(right, 0)
    shifted = ((value << left) + (1 << 31)) % (1 << 32) - (1 << 31)
    high = doubling_high(shifted, multiplier)
    remainder = high & (1 << right) - 1
    return (high >> right) + (remainder > ((1 << right) - 1 >> 1) + (high < 0))


def tflite_cases(rng, count):
    sums = random_sums(rng, count)
    multipliers = rng.integers(1 << 30, 1 << 31, count)
    multipliers[::7] = 1 << 30
    multipliers[::11] = (1 << 31) - 1
    shifts = rng.integers(-30, 32, count)
    # Most results should be small enough to matter.
    fitting = np.clip(np.log2(np.maximum(np.abs(sums), 1)).astype(int) - rng.integers(0, 9, count), -30, 31)
    return sums, multipliers, np.where(rng.random(count) < 0.8, fitting, shifts)


@pytest.mark.parametrize("double", [True, False])
def test_tflite_random(rng, double):
    """Either TFLite rule would differ from plain integers and from the golden model."""
    sums, multipliers, shifts = tflite_cases(rng, 8000)
    rounding = Rounding.TFLITE_DOUBLE if double else Rounding.TFLITE_SINGLE
    result, _ = requantise(Requantiser(), rounding, sums, multipliers, shifts)
    expected = np.array([tflite(*item, double)
                         for item in zip(sums.tolist(), multipliers.tolist(), shifts.tolist(), strict=True)])
    check(result, expected, sums, multipliers, shifts)
    for right in range(-30, 32):
        chosen = shifts == right
        check(result[chosen], golden.tflite(
            sums[chosen], multipliers[chosen], -right, low=-LIMIT, high=LIMIT, axis=0,
            rounding="double" if double else "single") if chosen.any() else result[chosen])


@pytest.mark.parametrize("double", [True, False])
def test_tflite_ties(rng, double):
    """Halves of both signs go away from zero in one rule and upwards in the other."""
    right = rng.integers(1, 20, 2000)
    sums = (rng.integers(-256, 256, 2000) * 2 + 1) << right
    rounding = Rounding.TFLITE_DOUBLE if double else Rounding.TFLITE_SINGLE
    result, _ = requantise(Requantiser(), rounding, sums, 1 << 30, right)
    expected = np.array([tflite(value, 1 << 30, distance, double)
                         for value, distance in zip(sums.tolist(), right.tolist(), strict=True)])
    check(result, expected, sums, right)
    assert ((expected * 4 - (sums >> right)) != 0).any(), "no tie among the cases"


def test_tflite_small_multipliers(rng):
    """Multipliers below 2**30, zero included, are exact too where nothing shifts left."""
    sums = random_sums(rng, 1000)
    multipliers = rng.integers(0, 1 << 31, 1000) >> rng.integers(0, 31, 1000)
    multipliers[:50] = 0
    shifts = rng.integers(0, 8, 1000)
    for double in (True, False):
        rounding = Rounding.TFLITE_DOUBLE if double else Rounding.TFLITE_SINGLE
        result, _ = requantise(Requantiser(), rounding, sums, multipliers, shifts)
        expected = np.array([tflite(*item, double) for item in
                             zip(sums.tolist(), multipliers.tolist(), shifts.tolist(), strict=True)])
        check(result, expected, sums, multipliers, shifts)


@pytest.mark.parametrize("width", [33, 35, 48])
@pytest.mark.parametrize("double", [True, False])
def test_tflite_wide(rng, width, double):
    """A sum of more than 32 bits is rounded as it is by the single rule, and saturated before the double one."""
    sums = random_sums(rng, 3000, width)
    sums[40] = 3221028867 >> 48 - width
    _, multipliers, shifts = tflite_cases(rng, 3000)
    fitting = np.clip(np.log2(np.maximum(np.abs(sums), 1)).astype(int) - rng.integers(0, 17, 3000), -30, 31)
    shifts = np.where(rng.random(3000) < 0.7, fitting, shifts)
    multipliers[40], shifts[40] = 1 << 30, 17
    rounding = Rounding.TFLITE_DOUBLE if double else Rounding.TFLITE_SINGLE
    result, _ = requantise(Requantiser(width), rounding, sums, multipliers, shifts)
    given = np.clip(sums, -1 << 31, (1 << 31) - 1) if double else sums
    expected = np.array([tflite(*item, double) for item in
                         zip(given.tolist(), multipliers.tolist(), shifts.tolist(), strict=True)])
    check(result, expected, sums, multipliers, shifts)
    wide = (np.abs(sums) >= 1 << 31) & (np.abs(expected) < LIMIT)
    assert double or wide.sum() > 20, "too few wide sums have results within the outputs' range"


@pytest.mark.parametrize("width", [32, 40, 48])
def test_none_passes_sums(rng, width):
    """Raw sums must come through whole, whatever the scale memory holds."""
    sums = random_sums(rng, 500, width)
    _, raw = requantise(Requantiser(width), Rounding.NONE, sums, rng.integers(0, 1 << 32, 500),
                        rng.integers(-32, 32, 500))
    check(raw, sums)


def test_rules_mixed(rng):
    """Each value obeys its own rule: nothing leaks between neighbours, idle cycles or not."""
    count = 1500
    sums, multipliers, shifts = tflite_cases(rng, count)
    scales = random_scales(rng, sums)
    rules = [list(Rounding)[index] for index in rng.integers(0, 4, count)]
    given = [int(bits(scales)[i]) if rule == Rounding.ONNX else int(multipliers[i])
             for i, rule in enumerate(rules)]
    result, raw = requantise(Requantiser(), rules, sums, given, shifts, rng.random(count) < 0.3)
    expected = []
    for i, rule in enumerate(rules):
        if rule == Rounding.NONE:
            assert raw[i] == sums[i]
            expected.append(result[i])
        elif rule == Rounding.ONNX:
            expected.append(float(np.rint(np.float32(sums[i]) * scales[i])))
        else:
            expected.append(tflite(int(sums[i]), int(multipliers[i]), int(shifts[i]),
                                   rule == Rounding.TFLITE_DOUBLE))
    check(result, np.array(expected), sums, given, rules)


def test_width_is_checked():
    """A width that the multiplier can't serve must be refused."""
    with pytest.raises(ValueError, match=r"^width of a sum must be in 32..48, not 49$"):
        Requantiser(49)
