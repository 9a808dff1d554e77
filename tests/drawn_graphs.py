"""Drawn graphs of operators on rows and heads, by what an accelerator must have for them."""

from dataclasses import replace

import numpy as np
from attention_draws import drawn_attention, drawn_masks
from attention_errors import DIRECTED, directed, normal, scores_of
from multi_head_draws import drawn_multi_head
from norm_draws import drawn_norm, drawn_sum, norm_rows
from random_workloads import operands

import pearray as pe
from pearray.compiler.graph.graph import Graph
from pearray.golden.rotary import rotary_tables

__all__ = [
    "alone", "append", "attention", "layer_norm", "masked_attention", "multi_head", "normed_sum", "rms_norm", "rotary",
    "spread_attention",
]


def alone(operator, tensors, constants=None):
    """Graph of one operator, and its inputs."""
    graph = Graph.of(operator, tensors, constants)
    return graph, {name: tensors[name] for name in graph.inputs}


def _most_elements(config):
    """Elements of a query and of a value of which a systolic array can surely hold a block."""
    pads, cols = config.scratchpads, config.array.cols
    if config.KIND != "systolic":
        return None
    keys_and_values = (pads.weight_bytes - 2 * config.beat_bytes) // cols - 1
    tiles = min((pads.output_bytes - config.post.lanes * config.sum_bytes) // cols, config.accumulators.depth)
    return max(1, min(keys_and_values // 2, tiles * cols))


def _attention(rng, config):
    return drawn_attention(rng, config, _most_elements(config))


def attention(rng, config):
    """Fused attention with any constant mask, whose position a run gives now and then."""
    operator, tensors = _attention(rng, config)
    if rng.integers(2):
        # Some rows all alike, or all extreme: maxima that stay, and that rise by as much as they can.
        tensors |= {name: norm_rows(rng, tensors[name].shape) for name in "qkv" if rng.integers(2)}
    spare = tensors["k"].shape[1] - tensors["q"].shape[1]
    plain = not operator.offset and operator.lengths is None and "mask" not in tensors
    if operator.causal and plain and spare >= 0 and rng.integers(4):
        tensors["position"] = np.array(rng.integers(spare + 1))
    return alone(operator, tensors)


def masked_attention(rng, config):
    """Fused attention whose mask a run gives: of any type, of rows of keys or of each query, of some heads."""
    operator, tensors = _attention(rng, config)
    (heads, queries, _), keys = tensors["q"].shape, tensors["k"].shape[1]
    (tensors["mask"],) = drawn_masks(rng, heads, queries, keys, 1)
    return alone(replace(operator, lengths=None), tensors, ())


def spread_attention(rng, config):
    """Fused attention of scores of some distribution: of N(0, 1), peaked, level, rising, and beyond all limits."""
    operator, tensors = _attention(rng, config)
    name = str(rng.choice(["N(0, 1)", *DIRECTED]))
    if name == "N(0, 1)":
        return alone(operator, tensors | {role: normal(rng, tensors[role].shape) for role in "qkv"})
    (heads, rows, elements), (groups, keys, _) = tensors["q"].shape, tensors["k"].shape
    made = [directed(rng, scores_of(name, keys, rng), heads // groups * rows, elements) for _ in range(groups)]
    q, k = (np.stack(each) for each in zip(*((q, k) for q, k, _ in made), strict=True))
    tensors |= {"q": q.reshape(heads, rows, elements), "k": k}
    return alone(replace(operator, q_scale=max(unit for *_, unit in made), k_scale=1.0, scale=1.0), tensors)


def multi_head(rng, config):
    """Attention with its projections."""
    return alone(*drawn_multi_head(rng, config))


def _norm(rng, centred):
    while True:
        operator, tensors = drawn_norm(rng)
        if operator.centred == centred:
            return alone(operator, tensors)


def layer_norm(rng, config):
    """LayerNorm of rows."""
    return _norm(rng, True)


def rms_norm(rng, config):
    """RMSNorm of rows."""
    return _norm(rng, False)


def normed_sum(rng, config):
    """LayerNorm or RMSNorm of the rows of a sum or difference."""
    return drawn_sum(rng)


def rotary(rng, config):
    """Rotary embedding of heads, with elements behind those that are turned or none, at a position that a run gives."""
    kind, heads, rows = np.dtype(rng.choice([np.int8, np.uint8])), int(rng.integers(1, 4)), int(rng.integers(1, 6))
    elements, offset, spare = int(rng.integers(2, 20)), int(rng.integers(0, 4)), int(rng.integers(0, 5))
    turned = elements // 2 * 2 if rng.integers(2) else 2 * int(rng.integers(1, elements // 2 + 1))
    cos, sin = rotary_tables(offset + rows + spare, turned)
    x_point, y_point = operands(rng, (2,), kind)
    operator = pe.RotaryEmbedding(float(rng.uniform(0.05, 0.1)), int(x_point), float(rng.uniform(0.05, 0.2)), y_point,
                                  interleaved=bool(rng.integers(2)), offset=offset)
    tensors = {"x": operands(rng, (heads, rows, elements), kind), "cos": cos, "sin": sin}
    if rng.integers(4):
        tensors["position"] = np.array(rng.integers(spare + 1))
    return alone(operator, tensors)


def append(rng, config):
    """Rows that are written between others, at a position that a run gives."""
    kind = np.dtype(rng.choice([np.int8, np.uint8]))
    heads, rows, elements = (int(size) for size in rng.integers(1, [4, 6, 30]))
    offset, spare, behind = rng.integers(0, [4, 12, 4]).tolist()
    tensors = {"past": operands(rng, (heads, offset + rows + spare + behind, elements), kind),
               "x": operands(rng, (heads, rows, elements), kind)}
    if rng.integers(4):
        tensors["position"] = np.array(rng.integers(spare + behind + 1))
    return alone(pe.Append(offset=offset), tensors)
