"""Which arithmetic an accelerator has, and which the operators of a graph need."""

from ...hdl.errors import PearrayError
from ...hdl.shell.config import Config
from ..operators import Contraction, FixedPoint, Operator
from .graph import Graph

__all__ = ["check_fixed_point", "check_integers"]


def check_integers(graph: Graph, config: Config) -> None:
    """Check that no operator of a graph is in fixed point, for an accelerator of integers."""
    for node in graph.nodes:
        if _wants_fixed_point(node.operator):
            raise PearrayError(
                f"{graph.where(node)}requant must be None or a Requant on a {config.array.kind} array of "
                f"{config.array.operand_bits} bits, not a FixedPoint, which needs an array of 16-bit fixed point")


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
