"""GELU and SiLU as users state them: their bound against float64, onnxruntime's integers, and one-line errors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_node import MICROSOFT, run_node

import pearray as pe

torch = pytest.importorskip("torch")

EVERY = {kind: np.arange(256, dtype=np.uint8).view(kind) for kind in (np.int8, np.uint8)}

#: Operators with PyTorch's function, and what onnxruntime has for it.
GATES = {
    "gelu": (pe.Gelu, {}, torch.nn.functional.gelu,
             lambda x: run_node("Gelu", [x], output=np.float32)),
    "gelu_tanh": (pe.Gelu, {"approximate": "tanh"}, lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
                  lambda x: run_node("Gelu", [x], output=np.float32, approximate="tanh")),
    "silu": (pe.Silu, {}, torch.nn.functional.silu,
             lambda x: run_node("QuickGelu", [x], output=np.float32, domain=MICROSOFT, alpha=1.0)),
}

SCALES = {"x_scale": 0.05, "y_scale": 0.03}


@pytest.mark.parametrize("name", GATES)
@settings(max_examples=30, deadline=None)
@given(st.sampled_from((np.int8, np.uint8)), st.floats(-9, 2), st.floats(-9, 0), st.integers(0, 127),
       st.sampled_from(("onnx", "exact")))
def test_errors_are_bounded(name, dtype, x_exponent, y_exponent, point, rounding):
    """If it failed, an output would be further from float64 than its rounding, or float32 than is stated."""
    make, options, theirs, _ = GATES[name]
    x_scale, y_scale = (float(np.float32(2.0 ** exponent)) for exponent in (x_exponent, y_exponent))
    operator = make(x_scale=x_scale, x_zero_point=dtype(point), y_scale=y_scale, y_zero_point=dtype(point),
                    rounding=rounding, **options)
    x, bounds = (EVERY[dtype].astype(np.float64) - point) * x_scale, np.iinfo(dtype)
    exact = np.clip(theirs(torch.tensor(x)).numpy() / y_scale + point, bounds.min, bounds.max)
    error = np.abs(pe.golden_run(operator, {"x": EVERY[dtype]})["y"] - exact)
    assert (error <= 0.5 + (2.0 ** -40 if rounding == "exact" else 2.0 ** -20) * np.abs(x) / y_scale + 1e-9).all()


@pytest.mark.parametrize("name", GATES)
def test_equals_the_runtime(rng, name):
    """If it failed, a network imported from ONNX would differ from onnxruntime's in the last bit."""
    make, options, _, run = GATES[name]
    for number in range(60):
        dtype = (np.int8, np.uint8)[number % 2]
        x_scale, y_scale = rng.uniform(0.005, 0.2, 2).astype(np.float32)
        points = rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max + 1, 2).astype(dtype)
        operator = make(x_scale=x_scale, x_zero_point=points[0], y_scale=y_scale, y_zero_point=points[1], **options)
        real = run_node("DequantizeLinear", [EVERY[dtype], x_scale, points[0]], output=np.float32)
        expected = run_node("QuantizeLinear", [run(real), y_scale, points[1]], output=dtype)
        np.testing.assert_array_equal(pe.golden_run(operator, {"x": EVERY[dtype]})["y"], expected)


@pytest.mark.parametrize("name", GATES)
def test_floats_without_scales(rng, name):
    """Without scales the operator is a function of floats, whatever their shape."""
    make, options, theirs, _ = GATES[name]
    x = rng.normal(size=(2, 3, 4)).astype(np.float32)
    found = pe.golden_run(make(**options), {"x": x})["y"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, theirs(torch.tensor(x)).numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("operator", "x", "message"), [
    (lambda: pe.Gelu(approximate="sigmoid"), EVERY[np.int8], "approximate must be 'none' or 'tanh', not 'sigmoid'"),
    (lambda: pe.Gelu(rounding="float"), EVERY[np.int8], "rounding must be 'onnx' or 'exact', not 'float'"),
    (lambda: pe.Silu(x_scale=1.0), EVERY[np.int8], "x_scale and y_scale must all be given or none"),
    (lambda: pe.Silu(), EVERY[np.int8], "x must be of a float type without scales, not int8: give x_scale and y_scale"),
    (lambda: pe.Gelu(**SCALES), np.zeros(3, np.int16), "x must be of type int8 or uint8 where scales are given, not"),
    (lambda: pe.Gelu(**SCALES, y_zero_point=np.uint8(3)), EVERY[np.int8], "y_zero_point must be int8, as x is, not"),
])
def test_mistakes_are_named_in_one_line(operator, x, message):
    """What does not fit is named with what is allowed, before anything is computed."""
    with pytest.raises(pe.PearrayError) as error:
        pe.golden_run(operator(), {"x": x})
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_floats_have_no_lowering():
    """A program of floats would compute something else on integers."""
    with pytest.raises(pe.PearrayError, match="x must be of an integer type of at most 8 bits for this accelerator"):
        pe.compile(pe.Gelu(), {"x": np.zeros((2, 3), np.float32)}, on="systolic-8x8")
