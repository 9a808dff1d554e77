"""How each operator is stated as kernels."""

from collections.abc import Callable

from ..graph.graph import Node
from ..operators import (
    Add,
    AvgPool2d,
    Conv2d,
    Conv2dGrad,
    ConvTranspose2d,
    Gemm,
    Linear,
    LinearGrad,
    Lookup,
    MaxPool2d,
    Operator,
    Relu,
)
from .channelwise import add, average_pool, lookup, max_pool, relu
from .context import Context
from .conv import conv, conv_transpose
from .gemm import gemm
from .gradients import conv_grad, linear_grad
from .kernel import Kernel

__all__ = ["LOWERINGS"]

LOWERINGS: dict[type[Operator], Callable[[Context, Node], list[Kernel]]] = {
    Add: add, AvgPool2d: average_pool, Conv2d: conv, Conv2dGrad: conv_grad,
    ConvTranspose2d: conv_transpose, Gemm: gemm, Linear: gemm, LinearGrad: linear_grad, Lookup: lookup,
    MaxPool2d: max_pool, Relu: relu,
}
