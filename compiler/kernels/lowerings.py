"""Which lowering serves which operator."""

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
from .channelwise import lower_add, lower_average_pool, lower_lookup, lower_max_pool, lower_relu
from .context import Context
from .conv import lower_conv, lower_conv_transpose
from .gemm import lower_gemm
from .problem import Problem

__all__ = ["LOWERINGS"]

LOWERINGS: dict[type[Operator], Callable[[Context, Node], list[Problem]]] = {
    Add: lower_add, AvgPool2d: lower_average_pool, Conv2d: lower_conv, ConvTranspose2d: lower_conv_transpose,
    Gemm: lower_gemm, Linear: lower_gemm, Lookup: lower_lookup, MaxPool2d: lower_max_pool, Relu: lower_relu,
}
