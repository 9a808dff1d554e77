"""Drawn operators that move elements, and tensors for them."""

import numpy as np
from onnx_moves import MOVES, drawn_move, drawn_shape

import pearray as pe

__all__ = ["MOVES", "concat", "joined", "move", "moved", "moved_case", "split"]


def _operator(kind, inputs, attributes, x):
    """The operator that an ONNX node with constant inputs is."""
    if kind == "Transpose":
        return pe.Transpose(tuple(attributes.get("perm", range(x.ndim)[::-1])))
    if kind == "Slice":
        starts, ends, axes, steps = inputs
        return pe.Slice(starts, ends, axes, steps)
    if kind == "Pad":
        pads, value, axes = inputs
        return pe.Pad(pads, attributes["mode"], int(value), axes)
    if kind == "Resize":
        modes = attributes["coordinate_transformation_mode"], attributes["nearest_mode"]
        return pe.Resize(inputs[1] if len(inputs) < 3 else None, inputs[2] if len(inputs) == 3 else None, *modes)
    if kind == "DepthToSpace":
        return pe.DepthToSpace(attributes["blocksize"], attributes["mode"])
    if kind == "SpaceToDepth":
        return pe.SpaceToDepth(attributes["blocksize"])
    if kind == "Gather":
        return pe.Gather(inputs[0], attributes["axis"])
    return pe.Tile(inputs[0]) if kind == "Tile" else pe.Expand(tuple(inputs[0]))


def moved_case(rng, name, kind):
    """Draw an operator of a family of :data:`MOVES`.

    Returns
    -------
    Operator, ndarray, (str, list, dict)
        The operator, its input, and the ONNX node: operator, inputs besides the first, attributes.
    """
    kind = np.dtype(kind)
    node, inputs, attributes, x = drawn_move(rng, name, kind)
    attributes.pop("keep_aspect_ratio_policy", None)
    return _operator(node, inputs, attributes, x), x, (node, inputs, attributes)


def moved(rng, bits, name):
    """An operator of a family of :data:`MOVES`, of operands of some bits: any axes, steps, sides and orders."""
    kind = _kind(rng, bits)
    node, inputs, attributes, x = drawn_move(rng, name, kind)
    attributes.pop("keep_aspect_ratio_policy", None)
    if node == "Pad":
        inputs[1] = _narrowed(inputs[1], kind, bits)
    return _operator(node, inputs, attributes, x), {"x": _narrowed(x, kind, bits)}, None


def move(rng, bits):
    """An operator of any family, or tensors side by side."""
    return joined(rng, bits) if rng.integers(4) == 0 else moved(rng, bits, str(rng.choice(list(MOVES))))


def _kind(rng, bits):
    return np.dtype(rng.choice([np.int8, np.uint8]) if bits <= 8 else np.int16)


def _narrowed(values, kind, bits):
    """The same values in the range of some bits."""
    if kind.itemsize * 8 == bits:
        return values
    return values >> (kind.itemsize * 8 - bits)


def _shapes(rng, rank, count):
    shape, axis = drawn_shape(rng, rank), int(rng.integers(-rank, rank))
    return axis, [(*shape[:axis % rank], int(rng.integers(1, 9)), *shape[axis % rank + 1:]) for _ in range(count)]


def joined(rng, bits):
    """Tensors that are stored alike, of operands of some bits, side by side."""
    axis, shapes = _shapes(rng, int(rng.integers(1, 6)), int(rng.integers(1, 5)))
    kind = _kind(rng, bits)
    limits = np.iinfo(kind)
    tensors = {f"x{index}": _narrowed(rng.integers(limits.min, limits.max + 1, shape).astype(kind), kind, bits)
               for index, shape in enumerate(shapes)}
    return pe.Concat(axis), tensors, ["x0"] if len(tensors) > 1 and rng.integers(4) == 0 else None


def split(rng, bits):
    """A tensor of operands of some bits, in parts along any axis."""
    axis, shapes = _shapes(rng, int(rng.integers(1, 6)), int(rng.integers(1, 5)))
    kind, sizes = _kind(rng, bits), [shape[axis] for shape in shapes]
    shape, limits = list(shapes[0]), np.iinfo(kind)
    shape[axis] = sum(sizes)
    return pe.Split(axis, sizes), {"x": _narrowed(rng.integers(limits.min, limits.max + 1, shape).astype(kind), kind,
                                                  bits)}, None


def concat(rng, bits=8):
    """Tensors of 8 bits and several scales and types side by side."""
    axis, shapes = _shapes(rng, 4, int(rng.integers(1, 5)))
    kinds = [np.dtype(rng.choice([np.int8, np.uint8])) for _ in (*shapes, "y")]
    points = [kind.type(rng.integers(np.iinfo(kind).min, np.iinfo(kind).max + 1)) for kind in kinds]
    scales = [float(scale) for scale in rng.uniform(0.01, 0.03, len(kinds))]
    if rng.integers(3) == 0:
        scales[0], points[0], kinds[0] = scales[-1], points[-1], kinds[-1]
    tensors = {f"x{index}": rng.integers(np.iinfo(kind).min, np.iinfo(kind).max + 1, shape).astype(kind)
               for index, (shape, kind) in enumerate(zip(shapes, kinds, strict=False))}
    return pe.Concat(axis, tuple(scales[:-1]), tuple(points[:-1]), scales[-1], points[-1]), tensors, None
