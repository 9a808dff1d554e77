"""Differences and products of quantised tensors against onnxruntime, on all pairs of stored values."""

import numpy as np
import pytest
from onnx_node import MICROSOFT, assert_equal, run_node

from pearray.golden import elementwise

STORED = np.arange(256, dtype=np.uint8)


def draw(rng, case, product):
    """Scales, irregular or of simple ratios, with which outputs spread over their range."""
    scales = [np.exp(rng.uniform(-4, 1, 3)), rng.integers(1, 60, 3) / 100, 2.0**rng.integers(-8, 3, 3)][case % 3]
    scales[2] *= 32 if product else 1
    return scales.astype(np.float32)


def points(rng, kinds):
    """Zero points of each type."""
    return [np.dtype(kind).type(rng.integers(np.iinfo(kind).min, np.iinfo(kind).max + 1)) for kind in kinds]


def test_multiply_equals_onnxruntime_on_all_pairs(rng):
    """If it failed, QLinearMul would differ from the runtime where products tie, or nearly do."""
    for case in range(24):
        kind = (np.int8, np.uint8)[case % 2]
        (a_scale, b_scale, y_scale), (a_zero, b_zero, y_zero) = draw(rng, case, True), points(rng, [kind] * 3)
        a, b = np.repeat(STORED.view(kind), 256), np.tile(STORED.view(kind), 256)
        assert_equal(elementwise.multiply(a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero),
                     run_node("QLinearMul", [a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero], output=kind,
                              domain=MICROSOFT))


@pytest.mark.parametrize("operator", ["Sub", "Mul"])
def test_float_rule_equals_onnxruntime_on_all_pairs(rng, operator):
    """If it failed, a mixture of types would be rounded unlike the operators that follow one another."""
    rule, settings = {"Sub": (elementwise.subtract, {}), "Mul": (elementwise.multiply, {"fused": False})}[operator]
    for case in range(12):
        kinds = rng.choice([np.int8, np.uint8], 3)
        scales, zeros = draw(rng, case, operator == "Mul"), points(rng, kinds)
        a, b = np.repeat(STORED.view(kinds[0]), 256), np.tile(STORED.view(kinds[1]), 256)
        real = [run_node("DequantizeLinear", [values, scale, zero], output=np.float32)
                for values, scale, zero in zip((a, b), scales, zeros, strict=False)]
        expected = run_node("QuantizeLinear", [run_node(operator, real, output=np.float32), scales[2], zeros[2]],
                            output=kinds[2])
        assert_equal(rule(a, scales[0], zeros[0], b, scales[1], zeros[1], scales[2], zeros[2], dtype=kinds[2],
                          **settings), expected)


@pytest.mark.parametrize(("call", "message"), [
    (lambda a: elementwise.subtract(a.astype(np.int16), 1, 0, a, 1, 0, 1, 0), "^a must be int8 or uint8, not int16$"),
    (lambda a: elementwise.multiply(a, 1, 0, a, 0, 0, 1, 0), "^b_scale must be finite"),
    (lambda a: elementwise.multiply(a, 1e30, 0, a, 1e30, 0, 1, 0), r"^a_scale \* b_scale / y_scale must be finite"),
    (lambda a: elementwise.tflite_sum(a, 1, 0, a[:3], 1, 0, 1, 0), r"^b must broadcast with \(4,\), not have shape"),
    (lambda a: elementwise.tflite_sum(a, 1, 0, a, 1, 0, 1e-7, 0), "^y_scale must be more than 1.91e-06 for the other"),
    (lambda a: elementwise.tflite_multiply(a, 1, 0, a, 1, 0, 1e-20, 0), r"^scale must be less than 2\*\*30"),
])
def test_what_does_not_fit(call, message):
    """What the rules do not take must be told, not computed to something."""
    with pytest.raises(ValueError, match=message):
        call(np.zeros(4, np.int8))
