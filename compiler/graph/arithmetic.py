"""Which arithmetic an accelerator has, and which the operators of a graph need."""

from ...hdl.arithmetic.float_formats import FloatFormat
from ...hdl.errors import PearrayError
from ...hdl.shell.config import Config
from ..operators import (
    Contraction,
    Conv2d,
    Conv2dGrad,
    FixedPoint,
    Gemm,
    Linear,
    LinearGrad,
    MatMul,
    Operator,
    Products,
    Reshape,
    Transpose,
)
from .graph import Graph

__all__ = ["check_fixed_point", "check_floats", "check_integers"]


def check_integers(graph: Graph, config: Config) -> None:
    """Check that no operator of a graph is in fixed point, for an accelerator of integers."""
    for node in graph.nodes:
        if _wants_fixed_point(node.operator):
            raise PearrayError(
                f"{graph.where(node)}requant must be None or a Requant on a {config.array.kind} array of "
                f"{config.array.operand_bits} bits, not a FixedPoint, which needs an array of 16-bit fixed point")


#: What arrays of floats compute, and what only names tensors anew.
_FLOATS = Conv2d, Conv2dGrad, Gemm, Linear, LinearGrad, MatMul, Products
_VIEWS = Reshape, Transpose


def check_floats(graph: Graph, config: Config, form: FloatFormat) -> None:
    """Check that an accelerator of floats computes every operator of a graph, of operands of its format."""
    array = f"a {config.array.kind} array of {form.name}"
    for node in graph.nodes:
        operator, inputs = node.operator, graph.typed(node.inputs)
        if config.has_routines and not isinstance(operator, (*_FLOATS, *_VIEWS)):
            # Those that no routine computes have no lowering.
            continue
        if not isinstance(operator, (*_FLOATS, *_VIEWS)):
            allowed = ", ".join(each.__name__ for each in _FLOATS if each is not Products)
            raise PearrayError(f"{graph.where(node)}operator must be one of {allowed} on {array}, not {operator.kind}")
        if isinstance(operator, _VIEWS):
            continue
        for role in operator.required:
            if inputs[role].dtype.name != form.name:
                raise PearrayError(f"{graph.where(node)}{role} must be of type {form.name} on {array}, "
                                   f"not {inputs[role].dtype}")
        for role in operator.optional:
            name = node.inputs.get(role)
            if name is not None and name not in graph.constants and inputs[role].dtype.name != "float32":
                raise PearrayError(f"{graph.where(node)}{role} must be of type float32 on {array} where it is no "
                                   f"constant, not {inputs[role].dtype}")


def check_fixed_point(graph: Graph, config: Config) -> None:
    """Check that every operator of a graph is in fixed point, for an accelerator that has nothing else."""
    array = f"a {config.array.kind} array of {config.array.operand_bits} bits"
    for node in graph.nodes:
        operator = node.operator
        if not isinstance(operator, Contraction):
            raise PearrayError(f"{graph.where(node)}operator must be Conv2d, Linear or Gemm on {array}, "
                               f"not {operator.kind}")
        if not _wants_fixed_point(operator):
            raise PearrayError(f"{graph.where(node)}requant must be a FixedPoint on {array}, "
                               f"not {type(operator.requant).__name__}")


def _wants_fixed_point(operator: Operator) -> bool:
    return isinstance(operator, Contraction) and isinstance(operator.requant, FixedPoint)
