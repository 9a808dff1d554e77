"""ONNX files as graphs: reading, folding of constants, and the walk over the nodes."""

from collections.abc import Mapping
from functools import partial
from os import PathLike
from typing import Any

import numpy as np

from ....hdl.errors import PearrayError, check_path
from ...graph.graph import Graph, Node, Tensor
from ..model import Model
from . import attention as onnx_attention
from . import channelwise as onnx_channelwise
from . import contractions as onnx_contractions
from . import moves as onnx_moves
from . import norms as onnx_norms
from . import rotary as onnx_rotary
from . import shapes as onnx_shapes
from . import softmax as onnx_softmax
from .builder import HANDLERS, MICROSOFT, OWN, Builder, OnnxNode, attempt
from .fusion import fuse_attention
from .moves import TABLES
from .network import Network
from .norm_fusion import fuse_norms, sums_apart
from .qdq import FLOAT_OPERATORS, FloatNodes
from .quantisation import NARROW, quantised_constant, whole_bytes
from .signatures import check_signature

__all__ = ["load_onnx"]

# Imported for what they register.
_FAMILIES = (onnx_attention, onnx_channelwise, onnx_contractions, onnx_moves, onnx_norms, onnx_rotary, onnx_shapes,
             onnx_softmax)

#: Operators that onnxruntime reads and writes under the standard's domain, which does not know them.
_RUNTIME_ONLY = ("SimplifiedLayerNormalization",)

#: Operators that transformers have and accelerators lack, with the reason.
_REFUSED = {(MICROSOFT, "EmbedLayerNormalization"): TABLES}

#: Oldest operator set whose operators are taken at their word.
OLDEST_OPSET = 13


def load_onnx(path: str | PathLike[str]) -> Model:
    """Read an ONNX file.

    Parameters
    ----------
    path : path
        The file; operator set 13 or later.

    Returns
    -------
    Model
        Its operators are checked when its graph is first needed, but for those from which no output follows: they
        are left out.

    Raises
    ------
    PearrayError
        If onnx is not installed, or the file is missing, corrupt or too old.
    """
    try:
        import onnx
    except ImportError:
        raise PearrayError("reading ONNX files needs onnx: run `pip install 'pearray[onnx]'`") from None
    file = check_path("ONNX file", path)
    if not file.is_file():
        raise PearrayError(f"ONNX file {str(file)!r} is not a file")
    try:
        model = onnx.load(str(file))
        # Before version 4 initialisers had to be listed as inputs too; quantisers do not bother.
        model.ir_version = max(model.ir_version, 4)
        for item in model.graph.output:
            # Runtimes infer the type of an output that states none; the checker insists on one.
            if not item.HasField("type"):
                item.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
                item.type.tensor_type.shape.SetInParent()
        _own_names(model)
        onnx.checker.check_model(model)
        if not model.graph.node:
            raise ValueError("it holds no network")
        constants = {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}
    except Exception as error:
        # A corrupt file can raise anything from the parser, the checker or the reading of outside data.
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise PearrayError(f"ONNX file {str(file)!r} cannot be read: {reason}") from None
    opset = max((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), default=0)
    if opset < OLDEST_OPSET:
        raise PearrayError(f"ONNX file {str(file)!r} must have operator set {OLDEST_OPSET} or later, "
                           f"not {opset}: convert it with onnx.version_converter")
    outputs = [item.name for item in model.graph.output]
    return Model(file.stem, _inputs(model, None), outputs, partial(_import, model, constants))


def _own_names(model: Any) -> None:
    """Give operators that only onnxruntime has under the standard's domain the domain that is its own."""
    from onnx import helper

    own = [node for node in model.graph.node if node.domain in ("", "ai.onnx") and node.op_type in _RUNTIME_ONLY]
    for node in own:
        node.domain = MICROSOFT
    if own and all(item.domain != MICROSOFT for item in model.opset_import):
        model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))


def _inputs(model: Any, batch: int | None) -> dict[str, Tensor]:
    from onnx import helper

    constants = {item.name for item in model.graph.initializer}
    inputs = {}
    for item in model.graph.input:
        if item.name in constants:
            continue
        kind = item.type.tensor_type
        if not kind.elem_type:
            raise PearrayError(f"input {item.name!r} of the ONNX file must be a tensor")
        shape = []
        for axis, size in enumerate(kind.shape.dim):
            if axis == 0 and (batch is not None or size.dim_value < 1):
                shape.append(1 if batch is None else batch)
            elif size.dim_value < 1:
                raise PearrayError(f"input {item.name!r} of the ONNX file must have a fixed shape behind its "
                                   f"first dimension, but dimension {axis} is {size.dim_param!r}")
            else:
                shape.append(size.dim_value)
        inputs[item.name] = Tensor(item.name, tuple(shape), helper.tensor_dtype_to_np_dtype(kind.elem_type))
    return inputs


def _import(model: Any, initialisers: Mapping[str, np.ndarray], batch: int | None) -> Graph:
    declared = {tensor.shape[0] for tensor in _inputs(model, None).values() if tensor.shape}
    inputs = _inputs(model, batch)
    # Nodes of constants are computed with the file's own types.
    constants: dict[str, np.ndarray] = {}
    given = dict(initialisers)
    builder = Builder(dict(inputs), constants)
    builder.names.update(name for item in model.graph.node for name in (*item.input, *item.output))
    _hold(builder, given)
    if batch is not None and len(declared) == 1:
        builder.batches = declared.pop(), batch
    outputs = [item.name for item in model.graph.output]
    floats = FloatNodes(builder, outputs)
    nodes = sums_apart(Network(_computed(model, builder, given), constants, outputs), builder)
    for fuse in (fuse_attention, fuse_norms):
        nodes = fuse(Network(nodes, constants, outputs))
    for node in nodes:
        if attempt(node, floats.take, node):
            continue
        handler = HANDLERS.get((node.domain, node.op_type)) if node.domain != OWN else None
        if reason := _REFUSED.get((node.domain, node.op_type)):
            raise PearrayError(f"node {node.name!r} ({node.label}): {reason}")
        if handler is None:
            supported = ", ".join(sorted({*(kind for domain, kind in HANDLERS if domain != OWN), *FLOAT_OPERATORS}))
            raise PearrayError(f"node {node.name!r}: operator {node.label} is not supported; "
                               f"supported: {supported}")
        attempt(node, handler, node, builder)
    return _graph(builder.nodes, inputs, builder, outputs)


def _computed(model: Any, builder: Builder, given: dict[str, np.ndarray]) -> list[OnnxNode]:
    """Nodes that are left once those are computed all of whose inputs are known, which become constants."""
    nodes = [OnnxNode.of(item) for item in _needed(model)]
    read = {item.name for item in model.graph.output}.union(*(node.inputs for node in nodes))
    left = []
    for node in nodes:
        if node.domain == MICROSOFT:
            # Their optional outputs have names though nobody reads them.
            node.outputs = [name if name in read or not place else "" for place, name in enumerate(node.outputs)]
        attempt(node, check_signature, node)
        # What dequantises a constant is half of a quantised operator, and is left to it.
        if node.domain == "" and node.op_type == "QuantizeLinear" and node.input(0) in builder.constants:
            value, bounds = attempt(node, quantised_constant, node, builder)
            builder.constants[node.outputs[0]] = given[node.outputs[0]] = value
            if bounds is not None:
                builder.ranges[node.outputs[0]] = bounds
        elif node.domain == "" and node.op_type != "DequantizeLinear" and all(
                name in given for name in node.inputs if name):
            made = _fold(model, node, given)
            given.update(made)
            _hold(builder, made)
        else:
            left.append(node)
    return left


def _needed(model: Any) -> list[Any]:
    """Nodes from which an output of the network follows, in the file's order."""
    wanted: set[str] = {item.name for item in model.graph.output}
    nodes: list[Any] = []
    for item in reversed(model.graph.node):
        if wanted & {*item.output}:
            nodes.append(item)
            wanted |= {*item.input} - {""}
    return nodes[::-1]


def _read_only(value: np.ndarray) -> np.ndarray:
    """Return an array of the file's after locking it, so that no graph needs a copy."""
    part: Any = value
    while isinstance(part, np.ndarray):
        part.flags.writeable = False
        part = part.base
    return value


def _hold(builder: Builder, values: Mapping[str, np.ndarray]) -> None:
    """Add constants of the file, those of 4 bits in bytes."""
    for name, value in values.items():
        builder.constants[name] = whole_bytes(value)
        if value.dtype.name in NARROW:
            builder.ranges[name] = NARROW[value.dtype.name][1]


def _graph(nodes: list[Node], inputs: dict[str, Tensor], builder: Builder, outputs: list[str]) -> Graph:
    made = {name for node in nodes for name in node.outputs.values()}
    for name in outputs:
        if name not in made:
            raise PearrayError(f"output {name!r} of the ONNX file is not computed by the network")
    used = {name for node in nodes for name in node.inputs.values()}
    constants = {name: _read_only(value) for name, value in builder.constants.items() if name in used}
    return Graph(nodes, dict(inputs), constants, list(inputs), outputs, aliases=builder.aliases)


def _fold(model: Any, node: OnnxNode, constants: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Compute a node all of whose inputs are known."""
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    given = [name for name in node.inputs if name]
    names = [name for name in node.outputs if name]
    ends = [[helper.make_empty_tensor_value_info(name) for name in group] for group in (given, names)]
    graph = helper.make_graph([node.proto], "constant", ends[0], ends[1])
    try:
        evaluator = ReferenceEvaluator(helper.make_model(graph, opset_imports=list(model.opset_import)))
        values = evaluator.run(names, {name: constants[name] for name in given})
    except Exception as error:
        raise PearrayError(f"node {node.name!r} ({node.label}): cannot be computed from its constants: "
                           f"{type(error).__name__}") from None
    return dict(zip(names, (np.asarray(value) for value in values), strict=True))
