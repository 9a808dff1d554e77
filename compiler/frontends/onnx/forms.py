"""Float operators on stored tensors, whose results a QuantizeLinear stores, as operators on stored integers."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ....hdl.errors import PearrayError
from .builder import MICROSOFT, OWN, Builder, OnnxNode, two
from .moves import Joined
from .norm_fusion import SUMS
from .products import PRODUCTS, product_inputs, real_bias, real_unit
from .rows import image_attributes
from .values import RealScaling, Scaling, Stored

__all__ = ["FORMS", "QUANTISED", "Form", "real_sums"]


def _check_average(graph: Builder, node: OnnxNode, operands: Sequence[Stored]) -> None:
    shape = graph.tensor(operands[0].name).shape
    taken = image_attributes(node.attributes) if len(shape) == 3 else node.attributes
    if taken.get("ceil_mode") and taken.get("count_include_pad") and taken.get("auto_pad", b"NOTSET") == b"NOTSET":
        sizes, kernel = (1, *shape)[-2:], two("kernel_shape", taken.get("kernel_shape"), (1, 1))
        strides, pads = two("strides", taken.get("strides"), (1, 1)), taken.get("pads") or (0, 0, 0, 0)
        for axis, size in enumerate(sizes):
            span = size + pads[axis] + pads[axis + 2] - kernel[axis]
            if span % strides[axis] and (span // strides[axis] + 1) * strides[axis] < size + pads[axis]:
                # The float operator counts the padding in such a window, the quantised one all of the window.
                raise PearrayError("count_include_pad must be 0 where ceil_mode lets a window hang over the padding, "
                                   "not 1")


def _check_sum(graph: Builder, node: OnnxNode, operands: Sequence[Stored]) -> None:
    """Check shapes of what is added before a normalisation, which the runtime broadcasts over batches only."""
    x, skip = (tuple(graph.tensor(operand.name).shape) for operand in operands)
    if len(x) not in (2, 3):
        raise PearrayError(f"input must have 2 or 3 dimensions, not shape {x}")
    allowed = [x] if len(x) == 2 else [x, (1, *x[1:]), x[1:]]
    if skip not in allowed:
        raise PearrayError(f"skip must have shape {' or '.join(map(str, dict.fromkeys(allowed)))}, not {skip}")


class Form(NamedTuple):
    """Form on stored integers of a float operator.

    Members
    -------
    op_type, domain : str
        Operator. It takes each operand with its scale and zero point, then those of the result.
    bias_at : int or None
        Place of a bias among these, for operators that add products.
    check : callable or None
        Refuses a node whose form would not compute the same.
    tensors : int
        How many of its inputs are tensors at most; those behind, which say what it does, follow at the end.
    """

    op_type: str
    domain: str = ""
    bias_at: int | None = None
    check: Callable[[Builder, OnnxNode, Sequence[Stored]], None] | None = None
    tensors: int = 3

    def make(self, graph: Builder, node: OnnxNode, operands: Sequence[Stored | np.ndarray], end: OnnxNode,
             scaling: Scaling) -> OnnxNode:
        """Operator on stored integers of a float one.

        Parameters
        ----------
        graph, node
            Graph under construction, and the float node.
        operands : sequence of Stored or float32 array
            Its operands; only a bias may be no stored one.
        end : OnnxNode
            Who stores the result; without a scale and a zero point there, the integer sums are the result.
        scaling : Scaling
            What follows sums of products.
        """
        stored = [operand for operand in operands if isinstance(operand, Stored)]
        if self.check is not None:
            self.check(graph, node, stored)
        bias = ""
        inputs = [name for operand in stored[:2] for name in (operand.name, operand.scale, operand.zero_point)]
        if self.bias_at is not None:
            inputs, bias = product_inputs(graph, node, operands, end, scaling)
        inputs += end.inputs[1:3]
        if self.bias_at is not None:
            inputs.insert(self.bias_at, bias)
        inputs += node.inputs[self.tensors:]
        # The bias is in steps of the product already.
        attributes = {name: value for name, value in node.attributes.items() if name != "beta"}
        return node.standing_for(self.op_type, inputs, end.outputs, attributes, self.domain)


def real_sums(graph: Builder, node: OnnxNode, operands: Sequence[Stored | np.ndarray], scaling: Scaling,
              sums: str) -> tuple[OnnxNode, RealScaling]:
    """Operator on stored integers that makes the sums of a float one, and what makes these real numbers.

    A bias that is a whole number of the sums' steps is a part of the sums, as for onnxruntime's integer kernels.
    """
    end, bias = OnnxNode("QuantizeLinear", "", node.name, ["", "", ""], [sums], {}), scaling.addend
    unit = real_unit(node, operands)
    try:
        made = FORMS[node.op_type].make(graph, node, operands if scaling.is_absent else operands[:2], end, Scaling())
        is_inside = scaling.is_absent and all(isinstance(operand, Stored) for operand in operands)
    except PearrayError:
        is_inside = False
    if not is_inside:
        made = FORMS[node.op_type].make(graph, node, operands[:2], end, Scaling())
        bias = scaling.factor * real_bias(node, graph, operands) + scaling.addend
    parts = [np.asarray(part, np.float64).astype(np.float32) for part in (unit * scaling.factor, bias)]
    if parts[1].ndim > 1:
        raise PearrayError("a bias of real sums must be one number for each output channel")
    return made, RealScaling(parts[0], parts[1], PRODUCTS[node.op_type])


#: Forms of operators that a node of a file may have.
QUANTISED: dict[str, Form | Joined] = {
    "Add": Form("QLinearAdd", MICROSOFT),
    "AveragePool": Form("QLinearAveragePool", MICROSOFT, check=_check_average),
    "Concat": Joined(),
    "Conv": Form("QLinearConv", bias_at=8),
    "ConvTranspose": Form("ConvTranspose", OWN, bias_at=8),
    "Gemm": Form("QGemm", MICROSOFT, bias_at=6),
    "GlobalAveragePool": Form("QLinearGlobalAveragePool", MICROSOFT),
    "MatMul": Form("QLinearMatMul", bias_at=8),
    "Mul": Form("QLinearMul", MICROSOFT),
    "ReduceMean": Form("ReduceMean", OWN, tensors=1),
    "ReduceSum": Form("ReduceSum", OWN, tensors=1),
    "Softmax": Form("QLinearSoftmax", MICROSOFT),
    "Sub": Form("Sub", OWN),
}

#: These, and those of operators that stand for a part of a node.
FORMS: dict[str, Form | Joined] = QUANTISED | {SUMS[True]: Form("Add", OWN, check=_check_sum),
                     SUMS[False]: Form("QLinearAdd", MICROSOFT, check=_check_sum)}
