"""The table of what random regressions draw: every operator that has a lowering, on every kind of array that has it."""

from collections import Counter

import numpy as np
import pytest
from draws import DRAWS, draw, draws_of, is_refusal
from kinds import KINDS, SMALL
from random_workloads import briefly

import pearray as pe
from pearray.compiler.compile import compile_graph
from pearray.compiler.graph.passes import run_passes
from pearray.compiler.graph.passes.array import for_array
from pearray.compiler.kernels.lowerings import LOWERINGS

#: What only the compiler makes, of several nodes, and from which draws.
FUSED = ("pooled", "normed_sum")


def _operators(graph):
    """Operators that an accelerator computes, as graphs have them when they are lowered."""
    return {type(node.operator) for node in graph.nodes if not node.on_host}


def _is_refused(graph, config):
    """Whether an array lacks what a graph needs, and not only the room."""
    try:
        compile_graph(graph, config, **briefly(config))
    except pe.PearrayError as error:
        return not is_refusal(error)
    return False


def test_every_lowering_is_drawn(rng):
    """A new operator that the table lacks would be in no sweep, and never be met by stalls under cocotb."""
    config, drawn = SMALL["moves"], set()
    names = draws_of(config)
    for name in names:
        for _ in range(6):
            graph, _ = draw(rng, config, name)
            drawn |= _operators(run_passes(for_array(graph, config.key_tile, config.score_columns)))
    for name in FUSED:
        for _ in range(12):
            graph, _ = draw(rng, config, name)
            drawn |= _operators(compile_graph(graph, config, effort=0).device)
    assert drawn == set(LOWERINGS)
    # Fixed point has operators of its own, and other arrays none that this has not.
    assert set(DRAWS) - set(names) == {name for name, drawn in DRAWS.items() if drawn.is_fixed_point}


@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
def test_what_is_left_out_is_refused(rng, kind):
    """An operator that an array can do would not be drawn on it: what it needs has changed, and the table has not."""
    config = kind.small
    assert draws_of(config)
    for name in DRAWS.keys() - set(draws_of(config)):
        # It is drawn for an array that can hold it.
        wide = SMALL["row-stationary-16" if DRAWS[name].is_fixed_point else "moves"]
        assert any(_is_refused(draw(rng, wide, name)[0], config) for _ in range(20)), name


def test_drawn_attention_has_every_form(seed):
    """A mask, a group of heads or a distribution that is never drawn would be in no sweep."""
    met = Counter()
    for number in range(150):
        for name in ("attention", "masked_attention", "spread_attention"):
            rng = np.random.default_rng([seed, number])
            graph, inputs = draw(rng, SMALL["moves"], name)
            (node,) = graph.nodes
            operator, q, k = node.operator, graph.tensors["q"].shape, graph.tensors["k"].shape
            met.update(form for form, is_met in {
                "causal": operator.causal, "window": operator.window is not None,
                "offset": operator.offset != 0, "lengths": operator.lengths is not None,
                "position": "position" in inputs, "two bytes": operator.two_bytes,
                "groups": 1 < k[0] < q[0], "one for all": 1 == k[0] < q[0], "alone": k[0] == q[0],
                "decoding": q[1] == 1 < k[1], "one key": k[1] == 1}.items() if is_met)
            if "mask" in node.inputs:
                mask = graph.tensors["mask"]
                met[f"{'given' if 'mask' in inputs else 'constant'} {mask.dtype}"] += 1
                met[f"mask of {'heads' if len(mask.shape) == 3 else 'all heads'}"] += 1
    assert min(met[form] for form in (
        "causal", "window", "offset", "lengths", "position", "two bytes", "groups", "one for all", "alone", "decoding",
        "one key", "constant bool", "constant float32", "given bool", "given int32", "given float32", "mask of heads",
        "mask of all heads")) >= 3, met
