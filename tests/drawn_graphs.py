"""Drawn graphs of operators on rows and heads, by what an accelerator must have for them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from attention_draws import drawn_attention
from norm_draws import drawn_norm, drawn_sum, norm_rows
from random_workloads import operands

import pearray as pe
from pearray.compiler.graph.graph import Graph
from pearray.golden.rotary import rotary_tables

__all__ = ["GRAPHS", "graphs_of"]


@dataclass(frozen=True)
class _Drawn:
    """A kind of graph that is drawn.

    Parameters
    ----------
    make : callable
        Returns a graph and its inputs, given a generator and a configuration.
    needs : tuple of str
        Properties of a configuration, all of which it must have, besides operands of 8 bits.
    """

    make: Callable[[np.random.Generator, Any], tuple[Graph, dict[str, np.ndarray]]]
    needs: tuple[str, ...] = ()


def _alone(operator, tensors, constants=None):
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


def attention(rng, config):
    """Fused attention of operands of any distribution, whose position a run gives now and then."""
    operator, tensors = drawn_attention(rng, config, _most_elements(config))
    if rng.integers(2):
        # Some rows all alike, or all extreme: maxima that stay, and that rise by as much as they can.
        tensors |= {name: norm_rows(rng, tensors[name].shape) for name in "qkv" if rng.integers(2)}
    spare = tensors["k"].shape[1] - tensors["q"].shape[1]
    alone = not operator.offset and operator.lengths is None and "mask" not in tensors
    if operator.causal and alone and spare >= 0 and rng.integers(4):
        tensors["position"] = np.array(rng.integers(spare + 1))
    return _alone(operator, tensors)


def _norm(rng, centred):
    while True:
        operator, tensors = drawn_norm(rng)
        if operator.centred == centred:
            return _alone(operator, tensors)


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
    return _alone(operator, tensors)


def append(rng, config):
    """Rows that are written between others, at a position that a run gives."""
    kind = np.dtype(rng.choice([np.int8, np.uint8]))
    heads, rows, elements = (int(size) for size in rng.integers(1, [4, 6, 30]))
    offset, spare, behind = rng.integers(0, [4, 12, 4]).tolist()
    tensors = {"past": operands(rng, (heads, offset + rows + spare + behind, elements), kind),
               "x": operands(rng, (heads, rows, elements), kind)}
    if rng.integers(4):
        tensors["position"] = np.array(rng.integers(spare + behind + 1))
    return _alone(pe.Append(offset=offset), tensors)


#: Kinds of graphs by name. Those that need nothing are for any accelerator with operands of 8 bits.
GRAPHS = {
    "append": _Drawn(append),
    "attention": _Drawn(attention, ("has_softmax", "has_moves")),
    "layer_norm": _Drawn(layer_norm, ("has_norms",)),
    "normed_sum": _Drawn(normed_sum, ("has_norms", "has_pairs")),
    "rms_norm": _Drawn(rms_norm, ("has_norms",)),
    "rotary": _Drawn(rotary),
}


def graphs_of(config):
    """Makers of graphs that an accelerator has all functions for, by name."""
    if config.array.operand_bits != 8:
        return {}
    return {name: drawn.make for name, drawn in GRAPHS.items() if all(getattr(config, need) for need in drawn.needs)}
