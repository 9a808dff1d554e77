"""What a TensorFlow Lite file holds: tensors and operators of its main subgraph, read by the published schema."""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ....hdl.errors import PearrayError, is_file
from ...operators.fields import MOST_ELEMENTS

__all__ = ["FileOperator", "FileTensor", "TfliteFile", "read"]

_IDENTIFIER = b"TFL3"

#: NumPy's types of the schema's, by the schema's names. Values of others are not read.
_DTYPES = {name: np.dtype(name.lower()) for name in (
    "FLOAT32", "FLOAT16", "FLOAT64", "INT8", "UINT8", "INT16", "UINT16", "INT32", "UINT32", "INT64", "UINT64", "BOOL")}

#: Integers of four bits, two in a byte of the file, are held in bytes.
_HALF_BYTES = "INT4"
_DTYPES[_HALF_BYTES] = np.dtype(np.int8)

_WINDOW = ("Padding", "StrideH", "StrideW", "FusedActivationFunction")
_DILATION = ("DilationHFactor", "DilationWFactor")

#: Table of the options of each operator that has some, and its fields that are read.
_OPTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "ADD": ("AddOptions", ("FusedActivationFunction", "PotScaleInt16")),
    "AVERAGE_POOL_2D": ("Pool2DOptions", (*_WINDOW, "FilterHeight", "FilterWidth")),
    "BATCH_MATMUL": ("BatchMatMulOptions", ("AdjX", "AdjY")),
    "CALL_ONCE": ("CallOnceOptions", ("InitSubgraphIndex",)),
    "CONCATENATION": ("ConcatenationOptions", ("Axis", "FusedActivationFunction")),
    "CONV_2D": ("Conv2DOptions", (*_WINDOW, *_DILATION)),
    "DEPTH_TO_SPACE": ("DepthToSpaceOptions", ("BlockSize",)),
    "DEPTHWISE_CONV_2D": ("DepthwiseConv2DOptions", (*_WINDOW, *_DILATION, "DepthMultiplier")),
    "FULLY_CONNECTED": ("FullyConnectedOptions", ("FusedActivationFunction", "WeightsFormat", "KeepNumDims")),
    "GATHER": ("GatherOptions", ("Axis", "BatchDims")),
    "GELU": ("GeluOptions", ("Approximate",)),
    "LEAKY_RELU": ("LeakyReluOptions", ("Alpha",)),
    "MAX_POOL_2D": ("Pool2DOptions", (*_WINDOW, "FilterHeight", "FilterWidth")),
    "MEAN": ("ReducerOptions", ("KeepDims",)),
    "MIRROR_PAD": ("MirrorPadOptions", ("Mode",)),
    "MUL": ("MulOptions", ("FusedActivationFunction",)),
    "PACK": ("PackOptions", ("Axis",)),
    "REDUCE_MAX": ("ReducerOptions", ("KeepDims",)),
    "REDUCE_MIN": ("ReducerOptions", ("KeepDims",)),
    "RESHAPE": ("ReshapeOptions", ("NewShapeAsNumpy",)),
    "RESIZE_BILINEAR": ("ResizeBilinearOptions", ("AlignCorners", "HalfPixelCenters")),
    "RESIZE_NEAREST_NEIGHBOR": ("ResizeNearestNeighborOptions", ("AlignCorners", "HalfPixelCenters")),
    "SOFTMAX": ("SoftmaxOptions", ("Beta",)),
    "SPACE_TO_DEPTH": ("SpaceToDepthOptions", ("BlockSize",)),
    "SQUEEZE": ("SqueezeOptions", ("SqueezeDimsAsNumpy",)),
    "STRIDED_SLICE": ("StridedSliceOptions", (
        "BeginMask", "EndMask", "EllipsisMask", "NewAxisMask", "ShrinkAxisMask", "Offset")),
    "SUB": ("SubOptions", ("FusedActivationFunction", "PotScaleInt16")),
    "SUM": ("ReducerOptions", ("KeepDims",)),
    "SVDF": ("SVDFOptions", ("Rank", "FusedActivationFunction")),
    "TRANSPOSE_CONV": ("TransposeConvOptions", _WINDOW),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": ("UnidirectionalSequenceLSTMOptions", (
        "FusedActivationFunction", "CellClip", "ProjClip", "TimeMajor")),
    "UNPACK": ("UnpackOptions", ("Axis",)),
    "VAR_HANDLE": ("VarHandleOptions", ("SharedName",)),
}


@dataclass(eq=False)
class FileTensor:
    """A tensor of the file.

    Parameters
    ----------
    name : str
        Name in the file, unlike that of every other tensor.
    shape : tuple of int
        Shape, in TensorFlow's order: images are NHWC.
    kind : str
        Type by the schema's name, such as ``"INT8"``.
    scale : float32 array
        Scales, none of them if it is not quantised.
    zero_point : int64 array
        As many zero points.
    axis : int
        Axis of the scales, where there are several.
    value : ndarray or None
        Values, if they are known.
    free : tuple of int
        Axes that the file leaves to whoever runs it, of one element here.
    note : str
        What of it is not read, empty if all is.
    is_variable : bool
        Whether it keeps its values from one run to the next.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    scale: np.ndarray
    zero_point: np.ndarray
    axis: int = 0
    value: np.ndarray | None = None
    free: tuple[int, ...] = ()
    note: str = ""
    is_variable: bool = False

    @property
    def dtype(self) -> np.dtype | None:
        """Type in NumPy, or None if that has none for it."""
        return _DTYPES.get(self.kind)


@dataclass(eq=False)
class FileOperator:
    """An operator of the file.

    Parameters
    ----------
    kind : str
        Name in the schema, such as ``"CONV_2D"``.
    index : int
        Place in the file.
    inputs, outputs : list of int
        Numbers of its tensors; -1 for an input that is left out.
    options : dict of str to value, or None
        Fields of its options, by the schema's names; None if it has none.
    intermediates : list of int
        Numbers of tensors that say how it stores what it has inside.
    """

    kind: str
    index: int
    inputs: list[int]
    outputs: list[int]
    options: dict[str, Any] | None = None
    intermediates: list[int] = field(default_factory=list)


@dataclass(eq=False)
class TfliteFile:
    """Main subgraph of a file.

    Parameters
    ----------
    tensors : list of FileTensor
        By number.
    operators : list of FileOperator
        In the order in which they run.
    inputs, outputs : list of int
        Numbers of tensors.
    others : list of TfliteFile
        The file's other subgraphs.
    """

    tensors: list[FileTensor]
    operators: list[FileOperator]
    inputs: list[int]
    outputs: list[int]
    others: "list[TfliteFile]" = field(default_factory=list)


def read(file: Path) -> TfliteFile:
    """Read a file.

    Raises
    ------
    PearrayError
        If the schema is not installed, or the file is missing or corrupt.
    """
    try:
        import tflite as schema
    except ImportError:
        raise PearrayError("reading TensorFlow Lite files needs tflite: run `pip install 'pearray[tflite]'`") from None
    if not is_file(file):
        raise PearrayError(f"TensorFlow Lite file {str(file)!r} is not a file")
    try:
        return _Reader(schema, file.read_bytes()).file()
    except Exception as error:
        # The schema's code checks nothing, so that a corrupt file can raise anything.
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise PearrayError(f"TensorFlow Lite file {str(file)!r} cannot be read: {reason}") from None


@dataclass
class _Reader:
    """Reader of the bytes of a file; whatever does not fit raises a ValueError, or what the schema's code raises."""

    schema: Any
    content: bytes
    _names: set[str] = field(default_factory=set)

    def file(self) -> TfliteFile:
        if self.content[4:8] != _IDENTIFIER:
            raise ValueError(f"bytes 4 to 7 must be {_IDENTIFIER.decode()}, the format's mark, "
                             f"not {self.content[4:8]!r}")
        model = self.schema.Model.GetRootAs(self.content, 0)
        buffers = self._all(model.BuffersLength(), model.Buffers)
        kinds = [self._kind(code) for code in self._all(model.OperatorCodesLength(), model.OperatorCodes)]
        graphs = [self._graph(graph, buffers, kinds) for graph in self._all(model.SubgraphsLength(), model.Subgraphs)]
        if not graphs or not graphs[0].operators:
            raise ValueError("it holds no network")
        graphs[0].others = graphs[1:]
        return graphs[0]

    def _graph(self, graph: Any, buffers: list[Any], kinds: list[str]) -> TfliteFile:
        self._names.clear()
        tensors = [self._tensor(number, each, buffers)
                   for number, each in enumerate(self._all(graph.TensorsLength(), graph.Tensors))]
        operators = [self._operator(index, each, kinds, len(tensors))
                     for index, each in enumerate(self._all(graph.OperatorsLength(), graph.Operators))]
        inputs, outputs = (self._numbers(length, each, len(tensors)) for length, each in (
            (graph.InputsLength(), graph.InputsAsNumpy), (graph.OutputsLength(), graph.OutputsAsNumpy)))
        return TfliteFile(tensors, operators, inputs, outputs)

    def _all(self, length: int, item: Callable[[int], Any]) -> list[Any]:
        # Each has an offset of four bytes in the file.
        if not 0 <= length <= len(self.content) // 4:
            raise ValueError(f"a list of {length} does not fit the file")
        return [item(index) for index in range(length)]

    @staticmethod
    def _numbers(length: int, numbers: Callable[[], Any], tensors: int, least: int = 0) -> list[int]:
        found = [int(number) for number in numbers()] if length else []
        for number in found:
            if not least <= number < tensors:
                raise ValueError(f"tensor {number} must be one of the {tensors} of the file")
        return found

    def _tensor(self, number: int, tensor: Any, buffers: list[Any]) -> FileTensor:
        kind = self._name_of(self.schema.TensorType, tensor.Type(), "type")
        shape = tuple(int(size) for size in tensor.ShapeAsNumpy()) if tensor.ShapeLength() else ()
        name = (tensor.Name() or b"").decode(errors="replace") or f"tensor{number}"
        while name in self._names:
            name += "'"
        self._names.add(name)
        if any(size < 0 for size in shape) or prod(shape) > MOST_ELEMENTS:
            raise ValueError(f"tensor {name!r} must have at most {MOST_ELEMENTS} elements, not shape {shape}")
        quantisation = tensor.Quantization()
        scale, zero_point, axis = np.empty(0, np.float32), np.empty(0, np.int64), 0
        if quantisation is not None and quantisation.ScaleLength():
            scale = np.array(quantisation.ScaleAsNumpy(), np.float32)
            points = quantisation.ZeroPointAsNumpy() if quantisation.ZeroPointLength() else 0
            zero_point = np.zeros(scale.size, np.int64) + np.asarray(points, np.int64)
            axis = int(quantisation.QuantizedDimension())
        signature = [int(size) for size in tensor.ShapeSignatureAsNumpy()] if tensor.ShapeSignatureLength() else []
        made = FileTensor(name, shape, kind, scale, zero_point, axis,
                          free=tuple(place for place, size in enumerate(signature) if size < 0))
        if tensor.Sparsity() is not None:
            made.note = "its weights are sparse: convert it without sparsity"
        elif tensor.IsVariable():
            made.note, made.is_variable = "it keeps a state from one run to the next", True
        else:
            made.value = self._value(made, tensor.Buffer(), buffers)
        return made

    def _value(self, tensor: FileTensor, number: int, buffers: list[Any]) -> np.ndarray | None:
        if not 0 <= number < len(buffers):
            raise ValueError(f"buffer {number} of tensor {tensor.name!r} must be one of the {len(buffers)} of the file")
        buffer = buffers[number]
        if buffer.DataLength():
            data = buffer.DataAsNumpy().tobytes()
        elif buffer.Offset() > 1:
            # Files of more than 2 GB have their constants behind the schema's part.
            data = self.content[buffer.Offset():buffer.Offset() + buffer.Size()]
        else:
            return None
        if tensor.dtype is None:
            return None
        if tensor.kind == _HALF_BYTES:
            data = _unpacked(tensor, data)
        if len(data) != prod(tensor.shape) * tensor.dtype.itemsize:
            raise ValueError(f"tensor {tensor.name!r} must have {prod(tensor.shape) * tensor.dtype.itemsize} bytes, "
                             f"as its shape {tensor.shape} of {tensor.dtype} says, not {len(data)}")
        return np.frombuffer(data, tensor.dtype.newbyteorder("<")).astype(tensor.dtype).reshape(tensor.shape)

    @staticmethod
    def _name_of(names: type, value: int, what: str) -> str:
        for name, number in vars(names).items():
            if number == value and not name.startswith("_"):
                return name
        return f"{what} {value}"

    def _kind(self, code: Any) -> str:
        # Codes of more than a byte have come later, in a field of their own.
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        kind = self._name_of(self.schema.BuiltinOperator, number, "operator")
        return f"CUSTOM {(code.CustomCode() or b'').decode(errors='replace')!r}" if kind == "CUSTOM" else kind

    def _operator(self, index: int, operator: Any, kinds: list[str], tensors: int) -> FileOperator:
        code = operator.OpcodeIndex()
        if not 0 <= code < len(kinds):
            raise ValueError(f"operator {index} must have one of the {len(kinds)} codes of the file, not {code}")
        made = FileOperator(
            kinds[code], index, self._numbers(operator.InputsLength(), operator.InputsAsNumpy, tensors, -1),
            self._numbers(operator.OutputsLength(), operator.OutputsAsNumpy, tensors),
            intermediates=self._numbers(operator.IntermediatesLength(), operator.IntermediatesAsNumpy, tensors))
        table = operator.BuiltinOptions()
        if made.kind in _OPTIONS and table is not None:
            name, fields = _OPTIONS[made.kind]
            if operator.BuiltinOptionsType() != getattr(self.schema.BuiltinOptions, name):
                raise ValueError(f"operator {index}, {made.kind}, must have {name}")
            options = getattr(self.schema, name)()
            options.Init(table.Bytes, table.Pos)
            made.options = {key: self._plain(getattr(options, key)()) for key in fields}
        return made

    @staticmethod
    def _plain(value: Any) -> Any:
        return [int(item) for item in value] if isinstance(value, np.ndarray) else value


def _unpacked(tensor: FileTensor, data: bytes) -> bytes:
    """Bytes of integers of four bits that stand two in a byte, the first of them below."""
    count = prod(tensor.shape)
    if len(data) != -(-count // 2):
        raise ValueError(f"tensor {tensor.name!r} must have {-(-count // 2)} bytes, two integers of 4 bits in each, as "
                         f"its shape {tensor.shape} says, not {len(data)}")
    packed = np.frombuffer(data, np.int8)
    # Shifts to the left and back take the upper bit of a half for its sign.
    return np.stack([packed << 4 >> 4, packed >> 4], axis=-1).reshape(-1)[:count].tobytes()
