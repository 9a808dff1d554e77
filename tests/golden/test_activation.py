"""Activations: clamps, and tables against onnxruntime."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_node import MICROSOFT, assert_equal, run_node

from pearray.golden import activation
from pearray.golden.quantise import dequantize_linear, quantize_linear

#: Functions that onnxruntime has as a form of an operator.
FORMS = {"gelu_tanh": ("Gelu", "", {"approximate": "tanh"}), "silu": ("QuickGelu", MICROSOFT, {"alpha": 1.0})}

TYPES = st.sampled_from((np.int8, np.uint8))
SEED = st.integers(0, 1 << 32)


def parameters(dtype, number):
    """Random scales and zero points of an argument and a result."""
    rng = np.random.default_rng(number)
    bounds = np.iinfo(dtype)
    zero = [int(z) for z in rng.integers(bounds.min, bounds.max + 1, 2)]
    return np.float32(rng.uniform(0.005, 0.15)), zero[0], np.float32(rng.uniform(0.002, 0.1)), zero[1]


def every(dtype):
    """All 256 numbers of a type."""
    return np.arange(256, dtype=np.uint8).view(dtype)


@settings(max_examples=80)
@given(TYPES, st.sampled_from(("sigmoid", "leaky_relu")), st.floats(0, 1, width=32), SEED)
def test_tables_equal_onnxruntime(dtype, name, alpha, number):
    """If it failed, an entry of a table would differ from that of QLinearSigmoid or QLinearLeakyRelu."""
    x_scale, x_zero, y_scale, y_zero = parameters(dtype, number)
    function = name if name == "sigmoid" else (name, alpha)
    entries = activation.table(function, x_scale, x_zero, y_scale, y_zero, dtype)
    attributes = {} if name == "sigmoid" else {"alpha": alpha}
    theirs = run_node({"sigmoid": "QLinearSigmoid", "leaky_relu": "QLinearLeakyRelu"}[name],
                      [every(dtype), x_scale, dtype(x_zero), y_scale, dtype(y_zero)], output=dtype,
                      domain=MICROSOFT, **attributes)
    assert_equal(activation.apply_table(every(dtype), entries), theirs)


@pytest.mark.parametrize("name", activation.FUNCTIONS)
@settings(max_examples=40)
@given(TYPES, st.booleans(), SEED)
def test_tables_equal_dequantise_function_quantise(name, dtype, usual, number):
    """If it failed, a table would differ from onnxruntime's float operator between (de)quantisations."""
    x_scale, x_zero, y_scale, y_zero = parameters(dtype, number)
    real = dequantize_linear(every(dtype), x_scale, x_zero)
    defaults = activation.FUNCTIONS[name].parameters
    taken = defaults if usual else dict(zip(defaults, np.random.default_rng(number).uniform(0.01, 2, len(defaults)),
                                            strict=True))
    attributes = {} if usual else {role: float(value) for role, value in taken.items()}
    operator, domain, form = FORMS.get(name, ("".join(map(str.capitalize, name.split("_"))), "", {}))
    theirs = run_node(operator, [real], output=np.float32, domain=domain, **attributes, **form)
    expected = quantize_linear(theirs, y_scale, y_zero, dtype=dtype)
    function = (name, *taken.values()) if taken else name
    entries = activation.table(function, x_scale, x_zero, y_scale, y_zero, dtype)
    assert_equal(activation.apply_table(every(dtype), entries), expected)


def test_tanh_equals_onnxruntime():
    """If it failed, a coefficient of the rational approximation would be wrong."""
    x = np.linspace(-12, 12, 20001).astype(np.float32)
    assert_equal(activation.tanh(x), run_node("Tanh", [x], output=np.float32))


def test_functions_approximate_their_definitions():
    """If it failed, a function would be another one than its name says; bounds are measured ones, doubled."""
    x = np.linspace(-20, 20, 4001).astype(np.float32)
    exact = x.astype(np.float64)
    assert np.abs(activation.sigmoid(x) - 1 / (1 + np.exp(-exact))).max() < 3e-7
    assert np.abs(activation.tanh(x) - np.tanh(exact)).max() < 6e-7
    gelu = np.array([0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in exact])
    assert np.abs(activation.gelu(x) - gelu).max() < 2e-6


@settings(max_examples=80)
@given(TYPES, st.floats(-3, 3), st.floats(0, 6), SEED)
def test_quantised_bounds_equal_clamping_real_numbers(dtype, low, width, number):
    """If it failed, a clamp inside requantisation would differ from a clamp of the real outputs."""
    scale, zero, _, _ = parameters(dtype, number)
    x = every(dtype)
    real = np.clip(dequantize_linear(x, scale, zero), np.float32(low), np.float32(low + width))
    expected = quantize_linear(real, scale, zero, dtype=dtype)
    bounds = activation.quantised_bounds(low, low + width, scale, zero, dtype)
    assert_equal(activation.clip(x, *bounds), expected)
    positive = activation.quantised_bounds(0, math.inf, scale, zero, dtype)
    assert_equal(activation.relu(x, zero), activation.clip(x, *positive))


@pytest.mark.parametrize(("call", "message"), [
    (lambda: activation.table("swish", 1, 0, 1, 0),
     r"^activation must be \('leaky_relu', alpha\), 'sigmoid', .* or .* not 'swish'$"),
    (lambda: activation.table("leaky_relu", 1, 0, 1, 0), "^activation must be .* not 'leaky_relu'$"),
    (lambda: activation.table(("leaky_relu", math.nan), 1, 0, 1, 0),
     "^alpha of leaky_relu must be a finite number, not nan$"),
    (lambda: activation.table("tanh", 1, 0, 1, 0, np.int16), r"^dtype must be int8 or uint8, not int16$"),
    (lambda: activation.clip(np.zeros(2, np.int8), 1, 0), r"^clip must have low <= high, not 1, 0$"),
    (lambda: activation.quantised_bounds(math.nan, 0, 1, 0), r"^clip must have low <= high, not nan, 0$"),
    (lambda: activation.apply_table(np.zeros(2, np.int16), np.zeros(256)),
     r"^x must be int8 or uint8, not int16$"),
    (lambda: activation.apply_table(np.zeros(2, np.int8), np.zeros(16)),
     r"^entries must have shape \(256,\)"),
])
def test_wrong_arguments_are_named(call, message):
    """If it failed, a mistake would be accepted or its message would not name the field."""
    with pytest.raises(ValueError, match=message):
        call()
