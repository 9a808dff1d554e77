"""Drawn float nodes between DequantizeLinear and QuantizeLinear: what makes one of several, windows of sequences."""

import numpy as np
from onnx_models import draw, make_model, quantisation

__all__ = ["DRAWN", "KINDS", "between"]

KINDS = (np.int8, np.uint8)


def _simple_scales(rng, *names):
    """Scales that are powers of two, with which sums of float32 numbers are exact."""
    return {f"{name}_scale": np.float32(2.0 ** rng.integers(-7, 0)) for name in names}


def between(rng, node, given, constants=(), inputs=(), settings=None, dtype=None):
    """Model of one node between stored tensors.

    Parameters
    ----------
    rng : Generator
        Draws scales and zero points.
    node : (str, dict)
        Operator and attributes.
    given, constants : mapping of str to array
        Stored tensors that a run gives, and those that are constants.
    inputs : sequence of str
        Inputs of the node, those of stored tensors by these names, and of `settings`.
    settings : mapping of str to array
        Constants that are not stored, and scales and zero points that are not to be drawn.
    dtype : type, optional
        Type of the result, one of 8 bits if not given.

    Returns
    -------
    ModelProto
        The model, whose result is y.
    """
    settings, constants = dict(settings or {}), dict(constants or {})
    stored = {**given, **constants}
    known = {}
    for name, value in stored.items():
        known |= quantisation(rng, name, value.dtype)
    known |= quantisation(rng, "y", rng.choice(KINDS) if dtype is None else dtype, 0.02, 0.2) | settings
    nodes = [("DequantizeLinear", [name, f"{name}_scale", f"{name}_zero"], [f"{name}_d"], {}) for name in stored]
    names = [f"{name}_d" if name in stored else name for name in inputs]
    nodes += [(node[0], names, ["y_d"], node[1]), ("QuantizeLinear", ["y_d", "y_scale", "y_zero"], ["y"], {})]
    return make_model(nodes, given, ["y"], constants | known, opset=18)


def _shape(rng, rank):
    return tuple(int(size) for size in rng.choice([1, 2, 3, 4, 5, 7], rank))


def _cut(rng, shape):
    """A shape that broadcasts to another: axes of one element, and the first ones left out."""
    made = tuple(size if rng.integers(3) else 1 for size in shape)
    return made[int(rng.integers(0, len(made))) if rng.integers(2) else 0:]


def reduction(rng):
    """Any axes, from either end, kept or not, none or all; scales that are powers of two where sums are rounded."""
    kind, dtype = str(rng.choice(["ReduceMax", "ReduceMin", "ReduceSum", "ReduceMean"])), rng.choice(KINDS)
    x = draw(rng, _shape(rng, int(rng.integers(1, 6))), dtype)
    axes = rng.permutation(x.ndim)[:int(rng.integers(0, x.ndim + 1))]
    settings = {"axes": axes - x.ndim * rng.integers(0, 2, len(axes))}
    attributes = {"keepdims": int(rng.integers(2)), "noop_with_empty_axes": int(rng.integers(2))}
    if kind in ("ReduceSum", "ReduceMean"):
        settings |= _simple_scales(rng, "x", "y")
    names = ["x", "axes"] if rng.integers(4) else ["x"]
    return between(rng, (kind, attributes), {"x": x}, {}, names, settings), {"x": x}


def choice(rng):
    """The greatest or least of two or three tensors of several scales, or those that a mask says; some constant."""
    kind, shape = str(rng.choice(["Max", "Min", "Where"])), _shape(rng, int(rng.integers(1, 5)))
    names = ["a", "b"] + ["c"] * (kind != "Where" and rng.integers(2))
    tensors = {name: draw(rng, shape if name == "a" else _cut(rng, shape), rng.choice(KINDS)) for name in names}
    constants = {name: tensors.pop(name) for name in names[1:] if len(tensors) > 1 and not rng.integers(3)}
    if kind != "Where":
        return between(rng, (kind, {}), tensors, constants, names), tensors
    mask = {"mask": rng.integers(0, 2, _cut(rng, shape)).astype(bool)}
    return between(rng, (kind, {}), tensors, constants, ["mask", *names], mask), tensors


def product(rng):
    """Matrices of any rank, batches that broadcast, rows and columns alone; either may be constant."""
    m, k, n = (int(size) for size in rng.integers(1, 9, 3))
    batches = _shape(rng, int(rng.integers(0, 3)))
    shapes = [(*_cut(rng, batches), m, k) if batches else (m, k), (*batches, k, n)]
    if not rng.integers(4):
        shapes[0] = (k,)
    if not rng.integers(4):
        shapes[1] = (k,)
    dtype = rng.choice(KINDS)
    tensors = {name: draw(rng, shape, dtype) for name, shape in zip("ab", shapes, strict=True)}
    constants = {"b": tensors.pop("b")} if rng.integers(2) else {}
    settings = _simple_scales(rng, "a", "b", "y")
    return between(rng, ("MatMul", {}), tensors, constants, ["a", "b"], settings, dtype), tensors


def _window(rng, length, most=5):
    """Kernel, strides, dilations and pads of a window that fits a sequence."""
    kernel = int(rng.integers(1, most))
    dilation = int(rng.integers(1, 3))
    pads = rng.integers(0, kernel, 2).tolist()
    if dilation * (kernel - 1) + 1 > length:
        kernel, pads = 1, [0, 0]
    return {"kernel_shape": [kernel], "strides": [int(rng.integers(1, 4))], "dilations": [dilation], "pads": pads}


def sequence(rng):
    """Convolutions and poolings of (N, C, L), and means and maxima of whole images of three to five dimensions."""
    kind = str(rng.choice(["Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool"]))
    dtype, length = rng.choice(KINDS), int(rng.integers(1, 12))
    shape = (int(rng.integers(1, 3)), int(rng.integers(1, 7)), length)
    attributes, constants, inputs = {}, {}, ["x"]
    settings = _simple_scales(rng, "x", "y")
    if kind.startswith("Global"):
        shape = (*shape[:2], *_shape(rng, int(rng.integers(1, 4))))
    else:
        attributes = _window(rng, length)
    if kind == "AveragePool":
        attributes["count_include_pad"] = int(rng.integers(2))
        del attributes["dilations"]
    if kind.startswith("Conv"):
        outputs = int(rng.integers(1, 6))
        ends = (outputs, shape[1]) if kind == "Conv" else (shape[1], outputs)
        constants["w"] = draw(rng, (*ends, *attributes["kernel_shape"]), dtype)
        inputs.append("w")
        settings |= {"w_zero": dtype(0), "w_scale": np.float32(2.0 ** -5)}
    x = draw(rng, shape, dtype)
    if kind == "ConvTranspose":
        attributes |= {"auto_pad": str(rng.choice(["NOTSET", "SAME_UPPER", "SAME_LOWER"]))}
        del attributes["pads"]
        if not rng.integers(3):
            whole = (length - 1) * attributes["strides"][0] + attributes["dilations"][0] * (
                attributes["kernel_shape"][0] - 1) + 1
            attributes["output_shape"] = [int(rng.integers(1, whole + attributes["strides"][0]))]
    return between(rng, (kind, attributes), {"x": x}, constants, inputs, settings, dtype), {"x": x}


#: Each draws a model and its inputs.
DRAWN = {"reduction": reduction, "choice": choice, "product": product, "sequence": sequence}
