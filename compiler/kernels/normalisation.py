"""LayerNorm and RMSNorm: rows of integers, or of sums of two tensors, that are normalised, as one kernel."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from ...golden.normalisation import Gains, fraction_bits
from ...hdl.errors import PearrayError
from ..graph.graph import Node
from ..operators.normalisation import Normalisation as NormalisationOperator
from ..operators.normed_sum import NormedSum
from .context import Context
from .kernel import Access, Index, Kernel
from .layout import Layout
from .row_pairs import find_row_pair
from .views import View

__all__ = ["Normalisation", "normalisation", "normed_sum"]


@dataclass(kw_only=True, eq=False)
class Normalisation(Kernel):
    """``y[m, c] = (C x[m, c] - t) root(C sum(c) x[m, c]**2 - t**2 + addend) gain[c] + bias[c]``, t being a sum or 0.

    Ranks are m of rows and c of their elements. These are bytes of one operand, or what two are in tables.

    Parameters
    ----------
    operands : tuple of Access
        One operand, or two.
    tables : ndarray of shape (2, 256), int32, or None
        Of two operands: entries of the two low bytes of ``first - 256 second``, whose sum has a fraction.
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
    operands: tuple[Access, ...]
    tables: np.ndarray | None = None
    centred: bool
    addend: int
    gains: Gains
    zero_point: int
    low: int = -128
    high: int = 127

    @property
    def accesses(self) -> tuple[Access, ...]:
        """Operands in memory."""
        return self.operands

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
        elements = " + ".join(map("{}".format if self.tables is None else "table({})".format, self.operands))
        return (f"{self.name}: {self.y} = rows of {elements}{mean}; over their root mean square (c < {size}); * gain[c]"
                f"{bias}; requantise onnx * {self.gains.scale} + {self.zero_point}")


def normalisation(context: Context, node: Node[NormalisationOperator]) -> list[Kernel]:
    """State LayerNorm or RMSNorm as a kernel of its own."""
    zero = context.checked_zero(node, "x_zero_point", node.operator.x_zero, node.inputs["x"])
    return [_kernel(context, node, node.operator, {"x": zero})]


def normed_sum(context: Context, node: Node[NormedSum]) -> list[Kernel]:
    """State the normalisation of a sum as a kernel of two operands."""
    a, b = (context.graph.tensors[node.inputs[role]] for role in "ab")
    pair = find_row_pair(node.operator, a, b)
    assert pair is not None
    stored = ({"zero": zero, "is_unsigned": is_unsigned}
              for zero, is_unsigned in zip(pair.zeros, pair.is_unsigned, strict=True))
    return [_kernel(context, node, node.operator.norm, dict(zip(pair.roles, stored, strict=True)), pair.tables)]


def _kernel(context: Context, node: Node, operator: NormalisationOperator, stored: Mapping[str, Mapping[str, Any]],
            tables: np.ndarray | None = None) -> Normalisation:
    """Kernel of a normalisation, whose operands have some roles and are stored so."""
    config, graph = context.config, context.graph
    where = context.graph.where(node)
    if not config.has_norms:
        raise PearrayError(f"{where}{operator.kind} needs post.norms = 1 and array.operand_bits = 8, not "
                           f"{int(config.has_norms)} and {config.array.operand_bits}")
    shape = tuple(graph.tensors[node.inputs[next(iter(stored))]].shape)
    row_major = Layout(shape, tuple(range(len(shape))), shape)
    ranks = {"m": prod(shape[:-1]), "c": shape[-1]}
    indices = {rank: Index({rank: 1}) for rank in ranks}
    operands = []
    for role, fields in stored.items():
        x = context.operand(node, role)
        if not x.layout.same_memory(row_major):
            raise PearrayError(f"{where}{graph.named(node.inputs[role])} must stand row-major in memory, which images "
                               f"of shape (N, C, H, W) do not: give it as rows (N, D), not of shape {shape}")
        operands.append(Access(View.rows(x.buffer, "mc", tuple(ranks.values())), indices, **fields))
    values = {role: _constant(context, node, role, where) for role in ("gamma", "beta") if role in node.inputs}
    y, made = View.rows(context.result(node, row_major), "mc", tuple(ranks.values())), np.iinfo(operator.y_dtype)
    return Normalisation(
        name=node.name, ranks=ranks, y=Access(y, indices), operands=tuple(operands), tables=tables,
        centred=operator.centred, addend=operator.addend(shape[-1]),
        gains=operator.gains(*values.values()), zero_point=int(operator.y_zero_point),
        low=int(made.min), high=int(made.max))


def _constant(context: Context, node: Node, role: str, where: str) -> np.ndarray:
    value = context.constant(node.inputs[role])
    if value is None:
        raise PearrayError(f"{where}{role} {node.inputs[role]} must be known when the program is compiled")
    return value
