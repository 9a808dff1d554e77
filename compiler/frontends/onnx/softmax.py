"""Softmax of quantised tensors, by onnxruntime's rule."""

from math import prod

from ....hdl.errors import PearrayError
from ...operators import Reshape, Softmax
from ...operators.fields import whole
from .builder import MICROSOFT, Builder, OnnxNode, handles, one

__all__: list[str] = []

#: Operator set from which on softmax goes along one axis, and not along all from it to the last.
_ONE_AXIS = 13


@handles("QLinearSoftmax", domain=MICROSOFT)
def _softmax(node: OnnxNode, graph: Builder) -> None:
    taken = node.take(axis=-1, opset=_ONE_AXIS)
    tensor = graph.tensor(node.inputs[0])
    shape, flattens = tuple(tensor.shape), taken["opset"] < _ONE_AXIS
    axis = whole(-len(shape), len(shape) - 1)("axis", taken["axis"]) % len(shape)
    x = graph.quantisation(node, 1, "X", tensor.dtype, tensor.dtype)
    y = graph.quantisation(node, 3, "Y", absent=tensor.dtype)
    if y.zero_point.dtype != tensor.dtype:
        # For a mixture the runtime has no integers.
        raise PearrayError(f"Y_zero_point must be {tensor.dtype}, as X is, not {y.zero_point.dtype}")
    if x.clamp is not None or y.clamp is not None:
        raise PearrayError("X and Y must have 8 bits, not 4")
    operator = Softmax(-1 if flattens else axis, X_scale=one("X_scale", x.scale), x_zero_point=x.zero_point,
                       y_scale=one("Y_scale", y.scale), y_zero_point=y.zero_point)
    if not flattens or axis == len(shape) - 1:
        graph.add(node, operator, {"x": tensor.name})
        return
    rows, made = graph.inner(tensor.name, "rows"), graph.inner(node.outputs[0], "shares")
    graph.add(node, Reshape((prod(shape[:axis]), prod(shape[axis:]))), {"x": tensor.name}, rows)
    graph.add(node, operator, {"x": rows}, made)
    graph.add(node, Reshape(shape), {"x": made})
