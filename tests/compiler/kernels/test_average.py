"""Averages as one requantisation of an exact sum, and the steps that float32 sums reach."""

from fractions import Fraction

import numpy as np
import pytest

import pearray as pe
from pearray.compiler.compile import compile_graph
from pearray.compiler.graph.graph import Graph
from pearray.compiler.kernels.average import (
    exact_steps,
    find_average,
    float_order,
    float_steps,
    integer_average,
)
from pearray.golden import quantised


@pytest.mark.parametrize("kernel", [(2, 2), (1, 3), (3, 3)])
@pytest.mark.parametrize("simple", [True, False])
def test_found_averages_are_those_of_the_golden_model(rng, kernel, simple):
    """Powers of two make many ties, which must fall as the runtime's; other scales hardly any."""
    count = kernel[0] * kernel[1]
    for _ in range(8):
        scales = 2.0 ** -rng.integers(2, 7, 2) if simple else rng.uniform(0.01, 0.1, 2)
        x_scale, y_scale = (float(np.float32(scale)) for scale in scales)
        x_zero, y_zero = (int(zero) for zero in rng.integers(-128, 128, 2))
        found = find_average(x_scale, (-128 - x_zero, 127 - x_zero), y_scale, y_zero, (-128, 127), count)
        if found is None:
            assert not simple
            continue
        x = rng.integers(-128, 128, (1, 1, 40 * kernel[0], 40 * kernel[1])).astype(np.int8)
        expected = quantised.average_pool2d(x, x_scale, x_zero, y_scale, y_zero, kernel, stride=kernel)
        sums = (x.astype(np.int64) - x_zero).reshape(40, kernel[0], 40, kernel[1]).sum((1, 3)) + found.bias
        rounded = np.rint(sums.astype(np.float32) * np.float32(found.scale)) + found.point
        np.testing.assert_array_equal(np.clip(rounded, -128, 127), expected[0, 0])


@pytest.mark.parametrize(("x_scale", "y_scale"), [
    (0.1, 0.1),  # half of all means lie half-way
    (0.0492, 0.05),  # one sum in a thousand does: 250 * 0.0492 / 4 / 0.05 = 61.5
])
def test_ties_that_float_additions_decide_are_refused(x_scale, y_scale):
    """Any answer would be wrong now and then, without a word."""
    x = np.zeros((1, 1, 4, 4), np.int8)
    operator = pe.AvgPool2d(2, x_scale=x_scale, y_scale=y_scale)
    with pytest.raises(pe.PearrayError, match=r"^AvgPool2d: a mean over 4 elements .* can't be computed exactly by"):
        compile_graph(Graph.of(operator, {"x": x}), pe.load_config("systolic-8x8").hardware)


def test_an_average_is_found_where_each_sum_has_one_output(rng):
    """A factor for sums of several outputs would be wrong, and where each has one it would be a pity to refuse.

    Of two elements all windows can be tried.
    """
    values = np.arange(-128, 128)
    sums = np.add.outer(values, values).ravel()
    refused = 0
    for _ in range(40):
        x_scale, y_scale = (np.float32(scale) for scale in rng.integers(1, 40, 2) / rng.choice([100, 128, 255]))
        elements = values.astype(np.float32) * x_scale
        outputs = np.rint(np.add.outer(elements, elements).ravel() / np.float32(2) / y_scale).clip(-128, 127)
        least, greatest = np.full(511, 999.0), np.full(511, -999.0)
        np.minimum.at(least, sums + 256, outputs)
        np.maximum.at(greatest, sums + 256, outputs)
        found = find_average(float(x_scale), (-128, 127), float(y_scale), 0, (-128, 127), 2)
        assert (found is None) == (least != greatest).any()
        refused += found is None
    assert 0 < refused < 40


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6, 9, 12, 49, 256, 1000, 4225])
def test_integer_averages_round_halves_away_from_zero(count):
    """TensorFlow Lite's mean of every sum that a window can have, of either type."""
    multiplier, shift = integer_average(count, 255)
    assert shift >= 0 or multiplier >= 1 << 30
    sums = np.arange(-128 * count, 255 * count + 1)
    rounded = sums * multiplier + (1 << 30 + shift) >> 31 + shift
    np.testing.assert_array_equal(rounded, np.trunc(sums / count + np.where(sums < 0, -0.5, 0.5)))


def test_integer_averages_have_a_limit():
    """A multiplier of 31 bits errs too much for very many elements, which must not be found out by wrong outputs."""
    multiplier, shift = integer_average(1 << 20, 255)
    # The greatest mean below a half, and the half.
    for total, mean in (((254 << 20) + (1 << 19) - 1, 254), ((254 << 20) + (1 << 19), 255)):
        assert total * multiplier + (1 << 30 + shift) >> 31 + shift == mean
    with pytest.raises(ValueError, match=r"^count must be smaller, not 5000001$"):
        integer_average(5000001, 255)


@pytest.mark.parametrize("fused", [True, False])
def test_steps_are_where_outputs_of_the_golden_model_begin(rng, fused):
    """Of each float32 number at a step, and of that just below it, the output is computed as the runtime does."""
    for _ in range(6):
        count, y_zero = int(rng.integers(1, 100)), int(rng.integers(-128, 128))
        y_scale = np.float32(10.0 ** rng.uniform(-3, 3))
        steps = float_steps(float(y_scale), y_zero, (-128, 127), count, fused=fused)
        assert (np.diff(steps.astype(np.int64)) > 0).all()
        for order, wanted in ((steps, np.arange(-127, 128)), (steps - 1, np.arange(-128, 127))):
            mean = float_order(order).view(np.float32) / np.float32(count) / y_scale
            outputs = np.rint(mean + np.float32(y_zero)) if fused else np.rint(mean) + y_zero
            np.testing.assert_array_equal(outputs, wanted)


def test_steps_of_exact_means(rng):
    """Every sum of a window, in fractions: halves go to even numbers before the zero point is added."""
    for count in (2, 6, 7):
        x_scale, y_scale = (float(scale) for scale in 2.0 ** rng.integers(-6, -2, 2))
        point = int(rng.integers(-128, 128))
        sums = np.arange(-255 * count, 255 * count + 1)
        quotients = [Fraction(int(total)) * Fraction(x_scale) / (count * Fraction(y_scale)) for total in sums]
        expected = np.clip([round(quotient) + point for quotient in quotients], -128, 127)
        steps = exact_steps(x_scale, y_scale, point, (-128, 127), count)
        np.testing.assert_array_equal(np.searchsorted(steps, sums, "right") - 128, expected)


def test_order_of_float_numbers(rng):
    """Integers in another order would make the search go astray; and the way back leads to the same bits."""
    numbers = np.sort((rng.uniform(-1, 1, 500) * 10.0 ** rng.integers(-44, 38, 500)).astype(np.float32))
    order = float_order(numbers)
    assert (np.diff(order.astype(np.int64)) >= 0).all()
    np.testing.assert_array_equal(float_order(order).view(np.float32), numbers)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("count", [2, 4, 7])
def test_means_of_mixed_types_round_as_the_standard_says(rng, count, whole):
    """The zero point outside the rounding sends halves elsewhere if it is odd; every sum is tried, in fractions."""
    compared = halves = 0
    for point in (0, 255, 1, int(rng.integers(256)) | 1):
        x_scale, y_scale = (float(scale) for scale in 2.0 ** rng.integers(-6, -2, 2))
        zero = int(rng.integers(-128, 128))
        found = find_average(x_scale, (-128 - zero, 127 - zero), y_scale, point, (0, 255), count, fused=False,
                             exact=whole)
        if found is None:
            # A seventh is no float32, so that float32 misses some halves, whichever is near.
            assert count == 7
            continue
        sums = np.arange(count * (-128 - zero), count * (127 - zero) + 1)
        quotients = [Fraction(int(total)) * Fraction(x_scale) / (count * Fraction(y_scale)) for total in sums]
        halves += sum(quotient.denominator == 2 for quotient in quotients)
        # round() of a fraction sends halves to even numbers.
        expected = np.clip([round(quotient) + point for quotient in quotients], 0, 255)
        rounded = np.rint((sums + found.bias).astype(np.float32) * np.float32(found.scale)) + found.point
        np.testing.assert_array_equal(rounded.clip(0, 255), expected)
        compared += 1
    assert compared or count == 7
    assert halves or count == 7
