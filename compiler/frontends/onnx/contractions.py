"""ONNX operators that contract: QLinearConv, QGemm, QLinearMatMul, and ConvTranspose in QDQ form."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ....hdl.errors import PearrayError
from ...operators import Conv2d, ConvTranspose2d, Gemm, MatMul, Requant, Reshape, Sums
from ...operators.fields import check_scale, whole
from .builder import MICROSOFT, OWN, Builder, OnnxNode, Quantisation, handles, spatial_padding, two
from .rows import of_images

__all__: list[str] = []


def _as_wide(node: OnnxNode, graph: Builder, place: int = 3) -> str:
    """Name of the weights, at a place, as wide as the activations, which may have 16 bits where these have 8."""
    x, name = graph.tensor(node.inputs[0]), node.inputs[place]
    value = graph.constants.get(name)
    if value is None or not x.dtype.itemsize > value.dtype.itemsize:
        return name
    return graph.store(f"{name}:{8 * x.dtype.itemsize} bits", value.astype(np.int16))


class _Ending(NamedTuple):
    """How sums become a result, and its bounds, if they are narrower than its type."""

    requant: Requant | Sums
    bounds: tuple[int, int] | None


def _operands(node: OnnxNode, graph: Builder, names: str) -> list[Quantisation]:
    """How both operands of a contraction are stored, by their names."""
    return [graph.quantisation(node, index + 1, name, graph.tensor(node.inputs[index]).dtype)
            for index, name in zip((0, 3), names, strict=True)]


def _ending(node: OnnxNode, graph: Builder, x: Quantisation, w: Quantisation, y: str, result: int = 6) -> _Ending:
    """What becomes of sums, whose scale `y` stands at the input `result`.

    What stands for a float node whose result nobody stores has none, and gives its sums.
    """
    if node.proto is None and not node.input(result):
        return _Ending(Sums(x.zero_point, w.zero_point), None)
    found = graph.quantisation(node, result, y)
    return _Ending(Requant.onnx(*x[:2], *w[:2], *found[:2], clamp=found.clamp), found.clamp)


def _convolve(node: OnnxNode, graph: Builder, kind: type[Conv2d | ConvTranspose2d], layout: str,
              **others: Any) -> None:
    """Append a convolution whose inputs are QLinearConv's and whose weights have dimensions `layout`.

    Parameters
    ----------
    node, graph
        Node and the graph under construction.
    kind : type
        Operator.
    layout : str
        Dimensions of the weights, for messages.
    **others
        Attributes that this kind alone has, with their defaults; those that are taken are parameters of the operator.
    """
    taken = node.take(auto_pad="NOTSET", dilations=None, group=1, kernel_shape=None, pads=None, strides=None,
                      activation=None, **others)
    groups, weights = whole(1)("group", taken["group"]), graph.constant(node, 3, "w")
    x, w = _operands(node, graph, "xw")
    size = graph.image(node.inputs[0])
    if weights.ndim != 4:
        raise PearrayError(f"w must have 4 dimensions ({layout}), not shape {weights.shape}")
    kernel = two("kernel_shape", taken["kernel_shape"], weights.shape[2:])
    if kernel != weights.shape[2:]:
        raise PearrayError(f"kernel_shape must be that of w, {weights.shape[2:]}, not {kernel}")
    more = {}
    if kind is ConvTranspose2d:
        _transposed_padding(taken, size, kernel)
        more["output_padding"] = taken["output_padding"] or 0
        if w.scale.ndim:
            # Scales along w's second axis are those of each group's outputs.
            w = w._replace(scale=np.tile(w.scale, groups))
    strides, dilations = (two(name, taken[name], (1, 1)) for name in ("strides", "dilations"))
    padding = spatial_padding(taken["auto_pad"], taken["pads"], size, kernel, strides, dilations)
    ending, inputs = _ending(node, graph, x, w, "y"), {"x": node.inputs[0], "w": _as_wide(node, graph)}
    if node.input(8):
        graph.constant(node, 8, "B")
        inputs["b"] = node.inputs[8]
    graph.add(node, kind(stride=strides, padding=padding, dilation=dilations, groups=groups,
                         requant=ending.requant, activation=taken["activation"], **more), inputs, bounds=ending.bounds)


def _transposed_padding(taken: dict[str, Any], size: tuple[int, int], kernel: tuple[int, int]) -> None:
    """Set pads and output_padding of a ConvTranspose from what says how large its result is, if anything does.

    With ``SAME_UPPER`` and ``SAME_LOWER`` that is the size times the stride at most. An odd element is cut off at the
    end with ``SAME_UPPER``, and at the beginning else; what `output_shape` has beyond the end is added there.
    """
    same = taken["auto_pad"] in ("SAME_UPPER", "SAME_LOWER")
    if taken["output_shape"] is None and not same:
        return
    strides, dilations = (two(name, taken[name], (1, 1)) for name in ("strides", "dilations"))
    wanted = two("output_shape", taken["output_shape"], (size[0] * strides[0], size[1] * strides[1]))
    more = [*(taken["output_padding"] or (0, 0))]
    begins, ends = [], []
    for axis in range(2):
        whole = (size[axis] - 1) * strides[axis] + more[axis] + dilations[axis] * (kernel[axis] - 1) + 1
        total = max(whole - wanted[axis], 0)
        more[axis] += max(wanted[axis] - whole, 0) if taken["output_shape"] is not None else 0
        if more[axis] >= strides[axis] > 0 and more[axis]:
            raise PearrayError(f"output_shape must be less than {whole - more[axis] + strides[axis]} along a dimension "
                               f"of {size[axis]} elements, not {wanted[axis]}: nothing reaches so far")
        begins.append(total // 2 if taken["auto_pad"] == "SAME_UPPER" else total - total // 2)
        ends.append(total - begins[-1])
    taken |= {"auto_pad": "NOTSET", "pads": [*begins, *ends], "output_padding": tuple(more)}


@handles("QLinearConv")
@of_images(weights=3)
def _convolution(node: OnnxNode, graph: Builder) -> None:
    _convolve(node, graph, Conv2d, "M, C, R, S")


@handles("ConvTranspose", domain=OWN)
@of_images(weights=3)
def _transposed_convolution(node: OnnxNode, graph: Builder) -> None:
    _convolve(node, graph, ConvTranspose2d, "C, M, R, S", output_padding=None, output_shape=None)


@handles("QGemm", domain=MICROSOFT)
def _gemm(node: OnnxNode, graph: Builder) -> None:
    taken = node.take(alpha=1.0, transA=0, transB=0, activation=None)
    if node.proto is not None and not (node.input(7) and node.input(8)):
        raise PearrayError(f"y_{'zero_point' if node.input(7) else 'scale'} is missing: a float output is not "
                           "supported")
    a, b = _operands(node, graph, "ab")
    alpha = np.float32(taken["alpha"])
    if not np.isfinite(alpha) or alpha <= 0:
        raise PearrayError(f"alpha must be finite and above 0, not {alpha}")
    # The runtime's order: alpha meets a's scale first.
    with np.errstate(over="ignore", under="ignore"):
        a = a._replace(scale=np.asarray(alpha * a.scale))
    left, right = graph.tensor(node.inputs[0]).shape, graph.tensor(node.inputs[3]).shape
    if len(left) != 2 or len(right) != 2:
        raise PearrayError(f"a and b must have 2 dimensions, not shapes {left} and {right}")
    m, n = left[bool(taken["transA"])], right[not taken["transB"]]
    inputs = {"a": node.inputs[0], "b": _as_wide(node, graph)}
    if node.input(6):
        inputs["c"] = _addend(graph, node, graph.constant(node, 6, "C"), m, n)
    ending = _ending(node, graph, a, b, "y", 7)
    graph.add(node, Gemm(trans_a=bool(taken["transA"]), trans_b=bool(taken["transB"]), requant=ending.requant,
                         activation=taken["activation"]), inputs, bounds=ending.bounds)


def _addend(graph: Builder, node: OnnxNode, value: np.ndarray, m: int, n: int) -> str:
    """Name of a constant with the shape that Gemm takes: (n,) or (m, n)."""
    name = node.inputs[6]
    if value.shape in ((n,), (m, n)) and m > 1:
        return name
    try:
        value = np.broadcast_to(value, (m, n) if value.ndim == 2 and value.shape[0] > 1 else (1, n))
    except ValueError:
        raise PearrayError(f"C must broadcast to shape ({m}, {n}), not have shape {value.shape}") from None
    return graph.store(f"{name}:{node.outputs[0]}", np.ascontiguousarray(value if value.shape[0] > 1 else value[0]))


def _single(node: OnnxNode, graph: Builder) -> OnnxNode:
    """A product of matrices whose scales are of float16 with the one factor that these make, which is rounded to it."""
    places = (1, 4, 6)
    scales = [graph.constant(node, place, f"{name}_scale") for place, name in zip(places, "aby", strict=True)
              if node.input(place)]
    if any(scale.dtype != np.float16 for scale in scales) or len(scales) < len(places):
        return node
    for scale, name in zip(scales, "aby", strict=True):
        check_scale(f"{name}_scale", scale)
    a, b, y = scales
    with np.errstate(over="ignore", under="ignore"):
        factor = (a * b / y).astype(np.float32)
    inputs = [*node.inputs]
    for place, value in zip(places, (factor, np.float32(1), np.float32(1)), strict=True):
        inputs[place] = graph.store(f"{node.inputs[place]}:float32", np.asarray(value))
    return replace(node, inputs=inputs)


@handles("QLinearMatMul")
def _matrix_product(node: OnnxNode, graph: Builder) -> None:
    activation, node = node.take(activation=None)["activation"], _single(node, graph)
    a, b = _operands(node, graph, "ab")
    left, right = graph.tensor(node.inputs[0]).shape, graph.tensor(node.inputs[3]).shape
    ending = _ending(node, graph, a, b, "y")
    kind = Gemm if len(right) == 2 and len(left) >= 2 else MatMul
    operator = kind(requant=ending.requant, activation=activation)
    inputs = {"a": node.inputs[0], "b": _as_wide(node, graph)}
    if node.input(8):
        # What stands for a float product and a sum behind it has its bias here.
        inputs["c"] = node.inputs[8]
    if len(left) == 2 or kind is MatMul:
        graph.add(node, operator, inputs, bounds=ending.bounds)
        return
    rows, result = graph.inner(node.inputs[0], "rows"), graph.inner(node.outputs[0], "product")
    graph.add(node, Reshape((-1, left[-1])), {"x": node.inputs[0]}, rows)
    graph.add(node, operator, inputs | {"a": rows}, result)
    graph.add(node, Reshape((*left[:-1], right[1])), {"x": result}, bounds=ending.bounds)
