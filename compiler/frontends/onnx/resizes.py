"""Resize of ONNX networks: the nearest element, which is moved, or what lies between two, which is computed."""

from typing import Any, NamedTuple

import numpy as np

from ....golden.reduction import odd_part
from ....golden.resize import COORDINATES, NEAREST, SIMPLE
from ....hdl.errors import PearrayError, check_choice
from ...graph.graph import Tensor
from ...operators import Interpolate, Reshape, Resize, Transpose
from ...operators.moved import checked_axis
from ...operators.operator import Typed
from .builder import OWN, Builder, OnnxNode, handles, one
from .floats import Floats, check_no_activation, eight_bits
from .moves import whole_numbers

__all__ = ["is_interpolation", "stored_interpolation"]

#: Bits of a float32 number, and those of a stored number less its zero point.
_FLOAT, _STORED = 24, 9

_MODES = ("nearest", "linear")


def is_interpolation(node: OnnxNode) -> bool:
    """Whether a node computes what lies between two elements."""
    return (node.domain, node.op_type) == ("", "Resize") and node.attributes.get("mode") in ("linear", b"linear")


def stored_interpolation(node: OnnxNode, graph: Builder, floats: Floats) -> OnnxNode:
    """Operator on stored integers that an interpolation of floats stands for, without the scale of its result.

    Raises
    ------
    PearrayError
        If x is not quantised.
    """
    x, scale, zero_point = floats.operand("x", node.input(0))
    others = [node.input(place) for place in (1, 2, 3)]
    return node.standing_for("Resize", [x, *others, scale, zero_point], node.outputs, node.attributes, OWN)


@handles("Resize")
def _resize(node: OnnxNode, graph: Builder) -> None:
    made, mode = _asked(node, graph)
    if mode == "nearest":
        graph.add(node, made, {"x": graph.tensor(node.inputs[0]).name})
    else:
        _interpolate(node, graph, *_interpolated(graph.tensor(node.inputs[0]), made))


@handles("Resize", domain=OWN)
def _interpolate_floats(node: OnnxNode, graph: Builder) -> None:
    """Interpolation that onnxruntime computes in float32, where that rounds nothing before it stores the result."""
    check_no_activation(node, "Resize")
    dtype = graph.tensor(node.inputs[0]).dtype
    x, y = graph.quantisation(node, 4, "x", dtype, dtype), eight_bits(node, graph, 6)
    scales = [one(f"{role}_scale", found.scale) for role, found in (("x", x), ("y", y))]
    if scales[0] != scales[1] or x.zero_point != y.zero_point or x.zero_point.dtype != y.zero_point.dtype:
        raise PearrayError("QuantizeLinear behind it must have the type, scale and zero point of x with mode 'linear', "
                           f"not {scales[1]} and {y.zero_point!r} for {scales[0]} and {x.zero_point!r}")
    tensor = graph.tensor(node.inputs[0])
    added, images = _interpolated(tensor, _asked(node, graph)[0], rounding="float", zero_point=y.zero_point)
    rows, columns = added.along(Tensor("x", images.shape if not images.is_last else tuple(
        images.shape[axis] for axis in (0, 3, 1, 2)), dtype))
    parts = rows.whole * columns.whole
    bits, most = odd_part(scales[0]).bit_length(), _FLOAT - _STORED - (parts.bit_length() - 1)
    if parts > 1 and bits > most:
        raise PearrayError(f"scale of x must have at most {most} significant bits (a power of two has 1) where outputs "
                           f"are multiples of 1 / {parts} of a step with mode 'linear', not {bits} as {scales[0]} has: "
                           "many lie half-way between two stored numbers then, and the order in which float32 rounds "
                           "decides; a Resize of stored integers has no such limit")
    _interpolate(node, graph, added, images)


def _asked(node: OnnxNode, graph: Builder) -> tuple[Resize, str]:
    """What a node asks for: places and sizes, as the nearest element has them, and its mode."""
    taken = node.take(
        mode="nearest", coordinate_transformation_mode="half_pixel", nearest_mode="round_prefer_floor", antialias=0,
        axes=None, keep_aspect_ratio_policy="stretch", cubic_coeff_a=-0.75, exclude_outside=0, extrapolation_value=0.0)
    check_choice("mode", taken["mode"], _MODES)
    check_choice("coordinate_transformation_mode", taken["coordinate_transformation_mode"], (*COORDINATES,))
    # None is the rule of older operator sets, as for the runtime.
    nearest = taken["nearest_mode"] or SIMPLE
    if nearest != SIMPLE or taken["nearest_mode"]:
        check_choice("nearest_mode", nearest, (*NEAREST,))
    check_choice("keep_aspect_ratio_policy", taken["keep_aspect_ratio_policy"], (
        "stretch", "not_larger", "not_smaller"))
    if taken["antialias"] or taken["exclude_outside"]:
        raise PearrayError("antialias and exclude_outside must be 0, not 1")
    scales, sizes = _scales_and_sizes(node, graph, taken)
    return Resize(scales, sizes, taken["coordinate_transformation_mode"], nearest), taken["mode"]


def _scales_and_sizes(node: OnnxNode, graph: Builder,
                      taken: dict[str, Any]) -> tuple[list[float] | None, list[int] | None]:
    """Scales and sizes for all axes, of which one may be absent."""
    x = graph.tensor(node.inputs[0])
    rank, sized = len(x.shape), _is_given(node, graph, 3)
    if sized == _is_given(node, graph, 2):
        raise PearrayError("either scales or sizes must be given, not both or neither")
    axes = [*range(rank)] if taken["axes"] is None else [checked_axis("axes", axis, rank) for axis in taken["axes"]]
    given: list[Any] = whole_numbers(node, graph, 3, "sizes") if sized else [
        float(item) for item in graph.constant(node, 2, "scales").reshape(-1)]
    if len(given) != len(axes):
        raise PearrayError(f"{'sizes' if sized else 'scales'} must have a number for each of {len(axes)} axes, not "
                           f"{len(given)}")
    if not sized:
        scales = [1.0] * rank
        for axis, scale in zip(axes, given, strict=True):
            scales[axis] = scale
        return scales, None
    sizes = [*x.shape]
    for axis, size in zip(axes, given, strict=True):
        sizes[axis] = size
    if graph.batches and 0 in axes and sizes[0] == graph.batches[0] and x.shape[0] == graph.batches[1]:
        sizes[0] = graph.batches[1]
    if taken["keep_aspect_ratio_policy"] == "stretch":
        return None, sizes
    choose = min if taken["keep_aspect_ratio_policy"] == "not_larger" else max
    scale = choose(np.float32(sizes[axis]) / np.float32(x.shape[axis]) for axis in axes)
    made = [1.0] * rank
    for axis in axes:
        made[axis] = float(scale)
        # Halves away from zero.
        sizes[axis] = int(np.floor(np.float64(scale * np.float32(x.shape[axis])) + 0.5))
    return made, sizes


def _is_given(node: OnnxNode, graph: Builder, index: int) -> bool:
    """Whether an input is there; one without elements stands for none."""
    name = node.input(index)
    return bool(name) and not (name in graph.constants and not graph.constants[name].size)


class _Images(NamedTuple):
    """How a tensor is seen as images.

    Members
    -------
    shape : tuple of int
        The images (N, C, H, W), or (N, H, W, C).
    is_last : bool
        Whether their channels stand last.
    axes : (int, int)
        Axes of the tensor that are rows and columns; -1 for an axis of one row that it has not.
    """

    shape: tuple[int, ...]
    is_last: bool
    axes: tuple[int, int]


def _images(shape: tuple[int, ...], changed: set[int]) -> _Images:
    """See a tensor as images of which only rows and columns change in number."""
    rank = len(shape)
    if rank == 4 and changed <= {1, 2}:
        return _Images(shape, True, (1, 2))
    if rank == 3 and changed <= {2}:
        return _Images((*shape[:2], 1, shape[2]), False, (-1, 2))
    if 2 <= rank <= 4 and changed <= {rank - 2, rank - 1}:
        return _Images((1,) * (4 - rank) + shape, False, (rank - 2, rank - 1))
    raise PearrayError("with mode 'linear' the axes whose size changes must be the last two of at most 4, or rows and "
                       f"columns of images with their channels last, not {sorted(changed)} of {rank}")


def _interpolated(x: Typed, made: Resize, **fields: Any) -> tuple[Interpolate, _Images]:
    """Interpolation of stored integers that a Resize asks for, and how it sees them."""
    shape = tuple(x.shape)
    sizes, scales = made.sizes_and_scales(shape)
    images = _images(shape, {axis for axis, size in enumerate(shape)
                             if sizes != shape and (sizes[axis] != size or np.float32(scales[axis]) != 1)})
    chosen = [(1, 1.0) if axis < 0 else (sizes[axis], scales[axis]) for axis in images.axes]
    return Interpolate(tuple(size for size, _ in chosen), made.coordinate_mode, tuple(scale for _, scale in chosen),
                       **fields), images


def _interpolate(node: OnnxNode, graph: Builder, added: Interpolate, images: _Images) -> None:
    """Add an interpolation of stored integers."""
    name, target = node.inputs[0], node.outputs[0]
    if images.is_last:
        first, result = (graph.inner(target, what) for what in ("image", "resized"))
        graph.add(node, Transpose((0, 3, 1, 2)), {"x": name}, first)
        graph.add(node, added, {"x": first}, result)
        graph.add(node, Transpose((0, 2, 3, 1)), {"x": result})
        return
    shape = tuple(graph.tensor(name).shape)
    if len(shape) == 4:
        graph.add(node, added, {"x": name})
        return
    first, result = (graph.inner(target, what) for what in ("image", "resized"))
    graph.add(node, Reshape(images.shape), {"x": name}, first)
    graph.add(node, added, {"x": first}, result)
    made = graph.tensor(result).shape
    graph.add(node, Reshape((*shape[:2], made[3]) if images.axes[0] < 0 else tuple(made[4 - len(shape):])),
              {"x": result})
