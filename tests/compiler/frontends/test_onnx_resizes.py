"""Resize of mode linear in ONNX networks: equal to onnxruntime, or refused for what float32 would round."""

import numpy as np
import pytest
from onnx_models import draw, load, make_model, qdq_reference
from random_workloads import configuration, interpret

import pearray as pe

_MODES = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric")


def asked(rng, shape):
    """Draw inputs and attributes of a Resize along the last axes, or rows and columns of images of NHWC."""
    rank = len(shape)
    axes = (1, 2) if rank == 4 and rng.integers(3) == 0 else (rank - 2, rank - 1)
    axes = axes[1:] if rank == 3 and rng.integers(2) else axes
    attributes = {"mode": "linear", "coordinate_transformation_mode": str(rng.choice(_MODES))}
    if rng.integers(2):
        factors = {axis: float(rng.choice([1, 2, 4, 8, 0.5 if shape[axis] > 1 else 1])) for axis in axes}
        scales = np.array([factors.get(axis, 1) for axis in range(rank)], np.float32)
        return ["", "scales"], {"scales": scales}, attributes
    sizes = [int(rng.choice([2 * size, 2 * size - 1, 4 * size])) if axis in axes else size
             for axis, size in enumerate(shape)]
    return ["", "", "sizes"], {"sizes": np.array(sizes, np.int64)}, attributes


def equal(model, x, folder):
    """Compare the golden model of a file with onnxruntime; return its graph, or None if float32 would round places."""
    try:
        graph = load(model, folder).graph_for({"x": x})
    except pe.PearrayError as error:
        if "multiples of 1 / 256" not in str(error):
            raise
        return None
    np.testing.assert_array_equal(graph.golden({"x": x})["y"], qdq_reference(model, {"x": x}), strict=True)
    return graph


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_of_stored_integers(rng, tmp_path, dtype):
    """The runtime cuts what lies between integers towards zero, whatever their scale."""
    found = []
    for _ in range(40):
        shape = tuple(int(size) for size in rng.integers(1, 6, rng.choice([2, 3, 4, 4])))
        inputs, constants, attributes = asked(rng, shape)
        x = draw(rng, shape, dtype)
        model = make_model([("Resize", ["x", *inputs], ["y"], attributes)], {"x": x}, ["y"], constants)
        graph = equal(model, x, tmp_path)
        if graph is not None and len(found) < 4:
            interpret(graph, {"x": x}, configuration(), effort=0)
        found += [graph] * (graph is not None)
    assert len(found) > 15


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_between_floats(rng, tmp_path, dtype):
    """The runtime interpolates in float32, which rounds nothing if the scale has few bits; then halves go to even."""
    found = []
    for _ in range(40):
        shape = tuple(int(size) for size in rng.integers(1, 6, rng.choice([2, 3, 4, 4])))
        inputs, constants, attributes = asked(rng, shape)
        constants |= {"s": np.float32(2.0 ** -int(rng.integers(0, 9)) * rng.choice([1, 3])), "z": draw(rng, (), dtype)}
        x = draw(rng, shape, dtype)
        model = make_model([("DequantizeLinear", ["x", "s", "z"], ["d"], {}),
                            ("Resize", ["d", *inputs], ["r"], attributes),
                            ("QuantizeLinear", ["r", "s", "z"], ["y"], {})], {"x": x}, ["y"], constants)
        graph = equal(model, x, tmp_path)
        if graph is not None and len(found) < 4:
            interpret(graph, {"x": x}, configuration(), effort=0)
        found += [graph] * (graph is not None)
    assert len(found) > 15


@pytest.mark.parametrize(("change", "message"), [
    ({"s": np.float32(0.1)}, "scale of x must have at most 11 significant bits .* where outputs are multiples of 1 / "
                             "16 of a step with mode 'linear', not 24 as 0.10000000149011612 has"),
    ({"t": np.float32(0.25)}, "QuantizeLinear behind it must have the type, scale and zero point of x with mode "),
    ({"between": "Relu"}, "no Relu or Clip may follow Resize directly"),
    ({"scales": np.array([1, 2, 2, 2], np.float32)}, r"axes whose size changes must be the last .*not \[1, 2, 3\]"),
    ({"scales": np.array([1, 1, 3, 2], np.float32)}, "places of outputs must be multiples of 1 / 256, not 0.33333"),
    ({"exclude_outside": 1}, "antialias and exclude_outside must be 0, not 1"),
    ({"coordinate_transformation_mode": "tf_crop_and_resize"}, "coordinate_transformation_mode must be "),
])
def test_refused(rng, tmp_path, change, message):
    """What onnxruntime rounds in the order of its instructions would be a step off."""
    constants = {"s": np.float32(0.5), "z": np.int8(3), "scales": np.array([1, 1, 2, 2], np.float32)}
    constants |= {name: value for name, value in change.items() if name in ("s", "scales")}
    constants |= {"t": change.get("t", constants["s"])}
    attributes = {"mode": "linear", **{name: value for name, value in change.items() if name in (
        "exclude_outside", "coordinate_transformation_mode")}}
    between = change.get("between", "Identity")
    model = make_model([("DequantizeLinear", ["x", "s", "z"], ["d"], {}),
                        ("Resize", ["d", "", "scales"], ["r"], attributes), (between, ["r"], ["f"], {}),
                        ("QuantizeLinear", ["f", "t", "z"], ["y"], {})],
                       {"x": draw(rng, (1, 2, 4, 4), np.int8)}, ["y"], constants)
    with pytest.raises(pe.PearrayError, match=message):
        load(model, tmp_path).graph()
