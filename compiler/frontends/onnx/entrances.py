"""Where real numbers come from besides DequantizeLinear: bytes that are cast, tables in which words are looked up."""

from dataclasses import replace
from functools import partial

import numpy as np

from ....hdl.errors import PearrayError
from ...operators import Given as HostGiven
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
    if not -table.ndim <= axis < table.ndim:
        raise PearrayError(f"axis must be in {-table.ndim}..{table.ndim - 1}, not {axis}")
    axis %= table.ndim
    shape = (*table.shape[:axis], *indices.shape, *table.shape[axis + 1:])
    graph.add(node, HostGiven(partial(_taken, table, axis), ("indices",), shape, table.dtype), {"indices": name})
    return True


def _taken(table: np.ndarray, axis: int, indices: np.ndarray) -> np.ndarray:
    """Entries of a table, counted from its end if an index is less than zero."""
    size = table.shape[axis]
    if indices.size and not -size <= indices.min() <= indices.max() < size:
        raise PearrayError(f"indices must be in {-size}..{size - 1}, not {indices.min()}..{indices.max()}")
    return np.ascontiguousarray(np.take(table, indices, axis))
