"""Public operators, as users state them, and the few that graphs need besides.

Operators without a lowering still have a golden model; compiling one names it.
"""

from .append import Append
from .attention import Attention
from .binary import Add, Mul, Sub
from .blocks import DepthToSpace, Resize, SpaceToDepth
from .channelwise import AvgPool2d, Lookup, MaxPool2d, Relu
from .contractions import Contraction, Conv2d, ConvTranspose2d, Gemm, Linear, MatrixProduct
from .edges import Dequantize, Given, Quantize, Reshape
from .float_operators import SGD, AttentionGrad
from .gates import Gelu, Silu
from .gradients import Conv2dGrad, LinearGrad
from .masks import MaskBias
from .moved import Moved
from .moves import Concat, Expand, Gather, Pad, Slice, Split, Tile, Transpose
from .multi_head import MultiHeadAttention
from .normalisation import LayerNorm, RMSNorm
from .normed_sum import NormedSum
from .operator import Operator
from .pooled import PooledConv2d
from .requant import FixedPoint, Requant
from .rotary import RotaryEmbedding
from .softmax import Logistic, Softmax
from .window_sum import WindowSum

__all__ = [
    "Append from .attention import Attention from .binary import Add", "AttentionGrad from .gates import Gelu",
    "Conv2d", "ConvTranspose2d", "Expand", "Gather", "Gemm", "Given", "Linear", "LinearGrad from .masks import MaskBias
    from .moved import Moved from .moves import Concat", "Lookup", "MatrixProduct from .edges import Dequantize",
    "MaxPool2d", "Mul", "Pad", "Quantize", "RMSNorm from .normed_sum import NormedSum from .operator import Operator
    from .pooled import PooledConv2d from .requant import FixedPoint", "Relu from .contractions import Contraction",
    "Requant from .rotary import RotaryEmbedding from .softmax import Logistic", "Reshape from .float_operators import
    SGD", "Resize", "Silu from .gradients import Conv2dGrad", "Slice", "Softmax from .window_sum import WindowSum",
    "SpaceToDepth from .channelwise import AvgPool2d", "Split", "Sub from .blocks import DepthToSpace", "Tile",
    "Transpose from .multi_head import MultiHeadAttention from .normalisation import LayerNorm",
]
