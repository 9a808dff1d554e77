"""Drawn ONNX nodes that move elements: operator, inputs besides the first, and attributes, for a tensor of a shape."""

import numpy as np

__all__ = ["MOVES", "drawn_move", "drawn_shape"]


def drawn_shape(rng, rank=None):
    """Draw a shape of one to five dimensions, often an image's, with sizes of 1 and odd ones."""
    rank = int(rng.choice([1, 2, 3, 4, 4, 4, 4, 5])) if rank is None else rank
    return tuple(int(size) for size in rng.choice([1, 2, 3, 4, 5, 6, 7, 9, 12], rank))


def _some_axes(rng, rank):
    """Some axes in any order, each counted from either end."""
    axes = rng.permutation(rank)[:int(rng.integers(1, rank + 1))]
    return axes - rank * rng.integers(0, 2, len(axes))


def transpose(rng, shape):
    """Any permutation, or the one that is there by default."""
    return "Transpose", [], {"perm": rng.permutation(len(shape)).tolist()} if rng.integers(4) else {}


def slices(rng, shape):
    """Steps either way, bounds beyond the ends."""
    axes = _some_axes(rng, len(shape))
    starts, ends, steps = [], [], []
    for axis in axes:
        size = shape[axis]
        step = int(rng.choice([-3, -2, -1, 1, 1, 1, 2, 3]))
        first, last = sorted(rng.integers(0, size, 2).tolist())
        first, last = (first, last + 1) if step > 0 else (last, first - 1)
        far = np.iinfo(np.int64)
        if rng.integers(3) == 0:
            first, last = (-size - 2, far.max) if step > 0 else (size + 1, far.min)
        elif rng.integers(2):
            first -= size
        starts.append(first)
        ends.append(far.min if last == -1 else last)
        steps.append(step)
    return "Slice", [np.array(each, np.int64) for each in (starts, ends, axes, steps)], {}


def pad(rng, shape, mode=None):
    """Every mode, negative pads, some axes."""
    mode = mode or str(rng.choice(["constant", "reflect", "edge", "wrap"]))
    axes = _some_axes(rng, len(shape))[:3]
    befores, behinds = [], []
    for axis in axes:
        size = shape[axis]
        most = size - 1 if mode == "reflect" else 3
        befores.append(int(rng.integers(0, most + 1)))
        behinds.append(int(rng.integers(0, most + 1)))
        if mode == "constant" and rng.integers(3) == 0:
            befores[-1] = -int(rng.integers(0, size))
    value = rng.integers(-128, 128)
    return "Pad", [np.array(befores + behinds, np.int64), value, axes.astype(np.int64)], {"mode": mode}


def resize(rng, shape):
    """Every transformation and rounding, by scales or sizes."""
    attributes = {
        "mode": "nearest",
        "coordinate_transformation_mode": str(rng.choice([
            "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"])),
        "nearest_mode": str(rng.choice(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]))}
    if rng.integers(3) == 0:
        attributes |= {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    still = [axis for axis in range(len(shape)) if axis < len(shape) - 2 and rng.integers(4)]
    if rng.integers(2):
        sizes = [size if axis in still else int(rng.integers(1, 2 * size + 3)) for axis, size in enumerate(shape)]
        if rng.integers(3) == 0:
            attributes["keep_aspect_ratio_policy"] = str(rng.choice(["not_larger", "not_smaller"]))
        return "Resize", [None, None, np.array(sizes, np.int64)], attributes
    scales = [1.0 if axis in still else rng.choice([1, 2, 3, 0.5, 1.5, rng.uniform(1 / size, 3)])
              for axis, size in enumerate(shape)]
    scales = [scale if int(np.float32(scale) * np.float32(size)) else 1.0
              for scale, size in zip(scales, shape, strict=True)]
    return "Resize", [None, np.array(scales, np.float32)], attributes


def depth_to_space(rng, shape):
    """Both orders of channels; `shape` must have channels for a block."""
    blocks = [block for block in (1, 2, 3) if shape[1] % block**2 == 0]
    return "DepthToSpace", [], {"blocksize": int(rng.choice(blocks)), "mode": str(rng.choice(["DCR", "CRD"]))}


def space_to_depth(rng, shape):
    """Blocks that divide height and width."""
    blocks = [block for block in (1, 2, 3) if shape[2] % block == 0 == shape[3] % block]
    return "SpaceToDepth", [], {"blocksize": int(rng.choice(blocks))}


def tile(rng, shape):
    """Repeats of some axes."""
    return "Tile", [rng.integers(1, 4, len(shape))], {}


def expand(rng, shape):
    """More dimensions, and axes of one that are spread."""
    target = [size if size > 1 else int(rng.integers(1, 5)) for size in shape]
    target = [1 if rng.integers(4) == 0 else size for size in target]
    more = [int(size) for size in rng.integers(1, 4, int(rng.integers(0, 2)))]
    return "Expand", [np.array([*more, *target], np.int64)], {}


def gather(rng, shape):
    """Indices of any shape, from either end."""
    axis = int(rng.integers(-len(shape), len(shape)))
    rank = int(rng.integers(0, 3))
    indices = rng.integers(-shape[axis], shape[axis], tuple(rng.integers(1, 6, rank)))
    return "Gather", [np.asarray(indices, np.int64)], {"axis": axis}


MOVES = {maker.__name__: maker for maker in (
    transpose, slices, pad, resize, depth_to_space, space_to_depth, tile, expand, gather)}


def drawn_move(rng, name, kind):
    """Draw a node of a kind and a tensor for it.

    Returns
    -------
    str, list, dict, ndarray
        Operator, inputs besides the first (None for an absent one), attributes, and the first input.
    """
    shape = drawn_shape(rng, 4 if name in ("depth_to_space", "space_to_depth") else None)
    operator, inputs, attributes = MOVES[name](rng, shape)
    if operator == "Pad":
        low = np.iinfo(kind).min
        inputs[1] = np.array(int(inputs[1]) + 128 + int(low), kind)
    limits = np.iinfo(kind)
    return operator, inputs, attributes, rng.integers(limits.min, limits.max + 1, shape).astype(kind)
