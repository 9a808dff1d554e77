"""Sums and means along axes against the order in which NumPy and onnxruntime add float32 numbers."""

import numpy as np
import pytest
from onnx_node import run_node

from pearray.golden import reduction


def test_sums_that_order_decides_are_uncertain():
    """49 elements of a scale of many bits add up to another float32 number in another order; simple ones never do."""
    assert not reduction.is_certain(0.0231, -128, np.int8, 49, True, 0.0191, -128, np.int8)
    assert reduction.is_certain(2.0**-5, 3, np.int8, 49, True, 0.0117, -128, np.int8)
    # A mean half-way between two outputs is exact, and goes to the even one in both.
    assert reduction.is_certain(0.25, 0, np.uint8, 2, True, 0.25, 1, np.uint8)


@pytest.mark.parametrize("operator", ["ReduceSum", "ReduceMean"])
def test_certain_outputs_are_those_of_the_runtime(rng, operator):
    """A bound that is too small would take scales of which some row of elements gives another output."""
    certain = 0
    for _ in range(25):
        kind, count = rng.choice([np.int8, np.uint8]), int(rng.choice([2, 3, 4, 6, 9]))
        info, is_mean = np.iinfo(kind), operator == "ReduceMean"
        zeros = [kind(rng.integers(info.min, info.max + 1)) for _ in range(2)]
        x_scale = np.float32(rng.uniform(0.01, 0.1))
        y_scale = np.float32(x_scale * rng.choice([0.5, 1, 0.7, 2, 1 / 3]) * (1 if is_mean else count))
        if not reduction.is_certain(x_scale, zeros[0], kind, count, is_mean, y_scale, zeros[1], kind):
            continue
        certain += 1
        x = rng.integers(info.min, info.max + 1, (2000, count)).astype(kind)
        real = run_node("DequantizeLinear", [x, x_scale, zeros[0]], output=np.float32)
        made = run_node(operator, [real, np.array([1])], output=np.float32, keepdims=0)
        expected = run_node("QuantizeLinear", [made, y_scale, zeros[1]], output=kind)
        sums = reduction.zeroed_sums(x, (1,), False, zeros[0])
        got = reduction.rounded(sums, x_scale, count if is_mean else 1, y_scale, zeros[1], kind)
        np.testing.assert_array_equal(got, expected)
    assert certain >= 5


def test_sums_that_decide_are_all_that_are_tried(rng, monkeypatch):
    """A sum that is left out might have another output; with all of them, what is certain is the same."""
    found = [0, 0]
    for _ in range(300):
        elements = int(rng.choice([1, 2, 3, 5, 9, 25, 64]))
        scales = [float(np.float32(2.0 ** rng.integers(-9, 2) if rng.integers(2) else 10 ** rng.uniform(-3, 0)))
                  for _ in range(2)]
        case = (scales[0], int(rng.integers(-128, 128)), np.int8, elements, bool(rng.integers(2)), scales[1],
                int(rng.integers(-128, 128)), np.int8)
        few = reduction.is_certain(*case)
        with monkeypatch.context() as patch:
            patch.setattr(reduction, "_decisive", lambda sums, *_: np.arange(sums[0], sums[-1] + 1))
            assert reduction.is_certain(*case) == few, case
        found[few] += 1
    assert min(found) > 5


def test_many_elements_take_no_memory():
    """An image of a million pixels would take gigabytes to find that its mean is uncertain."""
    assert not reduction.is_certain(0.02, 1, np.int8, 1 << 20, True, 0.02, 0, np.int8)
    assert reduction.is_certain(0.5, 1, np.int8, 40_000, True, 0.5, 0, np.int8)
