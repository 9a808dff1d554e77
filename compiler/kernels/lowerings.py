"""How each operator is stated as kernels."""

from collections.abc import Callable
from typing import Any

from .. import operators
from ..graph.graph import Node
from .append import append
from .attention import attention
from .binary import add, gate, greatest, least, lookup, multiply, subtract
from .channelwise import average_pool, max_pool, relu
from .context import Context
from .conv import conv, conv_transpose, pooled_conv
from .gemm import gemm, stacked
from .gradients import conv_grad, linear_grad
from .kernel import Kernel
from .moves import moved
from .normalisation import normalisation, normed_sum
from .rotary import rotary
from .softmax import softmax

__all__ = ["LOWERINGS", "reads_rows"]

LOWERINGS: dict[type[operators.Operator], Callable[[Context, Node[Any]], list[Kernel]]] = {
    operators.Add: add, operators.Append: append, operators.Attention: attention,
    operators.AvgPool2d: average_pool, operators.Conv2d: conv, operators.Conv2dGrad: conv_grad,
    operators.ConvTranspose2d: conv_transpose, operators.Gelu: gate, operators.Gemm: gemm,
    operators.LayerNorm: normalisation, operators.Linear: gemm, operators.LinearGrad: linear_grad,
    operators.Logistic: lookup, operators.Lookup: lookup, operators.Max: greatest, operators.MaxPool2d: max_pool,
    operators.Min: least, operators.Mul: multiply, operators.NormedSum: normed_sum,
    operators.PooledConv2d: pooled_conv, operators.Products: stacked, operators.Relu: relu,
    operators.RMSNorm: normalisation, operators.RotaryEmbedding: rotary, operators.Silu: gate,
    operators.Softmax: softmax, operators.Sub: subtract, operators.SumPool2d: average_pool, operators.WindowSum: conv,
    **dict.fromkeys((
        operators.Concat, operators.DepthToSpace, operators.Expand, operators.Gather, operators.Pad, operators.Resize,
        operators.Slice, operators.SpaceToDepth, operators.Tile, operators.Transpose), moved),
}


def reads_rows(operator: operators.Operator, rank: int) -> bool:
    """Whether an operator reads a tensor of some dimensions as rows along the last, and never as images."""
    if isinstance(operator, operators.Softmax):
        return operator.axis % rank == rank - 1
    return isinstance(operator, (operators.Attention, operators.LayerNorm, operators.RMSNorm,
                                 operators.RotaryEmbedding))
