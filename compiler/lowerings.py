"""Which lowering serves which operator."""

from collections.abc import Callable, Sequence

from .context import Context
from .graph import Node
from .lower_channelwise import lower_add, lower_average_pool, lower_lookup, lower_max_pool, lower_relu
from .lower_conv import lower_conv, lower_conv_transpose
from .lower_gemm import lower_gemm
from .operators import (
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
from .schedule import LayerStep

__all__ = ["LOWERINGS"]

LOWERINGS: dict[type[Operator], Callable[[Context, Node], Sequence[LayerStep]]] = {
    Add: lower_add, AvgPool2d: lower_average_pool, Conv2d: lower_conv, ConvTranspose2d: lower_conv_transpose,
    Gemm: lower_gemm, Linear: lower_gemm, Lookup: lower_lookup, MaxPool2d: lower_max_pool, Relu: lower_relu,
}
