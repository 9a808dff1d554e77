"""RotaryEmbedding of ONNX networks between quantised tensors."""

from typing import Any

import numpy as np

from ....hdl.errors import PearrayError
from ...operators import Reshape, RotaryEmbedding
from .builder import MICROSOFT, OWN, Builder, OnnxNode, handles, one
from .floats import Floats, check_no_activation, eight_bits
from .heads import join_heads, split_heads

__all__ = ["is_rotary", "stored_rotary"]

#: Places of positions and of both tables among the inputs, and attributes with their defaults.
_OPERATORS: dict[tuple[str, str], tuple[tuple[int, int, int], dict[str, Any]]] = {
    ("", "RotaryEmbedding"): ((3, 1, 2), {"interleaved": 0, "num_heads": 0, "rotary_embedding_dim": 0}),
    (MICROSOFT, "RotaryEmbedding"): ((1, 2, 3), {"interleaved": 0, "is_packed_batching": 0, "num_heads": 0,
                                                 "rotary_embedding_dim": 0, "scale": 1.0}),
}


def is_rotary(node: OnnxNode) -> bool:
    """Whether a node turns pairs of elements."""
    return (node.domain, node.op_type) in _OPERATORS


def stored_rotary(node: OnnxNode, graph: Builder, floats: Floats) -> OnnxNode:
    """Operator on stored integers that a node stands for, without the scale of its result.

    Parameters
    ----------
    node, graph
        A node that :func:`is_rotary`, and the graph under construction.
    floats : Floats
        Float tensors before the node.

    Raises
    ------
    PearrayError
        If x is not quantised, tables or positions are no constants that fit, or an attribute is not supported.
    """
    (positions_at, *tables_at), attributes = _OPERATORS[node.domain, node.op_type]
    names = floats.operand("x", node.input(0))
    taken = node.take(**attributes)
    for name, allowed in (("interleaved", (0, 1)), ("is_packed_batching", (0,)), ("scale", (1.0,))):
        if name in taken and taken[name] not in allowed:
            raise PearrayError(f"{name} must be {' or '.join(map(str, allowed))}, not {taken[name]}")
    shape = graph.tensor(names[0]).shape
    if len(shape) not in (3, 4):
        raise PearrayError(f"x must have 3 or 4 dimensions, not shape {shape}")
    tables = [_table(node, at, floats) for at in tables_at]
    positions = _positions(node, positions_at, floats, (shape[0], shape[-2]))
    rows = [_rows(table, positions, (shape[0], shape[-2])) for table in tables]
    turned = 2 * rows[0].shape[1]
    if taken["rotary_embedding_dim"] not in (0, turned):
        raise PearrayError(f"rotary_embedding_dim must be {turned}, twice the columns of cos_cache and sin_cache, not "
                           f"{taken['rotary_embedding_dim']}")
    # com.microsoft's operator turns whole heads where it is not told how many there are.
    heads = taken["num_heads"] or (shape[-1] // turned if node.domain else 0)
    if len(shape) == 3 and (heads < 1 or shape[2] % heads):
        raise PearrayError(f"num_heads must be a number that divides {shape[2]}, not {heads}")
    made = [graph.store(f"{node.outputs[0]}:{what}", row) for what, row in zip(("cos", "sin"), rows, strict=True)]
    return node.standing_for("RotaryEmbedding", [*names, *made], node.outputs,
                             {"heads": heads, "interleaved": bool(taken["interleaved"])}, OWN)


def _table(node: OnnxNode, at: int, floats: Floats) -> np.ndarray:
    found = floats.value(node.input(at))
    if found is None or found.dtype != np.float32 or found.ndim not in (2, 3):
        raise PearrayError(f"{node.input(at)!r}, a table of angles, must be a constant of float32 with 2 or 3 "
                           "dimensions")
    return found


def _positions(node: OnnxNode, at: int, floats: Floats, shape: tuple[int, int]) -> np.ndarray | None:
    """Positions of each row of each batch (N, P), None if there are none."""
    if not node.input(at):
        return None
    found = floats.value(node.input(at))
    if found is None or found.dtype != np.int64:
        raise PearrayError(f"position_ids {node.input(at)!r} must be a constant of int64: a program has positions of "
                           "its own")
    if node.domain and found.size == 1:
        return np.broadcast_to(found.reshape(()) + np.arange(shape[1]), shape)
    if found.shape != shape:
        raise PearrayError(f"position_ids must have shape {shape}, not {found.shape}")
    return found


def _rows(table: np.ndarray, positions: np.ndarray | None, shape: tuple[int, int]) -> np.ndarray:
    """Row of a table for each position, of which all batches have the same: (P, R / 2)."""
    if positions is None:
        if table.ndim != 3 or table.shape[:2] != shape:
            raise PearrayError(f"cos_cache and sin_cache must have shape {shape} and a column for each pair without "
                               f"position_ids, not {table.shape}")
        rows = table
    else:
        if table.ndim != 2 or positions.min() < 0 or positions.max() >= len(table):
            raise PearrayError("cos_cache and sin_cache must have a row for each position up to "
                               f"{positions.max()}, not shape {table.shape}")
        rows = table[positions]
    if (rows != rows[:1]).any():
        raise PearrayError("all batches must have the same positions")
    return np.ascontiguousarray(rows[0])


@handles("RotaryEmbedding", domain=OWN)
def _rotate(node: OnnxNode, graph: Builder) -> None:
    """Add a rotation of heads, which stand side by side in tensors of three dimensions.

    Inputs are x, its scale and its zero point, cosines, sines, and the scale and the zero point of y.
    """
    given = node.attributes
    check_no_activation(node, "a rotation")
    tensor = graph.tensor(node.inputs[0])
    x = graph.quantisation(node, 1, "x", tensor.dtype, tensor.dtype)
    y = eight_bits(node, graph, 5)
    operator = RotaryEmbedding(one("x_scale", x.scale), x.zero_point, one("y_scale", y.scale), y.zero_point,
                               interleaved=given["interleaved"])
    shape, name = tuple(tensor.shape), tensor.name
    if len(shape) == 3:
        name = split_heads(node, graph, name, given["heads"])
    heads, made = graph.inner(tensor.name, "heads"), graph.inner(node.outputs[0], "turned")
    graph.add(node, Reshape((-1, *graph.tensor(name).shape[2:])), {"x": name}, heads)
    graph.add(node, operator, {"x": heads, "cos": node.inputs[3], "sin": node.inputs[4]}, made)
    if len(shape) == 4:
        graph.add(node, Reshape(shape), {"x": made})
        return
    join_heads(node, graph, made, given["heads"])
