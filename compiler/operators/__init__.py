"""Public operators, as users state them, and the few that graphs need besides.

Operators without a lowering still have a golden model; compiling one names it.
"""

from .append import Append
from .attention import Attention
from .binary import Add, Mul, Sub
from .blocks import DepthToSpace, Resize, SpaceToDepth
from .channelwise import AvgPool2d, Lookup, MaxPool2d, Relu
from .contractions import Contraction, Conv2d, ConvTranspose2d, Gemm, Linear, MatrixProduct
from .edges import AtEnd, Dequantize, DynamicQuantize, Given, Quantize, Real, RealSums, RealTable, Reshape, ZeroPoints
from .embedding import Embedding, EmbeddingGrad
from .extremes import Max, Min, Where
from .float_gradients import (
    Function,
    FunctionGrad,
    MovedGrad,
    NormGrad,
    PoolGrad,
    ReduceGrad,
    SoftmaxGrad,
    SumTo,
)
from .float_operators import AttentionGrad, AttentionKept
from .gates import Gelu, Silu
from .gradients import Conv2dGrad, LinearGrad
from .hosted import Hosted
from .interpolation import Interpolate
from .joined import Concat, Split
from .losses import SoftmaxCrossEntropy, SoftmaxCrossEntropyGrad
from .masks import MaskBias
from .matmul import MatMul, Products
from .moved import Moved
from .moves import Expand, Gather, Pad, Slice, Tile, Transpose
from .multi_head import MultiHeadAttention
from .normalisation import LayerNorm, RMSNorm
from .normed_sum import NormedSum
from .operator import Operator
from .optimisers import SGD, Adam, AdamFactors, Optimiser
from .pooled import PooledConv2d
from .reductions import ReduceMax, ReduceMean, ReduceMin, ReduceSum, SumPool2d
from .requant import FixedPoint, Requant, Sums
from .rotary import RotaryEmbedding
from .rounded import Rounded
from .scales import DequantizeBlocks, QuantizeBlocks
from .softmax import Logistic, Softmax
from .window_sum import WindowSum

__all__ = [
    "SGD", "Adam", "AdamFactors", "Add", "Append", "AtEnd", "Attention", "AttentionGrad", "AttentionKept", "AvgPool2d",
    "Concat", "Contraction", "Conv2d", "Conv2dGrad", "ConvTranspose2d", "DepthToSpace", "Dequantize",
    "DequantizeBlocks", "DynamicQuantize", "Embedding", "EmbeddingGrad", "Expand", "FixedPoint", "Function",
    "FunctionGrad", "Gather", "Gelu", "Gemm", "Given", "Hosted", "Interpolate", "LayerNorm", "Linear", "LinearGrad",
    "Logistic", "Lookup", "MaskBias", "MatMul", "MatrixProduct", "Max", "MaxPool2d", "Min", "Moved", "MovedGrad", "Mul",
    "MultiHeadAttention", "NormGrad", "NormedSum", "Operator", "Optimiser", "Pad", "PoolGrad", "PooledConv2d",
    "Products", "Quantize", "QuantizeBlocks", "RMSNorm", "Real", "RealSums", "RealTable", "ReduceGrad", "ReduceMax",
    "ReduceMean", "ReduceMin", "ReduceSum", "Relu", "Requant", "Reshape", "Resize", "RotaryEmbedding", "Rounded",
    "Silu", "Slice", "Softmax", "SoftmaxCrossEntropy", "SoftmaxCrossEntropyGrad", "SoftmaxGrad", "SpaceToDepth",
    "Split", "Sub", "SumPool2d", "SumTo", "Sums", "Tile", "Transpose", "Where", "WindowSum", "ZeroPoints",
]
