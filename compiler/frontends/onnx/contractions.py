"""ONNX operators that contract: QLinearConv, QGemm, QLinearMatMul, and ConvTranspose in QDQ form."""

import numpy as np

from ....hdl.errors import PearrayError
from ...operators import Conv2d, ConvTranspose2d, Gemm, Requant, Reshape
from .builder import MICROSOFT, OWN, Builder, OnnxNode, handles, image, optional, quantisation, spatial_padding, two

__all__: list[str] = []


@handles("QLinearConv")
def _convolution(node: OnnxNode, graph: Builder) -> None:
    taken = node.take(auto_pad="NOTSET", dilations=None, group=1, kernel_shape=None, pads=None, strides=None,
                      activation=None)
    weights = graph.constant(node, 3, "w")
    x, w, y = (quantisation(node, graph, index, name) for index, name in ((1, "x"), (4, "w"), (6, "y")))
    size = image(graph, node.inputs[0])
    if weights.ndim != 4:
        raise PearrayError(f"w must have 4 dimensions (M, C, R, S), not shape {weights.shape}")
    kernel = two("kernel_shape", taken["kernel_shape"], weights.shape[2:])
    if kernel != weights.shape[2:]:
        raise PearrayError(f"kernel_shape must be that of w, {weights.shape[2:]}, not {kernel}")
    strides, dilations = (two(name, taken[name], (1, 1)) for name in ("strides", "dilations"))
    padding = spatial_padding(taken["auto_pad"], taken["pads"], size, kernel, strides, dilations)
    inputs = {"x": node.inputs[0], "w": node.inputs[3]}
    if optional(node, 8):
        graph.constant(node, 8, "B")
        inputs["b"] = node.inputs[8]
    requant = Requant.onnx(*x, *w, *y)
    graph.add(node, Conv2d(stride=strides, padding=padding, dilation=dilations, groups=taken["group"],
                           requant=requant, activation=taken["activation"]), inputs)


@handles("ConvTranspose", domain=OWN)
def _transposed_convolution(node: OnnxNode, graph: Builder) -> None:
    """Operands as QLinearConv has them; attributes as ConvTranspose."""
    taken = node.take(auto_pad="NOTSET", dilations=None, group=1, kernel_shape=None, output_padding=None,
                      output_shape=None, pads=None, strides=None, activation=None)
    for name, allowed in (("auto_pad", ("NOTSET", "VALID")), ("output_shape", (None,))):
        if taken[name] not in allowed:
            raise PearrayError(f"{name} must be {' or '.join(map(str, allowed))}, not {taken[name]!r}: give pads and "
                               "output_padding instead")
    weights = graph.constant(node, 3, "w")
    x, w, y = (quantisation(node, graph, index, name) for index, name in ((1, "x"), (4, "w"), (6, "y")))
    image(graph, node.inputs[0])
    if weights.ndim != 4:
        raise PearrayError(f"w must have 4 dimensions (C, M, R, S), not shape {weights.shape}")
    kernel = two("kernel_shape", taken["kernel_shape"], weights.shape[2:])
    if kernel != weights.shape[2:]:
        raise PearrayError(f"kernel_shape must be that of w, {weights.shape[2:]}, not {kernel}")
    if w[0].ndim and w[0].size == weights.shape[1]:
        # Scales along w's second axis are those of each group's outputs.
        w = np.tile(w[0], taken["group"]), w[1]
    strides, dilations = (two(name, taken[name], (1, 1)) for name in ("strides", "dilations"))
    pads = spatial_padding(taken["auto_pad"], taken["pads"], (0, 0), kernel, strides, dilations)
    inputs = {"x": node.inputs[0], "w": node.inputs[3]}
    if optional(node, 8):
        graph.constant(node, 8, "B")
        inputs["b"] = node.inputs[8]
    graph.add(node, ConvTranspose2d(
        stride=strides, padding=pads, dilation=dilations, groups=taken["group"],
        output_padding=tuple(int(size) for size in taken["output_padding"] or (0, 0)),
        requant=Requant.onnx(*x, *w, *y), activation=taken["activation"]), inputs)


@handles("QGemm", domain=MICROSOFT)
def _gemm(node: OnnxNode, graph: Builder) -> None:
    taken = node.take(alpha=1.0, transA=0, transB=0, activation=None)
    if not optional(node, 7):
        raise PearrayError("y_scale is missing: a float output is not supported")
    a, b, y = (quantisation(node, graph, index, name) for index, name in ((1, "a"), (4, "b"), (7, "y")))
    # The runtime's order: alpha meets a's scale first.
    scale = np.float32(taken["alpha"]) * a[0].astype(np.float32)
    left, right = graph.tensor(node.inputs[0]).shape, graph.tensor(node.inputs[3]).shape
    if len(left) != 2 or len(right) != 2:
        raise PearrayError(f"a and b must have 2 dimensions, not shapes {left} and {right}")
    m, n = left[bool(taken["transA"])], right[not taken["transB"]]
    inputs = {"a": node.inputs[0], "b": node.inputs[3]}
    if optional(node, 6):
        inputs["c"] = _addend(graph, node, graph.constant(node, 6, "C"), m, n)
    graph.add(node, Gemm(trans_a=bool(taken["transA"]), trans_b=bool(taken["transB"]),
                         requant=Requant.onnx(scale, a[1], *b, *y), activation=taken["activation"]), inputs)


def _addend(graph: Builder, node: OnnxNode, value: np.ndarray, m: int, n: int) -> str:
    """Name of a constant with the shape that Gemm takes: (n,) or (m, n)."""
    name = node.inputs[6]
    if value.shape in ((n,), (m, n)) and m > 1:
        return name
    try:
        value = np.broadcast_to(value, (m, n) if value.ndim == 2 and value.shape[0] > 1 else (1, n))
    except ValueError:
        raise PearrayError(f"C must broadcast to shape ({m}, {n}), not have shape {value.shape}") from None
    name = f"{name}:{node.name}"
    graph.constants[name] = np.ascontiguousarray(value if value.shape[0] > 1 else value[0])
    return name


@handles("QLinearMatMul")
def _matrix_product(node: OnnxNode, graph: Builder) -> None:
    activation = node.take(activation=None)["activation"]
    a, b, y = (quantisation(node, graph, index, name) for index, name in ((1, "a"), (4, "b"), (6, "y")))
    left, right = graph.tensor(node.inputs[0]).shape, graph.tensor(node.inputs[3]).shape
    if len(right) != 2 or len(left) < 2:
        raise PearrayError(f"a must have 2 or more dimensions and b 2, not shapes {left} and {right}")
    requant = Requant.onnx(a[0], a[1], b[0].reshape(-1), b[1], *y)
    operator = Gemm(requant=requant, activation=activation)
    if len(left) == 2:
        graph.add(node, operator, {"a": node.inputs[0], "b": node.inputs[3]})
        return
    rows, result = f"{node.outputs[0]}:rows", f"{node.outputs[0]}:product"
    graph.add(node, Reshape((-1, left[-1])), {"x": node.inputs[0]}, rows)
    graph.add(node, operator, {"a": rows, "b": node.inputs[3]}, result)
    graph.add(node, Reshape((*left[:-1], right[1])), {"x": result})
