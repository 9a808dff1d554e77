"""Deep-learning accelerators as RTL from Python, proved against NumPy.

Everything public is here and is imported when first used, so ``import pearray`` costs
milliseconds and needs none of the optional dependencies.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

# In a checkout the subpackages stand beside this folder, so that `import pearray` from the root of
# the repository finds the same code whether or not the package is installed.
_root = Path(__file__).parents[1]
if (_root / "pyproject.toml").is_file():
    __path__.append(str(_root))

if TYPE_CHECKING:
    from .api import Handle as Handle
    from .api import Layer as Layer
    from .api import Model as Model
    from .api import Parts as Parts
    from .api import Result as Result
    from .api import compile as compile
    from .api import golden_run as golden_run
    from .api import load_onnx as load_onnx
    from .api import load_tflite as load_tflite
    from .api import run as run
    from .compiler.graph.graph import Graph as Graph
    from .compiler.operators import SGD as SGD
    from .compiler.operators import Adam as Adam
    from .compiler.operators import Add as Add
    from .compiler.operators import Append as Append
    from .compiler.operators import Attention as Attention
    from .compiler.operators import AttentionGrad as AttentionGrad
    from .compiler.operators import AvgPool2d as AvgPool2d
    from .compiler.operators import Concat as Concat
    from .compiler.operators import Conv2d as Conv2d
    from .compiler.operators import Conv2dGrad as Conv2dGrad
    from .compiler.operators import ConvTranspose2d as ConvTranspose2d
    from .compiler.operators import DepthToSpace as DepthToSpace
    from .compiler.operators import Dequantize as Dequantize
    from .compiler.operators import Expand as Expand
    from .compiler.operators import FixedPoint as FixedPoint
    from .compiler.operators import Gather as Gather
    from .compiler.operators import Gelu as Gelu
    from .compiler.operators import Gemm as Gemm
    from .compiler.operators import Interpolate as Interpolate
    from .compiler.operators import LayerNorm as LayerNorm
    from .compiler.operators import Linear as Linear
    from .compiler.operators import LinearGrad as LinearGrad
    from .compiler.operators import Logistic as Logistic
    from .compiler.operators import Lookup as Lookup
    from .compiler.operators import MatMul as MatMul
    from .compiler.operators import Max as Max
    from .compiler.operators import MaxPool2d as MaxPool2d
    from .compiler.operators import Min as Min
    from .compiler.operators import Mul as Mul
    from .compiler.operators import MultiHeadAttention as MultiHeadAttention
    from .compiler.operators import Pad as Pad
    from .compiler.operators import Quantize as Quantize
    from .compiler.operators import ReduceMax as ReduceMax
    from .compiler.operators import ReduceMean as ReduceMean
    from .compiler.operators import ReduceMin as ReduceMin
    from .compiler.operators import ReduceSum as ReduceSum
    from .compiler.operators import Relu as Relu
    from .compiler.operators import Requant as Requant
    from .compiler.operators import Reshape as Reshape
    from .compiler.operators import Resize as Resize
    from .compiler.operators import RMSNorm as RMSNorm
    from .compiler.operators import RotaryEmbedding as RotaryEmbedding
    from .compiler.operators import Silu as Silu
    from .compiler.operators import Slice as Slice
    from .compiler.operators import Softmax as Softmax
    from .compiler.operators import SoftmaxCrossEntropy as SoftmaxCrossEntropy
    from .compiler.operators import SpaceToDepth as SpaceToDepth
    from .compiler.operators import Split as Split
    from .compiler.operators import Sub as Sub
    from .compiler.operators import Sums as Sums
    from .compiler.operators import Tile as Tile
    from .compiler.operators import Transpose as Transpose
    from .compiler.operators import Where as Where
    from .configuration import System as System
    from .configuration import load_config as load_config
    from .configuration import presets as presets
    from .hdl.errors import PearrayError as PearrayError
    from .hdl.shell.config import Config as Config
    from .memory import MemoryTiming as MemoryTiming
    from .training import LossScale as LossScale
    from .training import Snapshot as Snapshot
    from .training import Training as Training
    from .training import train_step as train_step

#: Modules and the public names that they define.
_MODULES = {
    "api": ["Handle", "Layer", "Model", "Parts", "Result", "compile", "golden_run", "load_onnx", "load_tflite", "run"],
    "compiler.graph.graph": ["Graph"],
    "compiler.operators": [
        "SGD", "Adam", "Add", "Append", "Attention", "AttentionGrad", "AvgPool2d", "Concat", "Conv2d", "Conv2dGrad",
        "ConvTranspose2d", "DepthToSpace", "Dequantize", "Expand", "FixedPoint", "Gather", "Gelu", "Gemm",
        "Interpolate", "LayerNorm", "Linear", "LinearGrad", "Logistic", "Lookup", "MatMul", "Max", "MaxPool2d", "Min",
        "Mul", "MultiHeadAttention", "Pad", "Quantize", "RMSNorm", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum",
        "Relu", "Requant", "Reshape", "Resize", "RotaryEmbedding", "Silu", "Slice", "Softmax", "SoftmaxCrossEntropy",
        "SpaceToDepth", "Split", "Sub", "Sums", "Tile", "Transpose", "Where",
    ],
    "configuration": ["System", "load_config", "presets"],
    "hdl.shell.config": ["Config"],
    "hdl.errors": ["PearrayError"],
    "memory": ["MemoryTiming"],
    "training": ["LossScale", "Snapshot", "Training", "train_step"],
}
_PUBLIC = {name: module for module, names in _MODULES.items() for name in names}

__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_PUBLIC[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
