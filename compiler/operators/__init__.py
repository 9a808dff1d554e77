"""Public operators, as users state them, and the few that graphs need besides.

Operators without a lowering still have a golden model; compiling one names it.
"""

from .append import Append
from .attention import Attention
from .binary import Add, Mul, Sub
from .blocks import DepthToSpace, Resize, SpaceToDepth
from .channelwise import AvgPool2d, Lookup, MaxPool2d, Relu
from .contractions import Contraction, Conv2d, ConvTranspose2d, Gemm, Linear, MatrixProduct
from .edges import Dequantize, Given, Quantize, Real, RealSums, RealTable, Reshape
from .extremes import Max, Min, Where
from .float_operators import SGD, AttentionGrad
from .gates import Gelu, Silu
from .gradients import Conv2dGrad, LinearGrad
from .joined import Concat, Split
from .masks import MaskBias
from .matmul import MatMul, Products
from .moved import Moved
from .moves import Expand, Gather, Pad, Slice, Tile, Transpose
from .multi_head import MultiHeadAttention
from .normalisation import LayerNorm, RMSNorm
from .normed_sum import NormedSum
from .operator import Operator
from .pooled import PooledConv2d
from .reductions import ReduceMax, ReduceMean, ReduceMin, ReduceSum, SumPool2d
from .requant import FixedPoint, Requant, Sums
from .rotary import RotaryEmbedding
from .softmax import Logistic, Softmax
from .window_sum import WindowSum

__all__ = [
    "SGD", "Add", "Append", "Attention", "AttentionGrad", "AvgPool2d", "Concat", "Contraction", "Conv2d", "Conv2dGrad",
    "ConvTranspose2d", "DepthToSpace", "Dequantize", "Expand", "FixedPoint", "Gather", "Gelu", "Gemm", "Given",
    "LayerNorm", "Linear", "LinearGrad", "Logistic", "Lookup", "MaskBias", "MatMul", "MatrixProduct", "Max",
    "MaxPool2d", "Min", "Moved", "Mul", "MultiHeadAttention", "NormedSum", "Operator", "Pad", "PooledConv2d",
    "Products", "Quantize", "RMSNorm", "Real", "RealSums", "RealTable", "ReduceMax", "ReduceMean", "ReduceMin",
    "ReduceSum", "Relu", "Requant", "Reshape", "Resize", "RotaryEmbedding", "Silu", "Slice", "Softmax", "SpaceToDepth",
    "Split", "Sub", "SumPool2d", "Sums", "Tile", "Transpose", "Where", "WindowSum",
]
