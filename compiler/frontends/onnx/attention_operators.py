"""Operators of attention in ONNX networks: what their inputs and attributes ask for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ....hdl.errors import PearrayError
from .attention_masks import Known, Term, hidden_behind, lengthened, near, padding, seen_up_to, stored_mask
from .builder import MICROSOFT, OnnxNode
from .floats import check_first_output

__all__ = ["OPERATORS", "Asked", "asked"]


class Asked(NamedTuple):
    """What a node asks for.

    Members
    -------
    names : list of str
        Queries, keys and values.
    form : dict
        Heads of queries and of keys, numbers of dimensions that operands may have, what each query sees.
    scale : float or None
        Factor of the scores, if it is given.
    mask : str or None
        Name of what is added to them, or whether a query sees a key.
    """

    names: list[Any]
    form: dict[str, Any]
    scale: float | None
    mask: str | None


@dataclass(frozen=True)
class _Operator:
    """An operator of attention, whose first inputs are q, k and v.

    Parameters
    ----------
    others : mapping of int to str
        Inputs behind these, by place.
    attributes : mapping of str
        Attributes, with their defaults.
    allowed : mapping of str to tuple
        Values of those that must not have any.
    form : callable
        Form, from these values, the node and what is known of tensors.
    """

    others: Mapping[int, str]
    attributes: Mapping[str, Any]
    form: Callable[[dict[str, Any], OnnxNode, Known], dict[str, Any]]
    allowed: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)


_MASKS = ("attn_mask", "attention_bias", "key_padding_mask", "nonpad_kv_seqlen")

#: Place of the numbers of keys among the inputs of the standard's operator.
_LENGTHS = 6

#: Operator set from which on the standard's mask may have fewer keys than there are.
_MAY_BE_SHORT = 24

#: Inputs that are no tensor of scores, and that a form reads.
_READ = ("seqlens_k", "total_sequence_length", "cos_cache", "sin_cache")


def _standard(taken: dict[str, Any], node: OnnxNode, known: Known) -> dict[str, Any]:
    # Where batches have lengths of their own, so has the diagonal, which is part of the mask then.
    return {"heads": (taken["q_num_heads"], taken["kv_num_heads"]), "ranks": (3, 4), "last_sees_all": False,
            "causal": bool(taken["is_causal"]) and not node.input(_LENGTHS)}


def _near(node: OnnxNode, taken: Mapping[str, Any], known: Known) -> list[Term]:
    """Mask of the standard's operator: keys that causality and windows show each query.

    Queries are the last of the keys that a batch has, or begin with the first key if that is not told.
    """
    left, right = taken["left_window_size"], taken["right_window_size"]
    for name, size in (("left_window_size", left), ("right_window_size", right)):
        if size < -1:
            raise PearrayError(f"{name} must be at least -1, not {size}")
    lengths = node.input(_LENGTHS)
    if taken["is_causal"] and lengths and right != 0:
        right = 0
    if left == right == -1:
        return []
    queries, keys = (known.rows(node, place) for place in (0, 1))
    if not lengths:
        return [Term("", near(np.array([queries]), queries, keys, left, right)[0, 0])]
    return [known.term("nonpad_kv_seqlen", lengths, partial(near, queries=queries, keys=keys, left=left, right=right))]


def _multi_head(taken: dict[str, Any], node: OnnxNode, known: Known) -> dict[str, Any]:
    # Of fewer queries than keys, onnxruntime lets the last query alone see all keys.
    return {"heads": (taken["num_heads"],) * 2, "causal": bool(taken["unidirectional"]), "ranks": (3,),
            "last_sees_all": True}


def _grouped(taken: dict[str, Any], node: OnnxNode, known: Known) -> dict[str, Any]:
    window = taken["local_window_size"]
    if window != -1 and (window < 1 or not taken["causal"]):
        raise PearrayError(f"local_window_size must be -1, or at least 1 and causal 1, not {window}")
    lengths, total = (known.value(node.input(place)) for place in (5, 6))
    is_given = lengths is None and node.input(5) in known.graph.given
    if total is None or total.dtype != np.int32 or not (is_given or lengths is not None) or (
            known.typed(node.input(5))[1] != np.int32):
        raise PearrayError("total_sequence_length must be a constant of int32, and seqlens_k that or what follows from "
                           "inputs of the network")
    heads = taken["num_heads"], taken["kv_num_heads"]
    return {"heads": heads, "causal": bool(taken["causal"]), "ranks": (3,), "last_sees_all": True,
            "window": None if window == -1 else window, "total": int(total.reshape(-1)[0]),
            "lengths": None if lengths is None else [int(last) + 1 for last in lengths.reshape(-1)],
            "batches": prod(known.typed(node.input(5))[0]),
            "tables": [_table(node, place, known) for place in (7, 8)] if taken["do_rotary"] else None,
            "interleaved": bool(taken["rotary_interleaved"])}


def _table(node: OnnxNode, place: int, known: Known) -> np.ndarray:
    """Cosines or sines of angles (positions, R / 2)."""
    found = known.value(node.input(place))
    if found is None or found.dtype != np.float32 or found.ndim != 2:
        raise PearrayError("cos_cache and sin_cache must be constants of float32 with 2 dimensions where do_rotary is "
                           "1")
    return found


_OPERATORS: dict[tuple[str, str], _Operator] = {
    ("", "Attention"): _Operator(
        {3: "attn_mask", 4: "past_key", 5: "past_value", _LENGTHS: "nonpad_kv_seqlen"},
        {"is_causal": 0, "q_num_heads": 0, "kv_num_heads": 0, "left_window_size": -1, "qk_matmul_output_mode": 0,
         "right_window_size": -1, "scale": 0.0, "softcap": 0.0, "softmax_precision": 0}, _standard,
        # No limits of scores, and the types of Softmax that there are.
        {"softcap": (0,), "is_causal": (0, 1), "qk_matmul_output_mode": (0, 1, 2, 3),
         "softmax_precision": (0, 1, 10, 11, 16)}),
    (MICROSOFT, "MultiHeadAttention"): _Operator(
        {3: "bias", 4: "key_padding_mask", 5: "attention_bias", 6: "past_key", 7: "past_value",
         8: "past_sequence_length", 9: "cache_indirection"},
        {"num_heads": 0, "mask_filter_value": -1e4, "scale": 0.0, "unidirectional": 0}, _multi_head),
    (MICROSOFT, "GroupQueryAttention"): _Operator(
        {3: "past_key", 4: "past_value", 5: "seqlens_k", 6: "total_sequence_length", 7: "cos_cache", 8: "sin_cache",
         9: "position_ids", 10: "attention_bias", 11: "head_sink", 12: "k_scale", 13: "v_scale", 14: "q_norm_weight",
         15: "k_norm_weight", 16: "query_seqlens"},
        {"num_heads": 0, "kv_num_heads": 0, "causal": 1, "do_rotary": 0, "local_window_size": -1, "qk_output": 0,
         "rotary_interleaved": 0, "scale": 0.0, "smooth_softmax": 0, "softcap": 0.0}, _grouped,
        {"causal": (0, 1), "do_rotary": (0, 1), "qk_output": (0,), "smooth_softmax": (0, -1), "softcap": (0,)}),
}

#: Operators that are attention, with their domains.
OPERATORS = tuple(_OPERATORS)


def asked(node: OnnxNode, known: Known) -> Asked:
    """What a node of one of :data:`OPERATORS` asks for.

    Raises
    ------
    PearrayError
        If an attribute, an input or an output is not supported.
    """
    operator = _OPERATORS[node.domain, node.op_type]
    terms = _terms(node, operator, known)
    check_first_output(node)
    if len(node.inputs) < 3 or not all(node.inputs[:3]):
        raise PearrayError("q, k and v must all be given")
    taken = node.take(**operator.attributes)
    for name, allowed in operator.allowed.items():
        if taken[name] not in allowed:
            raise PearrayError(f"{name} must be {' or '.join(map(str, allowed))}, not {taken[name]}")
    if "scale" in node.attributes and not taken["scale"] > 0:
        raise PearrayError(f"scale must be above 0, not {taken['scale']}")
    form = operator.form(taken, node, known)
    if not node.domain:
        terms += _near(node, taken, known)
    mask = stored_mask(known.graph, node, terms) if terms else None
    return Asked(list(node.inputs[:3]), form, taken["scale"] or None, mask)


def _terms(node: OnnxNode, operator: _Operator, known: Known) -> list[Term]:
    """What is added to the scores of a node, after checking that it has no other input that is not supported."""
    terms = []
    for place, what in operator.others.items():
        name = node.input(place)
        if not name or (what in _READ and (what != "seqlens_k" or known.value(name) is not None)):
            continue
        if what == "seqlens_k":
            if name in known.graph.given:
                terms.append(known.term(what, name, partial(seen_up_to, keys=known.rows(node, 1))))
            continue
        if what not in _MASKS:
            raise PearrayError(f"input {what} = {name!r} is not supported; q, k, v and {', '.join(_MASKS)} are")
        terms.append(known.term(what, name, _change(node, what, name, known)))
    return terms


def _change(node: OnnxNode, what: str, name: str, known: Known) -> Callable[[np.ndarray], np.ndarray] | None:
    """What an input becomes before it is added to scores; None for itself."""
    if what not in ("key_padding_mask", "nonpad_kv_seqlen"):
        if node.domain == MICROSOFT and known.value(name) is not None and len(known.typed(name)[0]) != 4:
            raise PearrayError(f"{what} must have 4 dimensions, not shape {known.typed(name)[0]}")
        known.term(what, name)
        shape, keys = known.typed(name)[0], known.rows(node, 1)
        is_short = shape[-1:] < (keys,) and known.graph.opsets.get("", 0) >= _MAY_BE_SHORT
        return partial(lengthened, keys=keys) if is_short and not node.domain else None
    known.term(what, name)
    keys, batches = known.rows(node, 1), known.graph.tensor(known.floats.operand("k", node.inputs[1])[0]).shape[0]
    (shape, dtype), is_padding = known.typed(name), what == "key_padding_mask"
    allowed = [(batches,), (batches, keys)][:1 + is_padding]
    if shape not in allowed or dtype != (np.int32 if is_padding else np.int64):
        raise PearrayError(f"{what} must be of {'int32' if is_padding else 'int64'} and shape "
                           f"{' or '.join(map(str, allowed))}, not {dtype} of shape {shape}")
    if not is_padding:
        return partial(hidden_behind, keys=keys)
    return partial(padding, keys=keys, value=node.attributes.get("mask_filter_value", -1e4))
