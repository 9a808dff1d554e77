"""ONNX files of operator sets before 13, and com.microsoft's names of what these lack, against onnxruntime."""

import numpy as np
import onnx
import pytest
from onnx_models import MICROSOFT, draw, load, make_model, reference

import pearray as pe


def _old(model, opset):
    """The model as a file of an older operator set, in a format of its time."""
    model.ir_version = 6
    next(item for item in model.opset_import if not item.domain).version = opset
    return model


@pytest.mark.parametrize(("kind", "opset"), [("Resize", 10), ("Upsample", 9), ("Upsample", 7)])
def test_fractional_scales_of_old_sets(rng, tmp_path, kind, opset):
    """Before set 11 axes that grow take the element below, others that above; any later rule moves elements."""
    for _ in range(25):
        sizes = rng.integers(1, 13, 2)
        x = rng.normal(0, 2, (1, 3, *sizes)).astype(np.float32)
        scales = np.ones(4, np.float32)
        for axis, size in enumerate(sizes, 2):
            low = 1 / size if kind == "Resize" else 1
            # Of simple ratios places fall on elements, where float32 alone tells which one is taken.
            scales[axis] = rng.choice([rng.uniform(low, 1), rng.uniform(1, 4), rng.integers(size, 4 * size + 1) / size])
            scales[axis] = max(scales[axis], np.float32(low + 1e-6))
        constants = {"s": np.float32(0.05), "z": np.uint8(100)}
        resize = (kind, ["d"], ["f"], {"mode": "nearest", "scales": [float(scale) for scale in scales]})
        if opset >= 9:
            constants["scales"] = scales
            resize = (kind, ["d", "scales"], ["f"], {"mode": "nearest"})
        model = _old(make_model([
            (f"{MICROSOFT}:QuantizeLinear", ["x", "s", "z"], ["q"], {}),
            (f"{MICROSOFT}:DequantizeLinear", ["q", "s", "z"], ["d"], {}), resize,
            (f"{MICROSOFT}:QuantizeLinear", ["f", "s", "z"], ["y"], {})], {"x": x}, ["y"], constants), opset)
        expected = reference(model, {"x": x}, ["y"])["y"]
        got = load(model, tmp_path).graph().golden({"x": x})["y"]
        np.testing.assert_array_equal(got, expected, f"{x.shape} {scales}")


@pytest.mark.parametrize("axis", [None, 1])
def test_quantisation_of_com_microsoft(rng, tmp_path, axis):
    """Files of sets 7 to 9 can say how tensors are stored under no other name."""
    x, weights = rng.normal(0, 1, (3, 8)).astype(np.float32), draw(rng, (8, 5), np.int8)
    count = 5 if axis else None
    constants = {"xs": np.float32(0.02), "xz": np.uint8(120), "w": weights,
                 "ws": rng.uniform(0.01, 0.02, count).astype(np.float32) if axis else np.float32(0.02),
                 "wz": np.zeros(count or (), np.int8), "ys": np.float32(0.04), "yz": np.uint8(128)}
    prefix, attributes = f"{MICROSOFT}:", {"axis": axis} if axis else {}
    model = _old(make_model([
        (f"{prefix}QuantizeLinear", ["x", "xs", "xz"], ["q"], {}),
        (f"{prefix}DequantizeLinear", ["q", "xs", "xz"], ["d"], {}),
        (f"{prefix}DequantizeLinear", ["w", "ws", "wz"], ["v"], attributes),
        ("MatMul", ["d", "v"], ["f"], {}),
        (f"{prefix}QuantizeLinear", ["f", "ys", "yz"], ["y"], {})], {"x": x}, ["y"], constants), 9)
    expected = reference(model, {"x": x}, ["y"])["y"]
    np.testing.assert_array_equal(load(model, tmp_path).graph().golden({"x": x})["y"], expected)
    # What the standard's operators may not have is no more allowed here.
    model.graph.node[0].input.append("xz")
    with pytest.raises(pe.PearrayError, match="cannot be read"):
        load(onnx.ModelProto.FromString(model.SerializeToString()), tmp_path)
