"""Attention in ONNX networks: an operator of its own, or spelled out in two products and a Softmax (:mod:`.fusion`).

All become one node of fused attention on stored integers, whose scores stay on chip.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ....hdl.errors import PearrayError
from ...operators import Attention, Reshape, RotaryEmbedding, Transpose
from .attention_masks import Known, Term, of_heads, stored_mask
from .attention_operators import OPERATORS as KNOWN
from .attention_operators import Asked, asked
from .between import check_between
from .builder import MICROSOFT, OWN, Builder, OnnxNode, handles, one
from .floats import Floats, Stored, check_no_activation
from .fusion import SPELLED
from .heads import join_heads, split_heads

__all__ = ["OPERATORS", "is_attention", "met_by_scores", "stored_attention"]

_ROLES = ("q", "k", "v")

#: Names of operators that are attention.
OPERATORS = tuple(kind for _, kind in KNOWN)


def is_attention(node: OnnxNode) -> bool:
    """Whether a node is attention: an operator, or products and a Softmax that stand for one."""
    return (node.domain, node.op_type) in KNOWN or (node.domain, node.op_type) == SPELLED


def met_by_scores(node: OnnxNode) -> list[str]:
    """Names of what scores of a node of attention may meet: masks and what they follow from."""
    if (node.domain, node.op_type) == SPELLED:
        return [step.input(_place(step, index)) for _, step, index in node.attributes["steps"]]
    return [name for name in node.inputs[3:] if name]


def stored_attention(node: OnnxNode, graph: Builder, floats: Floats) -> OnnxNode:
    """Operator on stored integers that a node of attention stands for, without the scale of its result.

    Parameters
    ----------
    node, graph
        A node that :func:`is_attention`, and the graph under construction.
    floats : Floats
        Float tensors before the node.

    Raises
    ------
    PearrayError
        If an operand is not quantised, a factor no constant, a mask neither that nor given by runs, or an attribute or
        input is not supported.
    """
    is_spelled, known = (node.domain, node.op_type) == SPELLED, Known(floats, graph)
    names, form, scale, mask = _spelled_out(node, known) if is_spelled else asked(node, known)
    inputs: list[str] = []
    for role, name in zip(_ROLES, names, strict=True):
        inputs += name if isinstance(name, tuple) else floats.operand(role, name)
    if mask is not None:
        form["mask"] = mask
    return node.standing_for("Attention", inputs, node.outputs, form | {"scale": scale}, OWN)


def _spelled_out(node: OnnxNode, known: Known) -> Asked:
    """Operands, form, factor and mask of attention that is spelled out; scores are scaled and masked in any order."""
    qk, av, axis = (node.attributes[name] for name in ("qk", "av", "axis"))
    check_between(node.attributes["between"], known.graph)
    scale, rank, terms = np.float64(1), 0, []
    #: Factor of the scores behind each term.
    factors: list[np.float64] = []
    for kind, step, index in node.attributes["steps"]:
        if kind == "plus":
            terms.append(_term(step, index, known))
            factors.append(np.float64(1))
            value = terms[-1].value
            rank = max(rank, len(known.graph.tensor(terms[-1].name).shape) if value is None else value.ndim)
            continue
        found = _number(step, index, known)
        if found is None:
            raise PearrayError(f"{step.input(_place(step, index))!r}, which meets the scores, must be a constant")
        rank = max(rank, found.ndim)
        if found.size != 1 or not np.isfinite(found).all() or found.item() <= 0:
            raise PearrayError(f"factor of scores must be one number above 0, not {found.tolist()}")
        factor = np.float64(found.item()) if kind == "times" else 1 / np.float64(found.item())
        with np.errstate(over="ignore"):
            scale = scale * factor
            factors = [each * factor for each in factors]
    names = [_operand(qk, 0), _operand(qk, 1), _operand(av, 1)]
    mask = stored_mask(known.graph, node, _scaled(terms, factors)) if terms else None
    return Asked(names, {"transposed": True, "axis": axis, "rank": rank}, float(scale), mask)


def _scaled(terms: Sequence[Term], factors: Sequence[np.float64]) -> list[Term]:
    """Terms of a mask, scaled as the scores are behind them."""
    def scaling(factor: np.float64) -> Callable[[np.ndarray], np.ndarray]:
        def scaled(value: np.ndarray) -> np.ndarray:
            with np.errstate(over="ignore"):
                return (value * factor).astype(np.float32)
        return scaled

    return [term if factor == 1 else term._replace(change=scaling(factor))
            for term, factor in zip(terms, factors, strict=True)]


def _place(node: OnnxNode, index: int) -> int:
    """Place of an operand among the inputs of a step, where each may have a scale and a zero point."""
    return 3 * index if node.domain == MICROSOFT else index


def _term(node: OnnxNode, index: int, known: Known) -> Term:
    """Operand that is added to scores: a constant, or what a run gives."""
    value = _number(node, index, known)
    if value is not None:
        return Term("", value)
    return known.term("mask", node.input(_place(node, index)))


def _operand(node: OnnxNode, index: int) -> str | Stored:
    """Operand of a product: the name of a float tensor, or a stored one with scale and zero point."""
    if node.op_type == "MatMul":
        return node.inputs[index]
    first = 3 * index
    return node.inputs[first], node.inputs[first + 1], node.inputs[first + 2]


def _number(node: OnnxNode, index: int, known: Known) -> np.ndarray | None:
    """Constant operand of a step between the products, as real numbers; None if a run gives it."""
    if node.domain == MICROSOFT and node.input(3 * index) in known.graph.given:
        return None
    if node.domain == MICROSOFT:
        stored = known.graph.constant(node, 3 * index, "operand")
        scale, zero = known.graph.quantisation(node, 3 * index + 1, "operand", stored.dtype, stored.dtype)[:2]
        return ((stored.astype(np.float64) - zero) * scale).astype(np.float32)
    return known.value(node.inputs[index])


@handles("Attention", domain=OWN)
def _attention(node: OnnxNode, graph: Builder) -> None:
    given = node.attributes
    check_no_activation(node, "attention")
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
    shapes = [graph.tensor(node.inputs[3 * index]).shape for index in range(3)]
    scores = _scores(given, *shapes)
    names = [_heads(node, graph, role, node.inputs[3 * index]) for index, role in enumerate(_ROLES)]
    if given.get("tables"):
        for index, role in enumerate("qk"):
            names[index], scales[f"{role}_scale"] = _turned(node, graph, names[index], scales[f"{role}_scale"])
    shape = shapes[0]
    inputs = dict(zip(_ROLES, names, strict=True))
    if "mask" in given:
        inputs["mask"] = of_heads(node, graph, given["mask"], scores)
    result = graph.inner(node.outputs[0], "heads")
    operator = Attention(**scales, scale=given["scale"], causal=given.get("causal", False), window=given.get("window"),
                         lengths=_lengths(given, shapes[0], shapes[1]))
    graph.add(node, operator, inputs, result)
    made = graph.tensor(result).shape
    if len(shape) == 4 or given.get("transposed"):
        graph.add(node, Reshape((*shape[:-1], made[2])), {"x": result}, bounds=y.clamp)
        return
    join_heads(node, graph, result, given["heads"][0], y.clamp)


def _turned(node: OnnxNode, graph: Builder, name: str, scale: float) -> tuple[str, float]:
    """Rows of heads turned by the angles of their places, and their scale, whose steps hold every pair."""
    given, rows = node.attributes, graph.tensor(name).shape[1]
    tables = {role: graph.store(f"{name}:{role}", np.ascontiguousarray(table[:rows]))
              for role, table in zip(("cos", "sin"), given["tables"], strict=True)}
    made, wide = graph.inner(name, "turned"), float(np.float32(scale * 2 ** 0.5))
    operator = RotaryEmbedding(scale, np.int8(0), wide, np.int8(0), interleaved=given["interleaved"])
    graph.add(node, operator, {"x": name, **tables}, made)
    return made, wide


def _lengths(given: Mapping[str, Any], q: tuple[int, ...], k: tuple[int, ...]) -> list[int] | None:
    """Keys of each head of all batches, if the node tells those of each batch; all of k is then what it has seen."""
    if "batches" not in given:
        return None
    lengths, batches = given["lengths"], given["batches"]
    if batches != q[0] or given["total"] != k[1] or q[1] != k[1]:
        raise PearrayError(f"seqlens_k must be one for each of {q[0]} batches, and total_sequence_length = queries = "
                           f"keys, as before the first token, not {batches}, {given['total']}, {q[1]} and {k[1]}")
    return None if lengths is None else [length for length in lengths for _ in range(given["heads"][0])]


def _scores(given: Mapping[str, Any], q: tuple[int, ...], k: tuple[int, ...], v: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of the scores: all leading dimensions, queries, keys.

    Raises
    ------
    PearrayError
        If q, k and v do not belong together, or something would have to be repeated for dimensions of another.
    """
    if given.get("transposed"):
        if not 2 <= len(q) == len(k) == len(v) <= 4 or not q[:-2] == k[:-2] == v[:-2]:
            raise PearrayError(f"q, k and v of two products and a Softmax must have the same 2 to 4 dimensions but for "
                               f"the last two, not shapes {q}, {k} and {v}")
        if given["rank"] > len(q):
            raise PearrayError(f"what meets the scores must have at most {len(q)} dimensions, not {given['rank']}")
        return *q[:-1], k[-1]
    if not len(q) == len(k) == len(v) or len(q) not in given["ranks"] or not q[0] == k[0] == v[0]:
        ranks = " or ".join(map(str, given["ranks"]))
        raise PearrayError(f"q, k and v must have the same batch and {ranks} dimensions, not shapes {q}, {k} and {v}")
    heads = given["heads"][0]
    if len(q) == 4 and any(given["heads"]):
        raise PearrayError("q_num_heads and kv_num_heads are for operands of 3 dimensions")
    if given["last_sees_all"] and given["causal"] and q[-2] < k[-2]:
        raise PearrayError(f"unidirectional attention of fewer queries than keys is not supported: {q[-2]} and {k[-2]}")
    return (*q[:-1], k[-2]) if len(q) == 4 else (q[0], heads, q[1], k[1])


def _heads(node: OnnxNode, graph: Builder, role: str, name: str) -> str:
    """Operand as (heads, rows, elements), all batches one after another."""
    given, shape = node.attributes, graph.tensor(name).shape
    rank = len(shape)
    if given.get("transposed"):
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
        name = split_heads(node, graph, name, heads)
        shape = graph.tensor(name).shape
    if len(shape) == 3:
        return name
    result = graph.inner(name, role)
    graph.add(node, Reshape((-1, *shape[-2:])), {"x": name}, result)
    return result
