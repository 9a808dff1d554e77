"""Attention in ONNX networks: an operator of its own, or spelled out in two products and a Softmax (:mod:`.fusion`).

All become one node of fused attention on stored integers, whose scores stay on chip.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from ....hdl.errors import PearrayError
from ...operators import Attention, Reshape, Transpose
from .builder import MICROSOFT, OWN, Builder, OnnxNode, handles, one
from .fusion import SPELLED

__all__ = ["OPERATORS", "Stored", "is_attention", "stored_attention"]

#: Names of a stored tensor, its scale and its zero point.
Stored = tuple[str, str, str]

#: Inputs that operators of attention have behind q, k and v, by place: of some the one that is a mask.
_OTHERS = {("", "Attention"): {3: "attn_mask", 4: "past_key", 5: "past_value", 6: "nonpad_kv_seqlen"},
           (MICROSOFT, "MultiHeadAttention"): {
               3: "bias", 4: "key_padding_mask", 5: "attention_bias", 6: "past_key", 7: "past_value",
               8: "past_sequence_length", 9: "cache_indirection"}}
_MASKS = ("attn_mask", "attention_bias")

_ROLES = ("q", "k", "v")

#: Operators that are attention.
OPERATORS = tuple(kind for _, kind in _OTHERS)


def is_attention(node: OnnxNode) -> bool:
    """Whether a node is attention: an operator, or products and a Softmax that stand for one."""
    return (node.domain, node.op_type) in _OTHERS or (node.domain, node.op_type) == SPELLED


def stored_attention(node: OnnxNode, graph: Builder, stored: Callable[[str], Stored | None],
                     value: Callable[[str], np.ndarray | None]) -> OnnxNode:
    """Operator on stored integers that a node of attention stands for, without the scale of its result.

    Parameters
    ----------
    node, graph
        A node that :func:`is_attention`, and the graph under construction.
    stored : callable
        Stored form of a float tensor by name, or None.
    value : callable
        Value of a constant tensor, dequantised where it is stored, or None.

    Raises
    ------
    PearrayError
        If an operand is not quantised, a mask or a factor no constant, or an attribute or input is not supported.
    """
    find = _spelled_out if (node.domain, node.op_type) == SPELLED else _operator
    names, form, scale, mask = find(node, graph, value)
    inputs: list[str] = []
    for role, name in zip(_ROLES, names, strict=True):
        found = name if isinstance(name, tuple) else stored(name)
        if found is None:
            raise PearrayError(f"{role} {name!r} must come from DequantizeLinear")
        inputs += found
    if mask is not None:
        form["mask"] = graph.store(f"{node.outputs[0]}:mask", mask)
    return node.standing_for("Attention", inputs, node.outputs, form | {"scale": scale}, OWN)


def _spelled_out(node: OnnxNode, graph: Builder, value: Callable[[str], np.ndarray | None]) -> tuple[
        list[Any], dict[str, Any], float, np.ndarray | None]:
    """Operands, form, factor and mask of attention that is spelled out; scores are scaled and masked in any order."""
    qk, av, axis = (node.attributes[name] for name in ("qk", "av", "axis"))
    scale, mask = np.float64(1), None
    for kind, step, index in node.attributes["steps"]:
        found = _number(step, index, graph, value)
        if kind == "plus":
            # What scales the scores later scales the mask.
            mask = found if mask is None else mask + found
            continue
        if found.size != 1 or not np.isfinite(found).all() or found.item() <= 0:
            raise PearrayError(f"factor of scores must be one number above 0, not {found.tolist()}")
        factor = np.float64(found.item()) if kind == "times" else 1 / np.float64(found.item())
        scale, mask = scale * factor, None if mask is None else (mask * factor).astype(np.float32)
    names = [_operand(qk, 0), _operand(qk, 1), _operand(av, 1)]
    return names, {"transposed": True, "axis": axis}, float(scale), mask


def _operand(node: OnnxNode, index: int) -> str | Stored:
    """Operand of a product: the name of a float tensor, or a stored one with scale and zero point."""
    if node.op_type == "MatMul":
        return node.inputs[index]
    first = 3 * index
    return node.inputs[first], node.inputs[first + 1], node.inputs[first + 2]


def _number(node: OnnxNode, index: int, graph: Builder, value: Callable[[str], np.ndarray | None]) -> np.ndarray:
    """Constant operand of a step between the products, as real numbers."""
    if node.domain == MICROSOFT:
        stored, scale, zero = (graph.constant(node, 3 * index + part, what)
                               for part, what in enumerate(("operand", "scale", "zero point")))
        return ((stored.astype(np.float64) - zero) * scale).astype(np.float32)
    found = value(node.inputs[index])
    if found is None:
        raise PearrayError(f"{node.inputs[index]!r}, which meets the scores, must be a constant")
    return found


def _operator(node: OnnxNode, graph: Builder, value: Callable[[str], np.ndarray | None]) -> tuple[
        list[Any], dict[str, Any], float | None, np.ndarray | None]:
    """Operands, form, factor and mask of an operator of attention."""
    mask = None
    for place, what in _OTHERS[node.domain, node.op_type].items():
        name = node.input(place)
        if not name:
            continue
        if what not in _MASKS:
            raise PearrayError(f"input {what} = {name!r} is not supported; q, k, v and {' or '.join(_MASKS)} are")
        mask = value(name)
        if mask is None:
            raise PearrayError(f"{what} {name!r} must be a constant")
    if any(node.outputs[1:]):
        raise PearrayError(f"output {next(filter(None, node.outputs[1:]))!r} is not supported; only the first one is")
    if len(node.inputs) < 3 or not all(node.inputs[:3]):
        raise PearrayError("q, k and v must all be given")
    if node.domain == MICROSOFT:
        taken = node.take(num_heads=0, mask_filter_value=-1e4, scale=0.0, unidirectional=0)
        heads = taken["num_heads"], taken["num_heads"]
        causal = bool(taken["unidirectional"])
    else:
        taken = node.take(is_causal=0, q_num_heads=0, kv_num_heads=0, qk_matmul_output_mode=0, scale=0.0, softcap=0.0,
                          softmax_precision=0)
        heads, causal = (taken["q_num_heads"], taken["kv_num_heads"]), bool(taken["is_causal"])
        if taken["softcap"]:
            raise PearrayError(f"softcap must be 0, not {taken['softcap']}")
    return list(node.inputs[:3]), {"heads": heads, "causal": causal}, taken["scale"] or None, mask


@handles("Attention", domain=OWN)
def _attention(node: OnnxNode, graph: Builder) -> None:
    given = node.attributes
    if given.get("activation") is not None:
        raise PearrayError("no Relu or Clip may follow attention directly: put QuantizeLinear and DequantizeLinear "
                           "between")
    y = graph.quantisation(node, 9, "y")
    scales: dict[str, Any] = {}
    for index, role in enumerate((*_ROLES, "y")):
        dtype = graph.tensor(node.inputs[3 * index]).dtype if role != "y" else None
        found = y if role == "y" else graph.quantisation(node, 3 * index + 1, role, dtype, dtype)
        kind = np.asarray(found.zero_point).dtype
        if kind != np.int8 or np.any(found.zero_point):
            raise PearrayError(f"{role}_zero_point must be 0 of int8 for fused attention, not {found.zero_point} of "
                               f"{kind}: quantise with QInt8 and ActivationSymmetric")
        scales[f"{role}_scale"] = one(f"{role}_scale", found.scale)
    names = [_heads(node, graph, role, node.inputs[3 * index]) for index, role in enumerate(_ROLES)]
    shape = graph.tensor(node.inputs[0]).shape
    inputs = dict(zip(_ROLES, names, strict=True))
    if "mask" in given:
        inputs["mask"] = _mask(graph, given["mask"], shape)
    result = graph.inner(node.outputs[0], "heads")
    operator = Attention(**scales, scale=given["scale"], causal=given.get("causal", False))
    graph.add(node, operator, inputs, result)
    made = graph.tensor(result).shape
    if len(shape) == 4 or given.get("transposed"):
        graph.add(node, Reshape((*shape[:-1], made[2])), {"x": result}, bounds=y.clamp)
        return
    heads = given["heads"][0]
    apart, beside = (graph.inner(node.outputs[0], what) for what in ("apart", "beside"))
    graph.add(node, Reshape((shape[0], heads, shape[1], made[2])), {"x": result}, apart)
    graph.add(node, Transpose((0, 2, 1, 3)), {"x": apart}, beside)
    graph.add(node, Reshape((*shape[:2], heads * made[2])), {"x": beside}, bounds=y.clamp)


def _heads(node: OnnxNode, graph: Builder, role: str, name: str) -> str:
    """Operand as (heads, rows, elements), all batches one after another."""
    given, shape = node.attributes, graph.tensor(name).shape
    rank = len(shape)
    if given.get("transposed"):
        if rank < 2 or rank > 4:
            raise PearrayError(f"{role} must have 2 to 4 dimensions, not shape {shape}")
        if given["axis"] not in (-1, rank - 1):
            raise PearrayError(f"axis of Softmax must be the last of {rank}, not {given['axis']}")
        if role == "k":
            rows = graph.inner(name, "keys")
            graph.add(node, Transpose((*range(rank - 2), rank - 1, rank - 2)), {"x": name}, rows)
            name, shape = rows, graph.tensor(rows).shape
    elif rank == 3:
        heads = given["heads"][role != "q"]
        if heads < 1 or shape[2] % heads:
            raise PearrayError(f"heads of {role} must be a number that divides {shape[2]}, not {heads}")
        split, apart = (graph.inner(name, what) for what in ("split", "apart"))
        graph.add(node, Reshape((*shape[:2], heads, shape[2] // heads)), {"x": name}, split)
        graph.add(node, Transpose((0, 2, 1, 3)), {"x": split}, apart)
        name, shape = apart, graph.tensor(apart).shape
    elif rank != 4:
        raise PearrayError(f"{role} must have 3 or 4 dimensions, not shape {shape}")
    if len(shape) == 3:
        return name
    result = graph.inner(name, role)
    graph.add(node, Reshape((-1, *shape[-2:])), {"x": name}, result)
    return result


def _mask(graph: Builder, name: str, shape: tuple[int, ...]) -> str:
    """Mask, of up to four dimensions, as attention takes it; alike for all batches."""
    value = graph.constants[name]
    if value.ndim < 4:
        return name
    if value.ndim > 4 or value.shape[0] != 1:
        raise PearrayError(f"mask must be alike for all batches, not of shape {value.shape}")
    own = value[0]
    if own.shape[0] > 1 and len(shape) == 4:
        own = np.tile(own, (shape[0], 1, 1))
    return graph.store(f"{name}:heads", np.ascontiguousarray(own))
