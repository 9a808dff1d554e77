"""LayerNorm and RMSNorm as users state them: shapes, types, and the one-line errors of bad input."""

import numpy as np
import pytest

import pearray as pe
from pearray.golden import normalisation

SCALES = {"x_scale": 0.1, "y_scale": 0.05}


def _tensors(shape=(3, 8), dtype=np.int8, **other):
    """Tensors of a LayerNorm over the last axis."""
    gamma = np.ones(shape[-1:] if shape else 1, np.float32)
    return {"x": np.zeros(shape, dtype), "gamma": gamma, "beta": np.zeros_like(gamma)} | other


def test_golden_is_that_of_the_model(rng):
    """If it failed, the operator would hand on another scale, zero point or epsilon than it was given."""
    x, gamma = rng.integers(-128, 128, (2, 5, 24)).astype(np.int8), rng.normal(1, 1, 24).astype(np.float32)
    found = pe.golden_run(pe.LayerNorm(**SCALES, y_zero_point=3, epsilon=0.5), {"x": x, "gamma": gamma})["y"]
    gains = normalisation.Gains.of(gamma, None, float(np.float32(0.05)))
    wanted = normalisation.layer_norm(x, float(np.float32(0.1)), gains, y_zero_point=3, epsilon=0.5)
    np.testing.assert_array_equal(found, wanted)
    found = pe.golden_run(pe.RMSNorm(**SCALES, x_zero_point=-7), {"x": x, "gamma": gamma})["y"]
    np.testing.assert_array_equal(found, normalisation.rms_norm(x, float(np.float32(0.1)), gains, x_zero_point=-7))
    assert found.dtype == np.int8


@pytest.mark.parametrize(("fields", "message"), [
    ({"x_scale": 0}, r"^x_scale must be finite and above 0, not 0\.0$"),
    ({"x_scale": 1e-33}, r"^x_scale must be at least 1e-30, not "),
    ({"y_scale": np.nan}, "^y_scale must be finite and above 0, not nan$"),
    ({"y_zero_point": 200}, r"^y_zero_point must be in -128\.\.127 for int8, not 200$"),
    ({"y_zero_point": np.int16(3)}, "^y_zero_point must be of int8 or uint8, not int16$"),
    ({"epsilon": -1.0}, r"^epsilon must be at least 0, not -1\.0$"),
    ({"epsilon": np.inf}, "^epsilon must be a finite number, not inf$"),
])
def test_wrong_fields_are_named(fields, message):
    """A wrong parameter must not come to light as wrong outputs."""
    with pytest.raises(pe.PearrayError, match=message):
        pe.LayerNorm(**SCALES | fields)


@pytest.mark.parametrize(("tensors", "message"), [
    ({"x": np.zeros((3, 8), np.float32)}, "^x must be of type int8, uint8 or int16, not float32$"),
    ({"x": np.zeros((0, 8), np.int8)}, r"^x must have shape \(\.\.\., D\) with D in 1\.\.32768 and no axis of 0, not"),
    ({"x": np.zeros((1, 40000), np.int8)}, r"^x must have shape \(\.\.\., D\) with D in 1\.\.32768 "),
    ({"x": np.zeros((3, 9), np.int8)}, r"^gamma must be of float and of shape \(9,\), the last axis of x, not float32"),
    ({"beta": np.zeros(8, np.int8)}, r"^beta must be of float and of shape \(8,\), .*, not int8 of shape \(8,\)$"),
    ({"gamma": np.full(8, np.inf, np.float32)}, "^tensor 'gamma' must be finite, not inf$"),
    ({"gamma": None}, "^LayerNorm needs a tensor 'gamma', got "),
    ({"z": np.zeros(8)}, "^LayerNorm has no tensor 'z'; it takes x, gamma, beta$"),
])
def test_wrong_tensors_are_named(tensors, message):
    """A wrong tensor is named before anything is computed."""
    given = {name: value for name, value in (_tensors() | tensors).items() if value is not None}
    with pytest.raises(pe.PearrayError, match=message):
        pe.golden_run(pe.LayerNorm(**SCALES), given)


def test_wrong_zero_points_of_x_are_named():
    """A zero point that x cannot have would be cut by the array."""
    tensors = {"x": np.zeros((1, 4), np.int8), "gamma": np.ones(4, np.float32)}
    with pytest.raises(pe.PearrayError, match=r"^x_zero_point must be in -128\.\.127 for int8, not 130$"):
        pe.golden_run(pe.RMSNorm(**SCALES, x_zero_point=130), tensors)


def test_results_without_a_scale_are_named():
    """Gains so great that a step of y has no float32 scale would give infinite outputs."""
    tensors = {"x": np.zeros((1, 4), np.int8), "gamma": np.full(4, 1e30, np.float32)}
    with pytest.raises(pe.PearrayError, match=r"^y_scale must be greater for gains and biases of this size, not "):
        pe.golden_run(pe.RMSNorm(x_scale=1.0, y_scale=1e-30), tensors)
