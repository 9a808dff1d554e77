"""How each operator is stated as kernels."""

from collections.abc import Callable

from ..graph.graph import Node
from ..operators import (
    Add,
    AvgPool2d,
    Conv2d,
    ConvTranspose2d,
    Gemm,
    Linear,
    Lookup,
    MaxPool2d,
    Operator,
    Relu,
)
from .channelwise import add, average_pool, lookup, max_pool, relu
from .context import Context
from .conv import conv, conv_transpose
from .gemm import gemm
from .kernel import Kernel

__all__ = ["LOWERINGS"]

LOWERINGS: dict[type[Operator], Callable[[Context, Node], list[Kernel]]] = {
    Add: add, AvgPool2d: average_pool, Conv2d: conv, ConvTranspose2d: conv_transpose, Gemm: gemm, Linear: gemm,
    Lookup: lookup, MaxPool2d: max_pool, Relu: relu,
}
