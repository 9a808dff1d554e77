"""Where real numbers come from besides DequantizeLinear: bytes that are cast, tables in which words are looked up."""

from dataclasses import replace

import numpy as np

from ..building import looked_up
from .builder import Builder, OnnxNode, Quantisation
from .chains import chain_of
from .values import Chain, Given, Stored

__all__ = ["entered", "look_up"]

_BYTES = (np.dtype(np.int8), np.dtype(np.uint8))


def entered(node: OnnxNode, graph: Builder) -> Chain | Given | None:
    """What a node makes real numbers of, if it is one of these."""
    if node.op_type == "Cast" and node.input(0) in graph.tensors:
        return _cast(node, graph)
    if node.op_type == "Gather" and node.input(0) in graph.constants and node.input(1) not in graph.constants:
        table = graph.constants[node.input(0)]
        if table.dtype == np.float32 and look_up(node, graph, table):
            return Given(node.outputs[0])
    return None


def _cast(node: OnnxNode, graph: Builder) -> Chain | None:
    """Bytes as the numbers that they are, in steps of one; the runtime computes with these as real numbers."""
    from onnx import TensorProto

    dtype = graph.tensor(node.inputs[0]).dtype
    if node.attributes.get("to") != TensorProto.FLOAT or dtype not in _BYTES:
        return None
    scale, zero = np.ones((), np.float32), dtype.type(0)
    stored = Stored(node.inputs[0], graph.store(f"{node.outputs[0]}:scale", scale),
                    graph.store(f"{node.outputs[0]}:zero", np.asarray(zero)), Quantisation(scale, zero))
    return replace(chain_of(stored, node.outputs[0], graph), is_float=True)


def look_up(node: OnnxNode, graph: Builder, table: np.ndarray) -> bool:
    """Let the host look an input of the network up in a table that is known; return whether it is one."""
    name, axis = node.input(1), node.take(axis=0)["axis"]
    indices = graph.tensors.get(name)
    if indices is None or indices.dtype.kind not in "iu" or any(
            name in made.outputs.values() for made in graph.nodes if not made.operator.at_edge):
        return False
    graph.add(node, looked_up(table, axis, indices), {"indices": name})
    return True
