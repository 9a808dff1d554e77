"""How each operator is stated as kernels."""

from collections.abc import Callable
from typing import Any

from ...hdl.shell.config import Config
from .. import operators
from ..graph.graph import Node
from . import float_elements, float_embedding, float_rows, float_windows
from .append import append
from .attention import attention
from .binary import add, gate, greatest, least, lookup, multiply, subtract
from .channelwise import average_pool, max_pool, relu
from .context import Context
from .conv import conv, conv_transpose, pooled_conv
from .gemm import gemm, stacked
from .gradients import conv_grad, linear_grad
from .interpolation import interpolate
from .kernel import Kernel
from .moves import moved
from .normalisation import normalisation, normed_sum
from .rotary import rotary
from .softmax import softmax

__all__ = ["LOWERINGS", "ROUTINES", "lowering_of", "reads_rows"]

_MOVES = (operators.Concat, operators.DepthToSpace, operators.Expand, operators.Gather, operators.Pad, operators.Resize,
          operators.Slice, operators.SpaceToDepth, operators.Tile, operators.Transpose)

LOWERINGS: dict[type[operators.Operator], Callable[[Context, Node[Any]], list[Kernel]]] = {
    operators.Add: add,
    operators.Append: append,
    operators.Attention: attention,
    operators.AvgPool2d: average_pool,
    operators.Conv2d: conv,
    operators.Conv2dGrad: conv_grad,
    operators.ConvTranspose2d: conv_transpose,
    operators.Gelu: gate,
    operators.Gemm: gemm,
    operators.Interpolate: interpolate,
    operators.LayerNorm: normalisation,
    operators.Linear: gemm,
    operators.LinearGrad: linear_grad,
    operators.Logistic: lookup,
    operators.Lookup: lookup,
    operators.Max: greatest,
    operators.MaxPool2d: max_pool,
    operators.Min: least,
    operators.Mul: multiply,
    operators.NormedSum: normed_sum,
    operators.PooledConv2d: pooled_conv,
    operators.Products: stacked,
    operators.RMSNorm: normalisation,
    operators.Relu: relu,
    operators.RotaryEmbedding: rotary,
    operators.Silu: gate,
    operators.Softmax: softmax,
    operators.Sub: subtract,
    operators.SumPool2d: average_pool,
    operators.WindowSum: conv,
    **dict.fromkeys(_MOVES, moved),
}


#: What arrays of floats compute.
_PRODUCTS = (operators.Conv2d, operators.Conv2dGrad, operators.Gemm, operators.Linear, operators.LinearGrad,
             operators.Products)

#: How operators of floats are stated that routines compute.
ROUTINES: dict[type[operators.Operator], Callable[[Context, Node[Any]], list[Kernel]]] = {
    operators.Adam: float_elements.adam,
    operators.Add: float_elements.added,
    operators.AvgPool2d: float_windows.average_pool,
    operators.Embedding: float_embedding.looked_up,
    operators.EmbeddingGrad: float_embedding.looked_up_grad,
    operators.Function: float_elements.activated,
    operators.FunctionGrad: float_elements.derived,
    operators.Gelu: float_elements.gated,
    operators.LayerNorm: float_rows.norm,
    operators.MaxPool2d: float_windows.max_pool,
    operators.MovedGrad: float_windows.moved_grad,
    operators.Mul: float_elements.multiplied,
    operators.NormGrad: float_rows.norm_grad,
    operators.PoolGrad: float_windows.pool_grad,
    operators.RMSNorm: float_rows.norm,
    operators.ReduceGrad: float_elements.mean_spread,
    operators.ReduceMean: float_rows.reduced,
    operators.ReduceSum: float_rows.reduced,
    operators.Relu: float_elements.rectified,
    operators.Rounded: float_elements.rounded,
    operators.SGD: float_elements.sgd,
    operators.Silu: float_elements.gated,
    operators.Softmax: float_rows.softmax,
    operators.SoftmaxCrossEntropy: float_rows.cross_entropy,
    operators.SoftmaxCrossEntropyGrad: float_rows.cross_entropy_grad,
    operators.SoftmaxGrad: float_rows.softmax_grad,
    operators.Sub: float_elements.subtracted,
    operators.SumTo: float_rows.summed_to,
    **dict.fromkeys(_MOVES, float_windows.moved),
}


def lowering_of(operator: operators.Operator, config: Config) -> Callable[[Context, Node[Any]], list[Kernel]] | None:
    """How an operator is stated for an accelerator, or None if it is not."""
    table = LOWERINGS
    if config.has_floats:
        table = {kind: LOWERINGS[kind] for kind in _PRODUCTS} | (ROUTINES if config.has_routines else {})
    return table.get(type(operator))


def reads_rows(operator: operators.Operator, rank: int) -> bool:
    """Whether an operator reads a tensor of some dimensions as rows along the last, and never as images."""
    if isinstance(operator, operators.Softmax):
        return operator.axis % rank == rank - 1
    return isinstance(operator, (operators.Attention, operators.LayerNorm, operators.RMSNorm,
                                 operators.RotaryEmbedding))
