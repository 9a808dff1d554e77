"""LayerNorm and RMSNorm: rows of integers that are normalised, as one kernel."""

from dataclasses import dataclass
from math import prod

import numpy as np

from ...golden.normalisation import Gains, fraction_bits
from ...hdl.errors import PearrayError
from ..graph.graph import Node
from ..operators.normalisation import Normalisation as NormalisationOperator
from .context import Context
from .kernel import Access, Index, Kernel
from .layout import Layout
from .views import View

__all__ = ["Normalisation", "normalisation"]


@dataclass(kw_only=True, eq=False)
class Normalisation(Kernel):
    """``y[m, c] = (C x[m, c] - t) root(C sum(c) x[m, c]**2 - t**2 + addend) gain[c] + bias[c]``, t being a sum or 0.

    Ranks are m of rows and c of their elements.

    Parameters
    ----------
    x : Access
        Operand of bytes.
    centred : bool
        Whether t is the sum of the row.
    addend : int
        Added to the squares, with 16 fraction bits.
    gains : Gains
        Gains and biases (C,), and the factor from sums to outputs.
    zero_point, low, high : int
        Zero point of the output, and its least and greatest value.
    """

    terms: tuple[()] = ()
    combine: str = "normalise"
    x: Access
    centred: bool
    addend: int
    gains: Gains
    zero_point: int
    low: int = -128
    high: int = 127

    @property
    def accesses(self) -> tuple[Access, ...]:
        """Operands in memory."""
        return (self.x,)

    @property
    def fraction(self) -> int:
        """Fraction bits of a normalised element."""
        return fraction_bits(self.ranks["c"])

    @property
    def biases(self) -> np.ndarray | None:
        """Biases, None if there is nothing to add."""
        return self.gains.biases if self.gains.biases.any() else None

    def __str__(self) -> str:
        size = self.ranks["c"]
        mean = f"; less their mean over c < {size}" if self.centred else ""
        bias = " + bias[c]" if self.biases is not None else ""
        return (f"{self.name}: {self.y} = rows of {self.x}{mean}; over their root mean square (c < {size}); * gain[c]"
                f"{bias}; requantise onnx * {self.gains.scale} + {self.zero_point}")


def normalisation(context: Context, node: Node[NormalisationOperator]) -> list[Kernel]:
    """State LayerNorm or RMSNorm as a kernel of its own."""
    operator, config, graph = node.operator, context.config, context.graph
    where = f"{node.name}: " if len(graph.nodes) > 1 else ""
    if not config.has_norms:
        raise PearrayError(f"{where}{operator.kind} needs post.norms = 1 and array.operand_bits = 8, not "
                           f"{int(config.has_norms)} and {config.array.operand_bits}")
    name = node.inputs["x"]
    shape = tuple(graph.tensors[name].shape)
    x = context.operand(node, "x")
    row_major = Layout(shape, tuple(range(len(shape))), shape)
    if not x.layout.same_memory(row_major):
        raise PearrayError(f"{where}{graph.named(name)} must stand row-major in memory, which images of shape "
                           f"(N, C, H, W) do not: give x as rows (N, D), not of shape {shape}")
    ranks = {"m": prod(shape[:-1]), "c": shape[-1]}
    indices = {rank: Index({rank: 1}) for rank in ranks}
    values = {role: _constant(context, node, role, where) for role in ("gamma", "beta") if role in node.inputs}
    y, made = View.rows(context.result(node, row_major), "mc", tuple(ranks.values())), np.iinfo(operator.y_dtype)
    return [Normalisation(
        name=node.name, ranks=ranks, y=Access(y, indices),
        x=Access(View.rows(x.buffer, "mc", tuple(ranks.values())), indices,
                 **context.checked_zero(node, "x_zero_point", operator.x_zero, name)),
        centred=operator.centred, addend=operator.addend(shape[-1]),
        gains=operator.gains(*values.values()), zero_point=int(operator.y_zero_point),
        low=int(made.min), high=int(made.max))]


def _constant(context: Context, node: Node[NormalisationOperator], role: str, where: str) -> np.ndarray:
    value = context.constant(node.inputs[role])
    if value is None:
        raise PearrayError(f"{where}{role} {node.inputs[role]} must be known when the program is compiled")
    return value
