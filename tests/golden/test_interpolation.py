"""Interpolation in integers, against onnxruntime's kernels of integers and of floats, and LiteRT's."""

import numpy as np
import pytest
from interpolation_draws import interpolate
from onnx_node import assert_equal, run_node
from tflite_models import Tflite, reference

import pearray as pe
from pearray.golden.interpolation import onnx_along, tflite_along, tflite_unsigned_along


def by_onnxruntime(operator, x):
    """Resize of stored integers, or of floats between those that quantise."""
    asked = {"mode": "linear", "coordinate_transformation_mode": operator.coordinate_mode}
    sizes = np.array([*x.shape[:2], *operator.sizes], np.int64)
    if operator.rounding == "onnx":
        return run_node("Resize", [x, None, None, sizes], output=x.dtype, **asked)
    step, zero = np.float32(0.25), operator.zero_point
    real = run_node("DequantizeLinear", [x, step, zero], output=np.float32)
    real = run_node("Resize", [real, None, None, sizes], output=np.float32, **asked)
    return run_node("QuantizeLinear", [real, step, zero], output=x.dtype)


def by_litert(operator, x):
    """RESIZE_BILINEAR."""
    model, (n, c, h, w) = Tflite(), x.shape
    source = model.tensor((n, h, w, c), 0.5, 3, x.dtype.name, name="x")
    y = model.tensor((n, *operator.sizes, c), 0.5, 3, x.dtype.name, name="y")
    model.node("RESIZE_BILINEAR", [source, model.constant(np.array(operator.sizes, np.int32))], [y],
               "ResizeBilinearOptions", alignCorners=operator.coordinate_mode == "align_corners",
               halfPixelCenters=operator.coordinate_mode == "half_pixel")
    made = reference(model.content([source], [y]), {"x": np.ascontiguousarray(x.transpose(0, 2, 3, 1))})["y"]
    return made.transpose(0, 3, 1, 2)


def test_equals_the_runtimes(rng):
    """If it failed, an output would be rounded to another side, or lie between other elements, than a runtime's."""
    pytest.importorskip("ai_edge_litert")
    for _ in range(90):
        operator, tensors, _ = interpolate(rng, most=9)
        theirs = (by_litert if operator.rounding == "tflite" else by_onnxruntime)(operator, tensors["x"])
        assert_equal(operator.golden(tensors)["y"], np.ascontiguousarray(theirs))


@pytest.mark.parametrize(("call", "message"), [
    (lambda: onnx_along("half_pixel", 3.0, (4, 12)), r"multiples of 1 / 256, not 0.333333\d* as that of output 2"),
    (lambda: tflite_unsigned_along(3, 7, False, False), "must be multiples of 1 / 256"),
    (lambda: tflite_along(1, 2000, False, False), "size must not be 2000 for 1 elements: the kernel's steps of 1 / "),
    (lambda: pe.Interpolate(3, "half_pixel_symmetric", rounding="tflite"), "coordinate_mode must be 'asymmetric', "),
    (lambda: pe.Interpolate(3, zero_point=np.int8(3)), "zero_point must be 0 with rounding 'onnx', not 3"),
    (lambda: pe.Interpolate(3, scales=2.0), "scales must be two numbers"),
    (lambda: pe.Interpolate(3).golden({"x": np.zeros((1, 1, 2, 2), np.int16)}), "x must be int8 or uint8 of 4 dim"),
])
def test_refuses_what_is_not_exact(call, message):
    """If it failed, some outputs would be a step off, as the order of float32's roundings has it."""
    with pytest.raises(ValueError, match=message):
        call()
