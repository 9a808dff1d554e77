"""ONNX files as graphs: folding of constants, and the walk over the nodes."""

from collections.abc import Callable, Mapping
from functools import partial
from os import PathLike
from typing import Any

import numpy as np

from ....hdl.errors import PearrayError, check_choice
from ...graph.graph import Graph, Node, Tensor
from ...operators.fields import NARROW, whole_bytes
from ..model import Binding, Model
from . import attention as onnx_attention
from . import casts as onnx_casts
from . import channelwise as onnx_channelwise
from . import contractions as onnx_contractions
from . import integers as onnx_integers
from . import moves as onnx_moves
from . import norms as onnx_norms
from . import reductions as onnx_reductions
from . import resizes as onnx_resizes
from . import rotary as onnx_rotary
from . import shapes as onnx_shapes
from . import softmax as onnx_softmax
from .attention import is_attention
from .builder import HANDLERS, MICROSOFT, OWN, Builder, OnnxNode, attempt
from .chains import is_element_wise
from .float_graph import float_graph
from .folding import computed
from .fusion import fuse_attention
from .given import host_masks
from .hosting import HOSTED, Hosting
from .moves import TABLES
from .network import Network
from .norm_fusion import fuse_norms, sums_apart
from .norms import is_norm
from .qdq import FLOAT_OPERATORS, FloatNodes
from .quantisation import dequantised_constant, quantised_constant
from .reading import Shapes, fixed_batches, free_inputs, inputs_of, narrow_inputs, opsets_of, read
from .refusals import ADVICE, Refusals, Refused
from .rotary import is_rotary
from .runtime import Types
from .signatures import check_signature

__all__ = ["load_onnx"]

# Imported for what they register.
_FAMILIES = (onnx_attention, onnx_casts, onnx_channelwise, onnx_contractions, onnx_integers, onnx_moves, onnx_norms,
             onnx_reductions, onnx_resizes, onnx_rotary, onnx_shapes, onnx_softmax)

_RECURRENT = ("its gates and its state are real numbers between products, for which there is no rule in integers, as "
              "there is one for the LSTM of TensorFlow Lite")

_STEPS = "it goes through a sequence step by step, with a state: write its steps out"

_BRANCHES = "which nodes run follows from values, and a program has no branches: export the network without"

_BY_VALUES = "the shape of what it makes follows from values, and a program has fixed shapes: do it on the host"

#: Operators that networks have and accelerators lack, with the reason.
_REFUSED = {
    (MICROSOFT, "EmbedLayerNormalization"): TABLES,
    (MICROSOFT, "QLinearReduceMean"): "onnxruntime has no kernel of it for processors, so nothing tells "
                                      "how it rounds: use ReduceMean between DequantizeLinear and QuantizeLinear",
    ("", "DynamicQuantizeLinear"): "its scale follows from what the accelerator makes, and a program has fixed ones: "
                                   "quantise statically",
    **{("", kind): _RECURRENT for kind in ("GRU", "LSTM", "RNN")},
    (MICROSOFT, "DynamicQuantizeLSTM"): _RECURRENT,
    ("", "Scan"): _STEPS,
    **{("", kind): _BRANCHES for kind in ("If", "Loop")},
    **{("", kind): _BY_VALUES for kind in ("Compress", "NonMaxSuppression", "NonZero", "Unique")},
}


def load_onnx(path: str | PathLike[str], fallback: str | None = None) -> Model:
    """Read an ONNX file.

    Parameters
    ----------
    path : path
        The file; operator set 13 or later, or one from 7 on, which onnx converts.
    fallback : "host" or "exact", optional
        Who computes what cannot be mapped: onnxruntime on the host, between programs for the accelerator; with "exact"
        also what programs compute only within a bound, as attention and normalisation. Without it such a network is
        refused.

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
    if fallback is not None:
        check_choice("fallback", fallback, ("host", "exact"))
    name, model, constants, notes = read(path)
    return Model(name, inputs_of(model), [item.name for item in model.graph.output],
                 partial(_import, model, constants) if fallback is None else partial(
                     _import_in_parts, model, constants, fallback == "exact"), notes=notes,
                 fallback=fallback, _free=free_inputs(model), _make_floats=partial(float_graph, model, constants))


def _import_in_parts(model: Any, initialisers: Mapping[str, np.ndarray], is_exact: bool, binding: Binding
                     ) -> Graph:
    """Graph in which the host computes what cannot be mapped.

    What is refused is known once all else has been taken; then the network is read again without it, until nothing is.
    """
    hosting = Hosting(model, inputs_of(model, binding.batch, binding.shapes), binding.left, is_exact)
    while True:
        try:
            return _import(model, initialisers, binding, hosting)
        except Refused as error:
            if not hosting.add(error.found):
                raise


def _import(model: Any, initialisers: Mapping[str, np.ndarray], binding: Binding, hosting: Hosting | None = None
            ) -> Graph:
    inputs = inputs_of(model, binding.batch, binding.shapes)
    for name, tensor in inputs.items():
        if -1 in tensor.shape:
            raise PearrayError(f"input {name!r} of the ONNX file has no size for dimension {tensor.shape.index(-1)}: "
                               "give the input, as to Model.graph_for or pearray.run")
    # Shapes within a file that leaves its batch free are meant as they are, whatever the batch.
    declared = fixed_batches(model)
    # Nodes of constants are computed with the file's own types.
    constants: dict[str, np.ndarray] = {}
    given = dict(initialisers)
    builder = Builder(dict(inputs), constants, opsets=opsets_of(model), ir_version=model.ir_version, offered={
        name: value for name, value in binding.values.items()
        if name in inputs and (value.shape, value.dtype) == (inputs[name].shape, inputs[name].dtype)})
    builder.names.update(name for item in model.graph.node for name in (*item.input, *item.output))
    _hold(builder, given)
    builder.ranges |= narrow_inputs(model)
    if binding.batch is not None and len(declared) == 1:
        builder.batches = declared.pop(), binding.batch
    outputs = [item.name for item in model.graph.output]
    shapes, types = Shapes(model, inputs), Types(model, inputs) if hosting is None else hosting.types

    def shape_of(name: str) -> Tensor | None:
        return shapes.get(name) or types.get(name)

    nodes = _computed(model, builder, given, shape_of)
    if hosting is not None:
        nodes = hosting.parted(nodes, given, outputs)
    nodes = sums_apart(Network(nodes, constants, outputs), builder)
    if hosting is None or not hosting.is_exact:
        nodes = fuse_attention(Network(nodes, constants, outputs))
        nodes = fuse_norms(Network(nodes, constants, outputs), builder.inner)
    nodes = host_masks(Network(nodes, constants, outputs), builder, model, given)
    floats = FloatNodes(builder, [name for name, tensor in inputs.items() if tensor.dtype == np.float32], outputs,
                        Network(_with_dead(model, nodes), constants, outputs).readers)
    refusals = Refusals(builder, shape_of, _is_known, ADVICE if hosting is None else "")
    for node in nodes:
        refusals.take(node, lambda node: _take(node, builder, floats, hosting))
    makers = {name: node for node in nodes for name in node.outputs}
    for name in floats.unfinished:
        refusals.take(makers[name], partial(floats.finish, name))
    refusals.check()
    return _graph(builder.nodes, inputs, builder, outputs)


def _is_known(node: OnnxNode) -> bool:
    """Whether there is an operator like that of a node."""
    return (node.domain, node.op_type) in HANDLERS or node.op_type in FLOAT_OPERATORS or node.proto is None


def _take(node: OnnxNode, builder: Builder, floats: FloatNodes, hosting: Hosting | None) -> None:
    """Add what a node of the file computes to the graph, or note it as a float tensor."""
    if hosting is not None and (node.domain, node.op_type) == (OWN, HOSTED):
        hosting.emit(node, builder)
        return
    if hosting is not None and hosting.is_exact and (is_attention(node) or is_norm(node) or is_rotary(node)):
        raise PearrayError("programs compute it within a bound, not equal to onnxruntime")
    if attempt(node, floats.take, node):
        return
    handler = HANDLERS.get((node.domain, node.op_type)) if node.domain != OWN else None
    if reason := _REFUSED.get((node.domain, node.op_type)):
        raise PearrayError(f"node {node.name!r} ({node.label}): {reason}")
    if handler is None and not node.domain and node.op_type in FLOAT_OPERATORS:
        raise PearrayError(f"node {node.name!r} ({node.label}): it is supported of float tensors, which "
                           "DequantizeLinear makes of stored ones, and not of integers as they are")
    if handler is None:
        supported = ", ".join(sorted({*(kind for domain, kind in HANDLERS if domain != OWN), *FLOAT_OPERATORS}))
        raise PearrayError(f"node {node.name!r}: operator {node.label} is not supported; supported: {supported}")
    attempt(node, handler, node, builder)


def _computed(model: Any, builder: Builder, given: dict[str, np.ndarray], shape_of: Callable[[str], Tensor | None]
              ) -> list[OnnxNode]:
    """Nodes that are left once those are computed all of whose inputs are known, which become constants."""
    nodes = [OnnxNode.of(item) for item in _needed(model)]
    read = {item.name for item in model.graph.output}.union(*(node.inputs for node in nodes))
    left: list[OnnxNode] = []
    dequantised: dict[str, OnnxNode] = {}
    for node in nodes:
        if node.op_type != "Split":
            # Optional outputs have names though nobody reads them.
            node.outputs = [name if name in read or not place else "" for place, name in enumerate(node.outputs)]
            while len(node.outputs) > 1 and not node.outputs[-1]:
                node.outputs.pop()
        attempt(node, check_signature, node)
        # What dequantises a constant is half of a quantised operator, and is left to it.
        if node.domain == "" and node.op_type == "QuantizeLinear" and node.input(0) in builder.constants:
            value, bounds = attempt(node, quantised_constant, node, builder)
            builder.constants[node.outputs[0]] = given[node.outputs[0]] = value
            if bounds is not None:
                builder.ranges[node.outputs[0]] = bounds
            continue
        made = _known(node, given, dequantised, builder, shape_of)
        if made is None:
            left.append(node)
            if node.op_type == "DequantizeLinear" and not node.domain and {*node.inputs} <= {"", *given}:
                dequantised[node.outputs[0]] = node
        else:
            given.update(made)
            _hold(builder, made)
    return left


def _known(node: OnnxNode, given: Mapping[str, np.ndarray], dequantised: Mapping[str, OnnxNode], builder: Builder,
           shape_of: Callable[[str], Tensor | None]) -> dict[str, np.ndarray] | None:
    """Outputs of a node that follow from constants, dequantised ones too, or from shapes alone, else None."""
    if node.domain or node.op_type == "DequantizeLinear":
        return None
    if node.op_type in ("Shape", "Size") and node.input(0) not in given:
        found = builder.tensors.get(node.input(0)) or shape_of(node.input(0))
        # Of a tensor of this shape, without room for its elements.
        given = {} if found is None else {node.inputs[0]: np.broadcast_to(np.int8(0), found.shape)}
    elif is_element_wise(node) and all(name in given or name in dequantised for name in node.inputs if name):
        # Others move stored constants as they are.
        given = {**given, **{name: attempt(dequantised[name], dequantised_constant, dequantised[name], builder)
                             for name in node.inputs if name in dequantised}}
    if not all(name in given for name in node.inputs if name):
        return None
    return computed(node, given, builder.opsets)


def _needed(model: Any) -> list[Any]:
    """Nodes from which an output of the network follows, in the file's order."""
    wanted: set[str] = {item.name for item in model.graph.output}
    nodes: list[Any] = []
    for item in reversed(model.graph.node):
        if wanted & {*item.output}:
            nodes.append(item)
            wanted |= {*item.input} - {""}
    return nodes[::-1]


def _with_dead(model: Any, nodes: list[OnnxNode]) -> list[OnnxNode]:
    """Nodes with those from which no output follows, in the file's order, but for those that the runtime leaves out."""
    places = {name: place for place, item in enumerate(model.graph.node) for name in item.output if name}
    needed = {name for item in _needed(model) for name in item.output}
    dead = [OnnxNode.of(item) for item in model.graph.node if not needed & {*item.output}
            and item.op_type not in ("Dropout", "Identity", "Shape", "Size")]
    return sorted([*nodes, *dead], key=lambda node: places.get(node.outputs[0], -1) if node.outputs else -1)


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
    given = [name for name in inputs if name not in builder.constants]
    used = {name for node in nodes for name in node.inputs.values()} | {*inputs} - {*given}
    constants = {name: _read_only(value) for name, value in builder.constants.items() if name in used}
    return Graph(nodes, {name: inputs[name] for name in given}, constants, given, outputs, aliases=builder.aliases)
