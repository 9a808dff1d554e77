"""Which arithmetic an accelerator has, which an operator needs, and what follows for the words of a graph."""

from collections.abc import Mapping

import numpy as np

from ...hdl.errors import PearrayError
from ...hdl.shell.config import Config
from ..operators import Contraction, FixedPoint
from .graph import Graph

__all__ = ["CODED_FROM", "check_arithmetic", "coded_inputs", "is_fixed_point", "zero_share"]

#: Share of zeros from which an input is worth its run-length code: 64 bits hold three words and their zeros.
CODED_FROM = 0.3


def is_fixed_point(config: Config) -> bool:
    """Whether an accelerator computes in 16-bit fixed point, and nothing else."""
    return config.array.kind == "row-stationary" and config.array.operand_bits == 16


def check_arithmetic(graph: Graph, config: Config) -> None:
    """Check that an accelerator has the arithmetic of every operator.

    Fixed point needs the row-stationary array with 16-bit operands, which runs nothing else.

    Raises
    ------
    PearrayError
        Naming the first operator that does not fit.
    """
    fixed = is_fixed_point(config)
    for node in graph.nodes:
        operator = node.operator
        where = f"{node.name}: " if len(graph.nodes) > 1 else ""
        if fixed and not isinstance(operator, Contraction):
            raise PearrayError(f"{where}operator must be Conv2d, Linear or Gemm on a row-stationary array of 16 bits, "
                               f"not {operator.kind}")
        wanted = isinstance(operator, Contraction) and isinstance(operator.requant, FixedPoint)
        if fixed and not wanted:
            raise PearrayError(f"{where}requant must be a FixedPoint on a row-stationary array of 16 bits, "
                               f"not {type(getattr(operator, 'requant', None)).__name__}")
        if wanted and not fixed:
            raise PearrayError(f"{where}requant must be None or a Requant on a {config.array.kind} array of "
                               f"{config.array.operand_bits} bits, not a FixedPoint, which needs array.kind = "
                               f"'row-stationary' and array.operand_bits = 16")


def zero_share(values: np.ndarray, zero: int = 0) -> float:
    """Share of the elements that stand for zero."""
    return float(np.count_nonzero(values == zero) / values.size) if values.size else 0.0


def coded_inputs(graph: Graph, config: Config, inputs: Mapping[str, np.ndarray]) -> frozenset[str]:
    """Inputs of a run that stand in memory as run-length codes: those with many zeros, in fixed point only."""
    if not is_fixed_point(config):
        return frozenset()
    return frozenset(name for name in graph.inputs if zero_share(inputs[name]) > CODED_FROM)
