"""Layers that take turns: what is computed, and when it is worth it."""

from dataclasses import replace

import kinds
import numpy as np
import pytest
from random_workloads import briefly, interpret, operands

import pearray as pe
from pearray.compiler.compile import compile_graph
from pearray.compiler.graph.graph import Graph
from pearray.compiler.kinds import compiler_for
from pearray.compiler.residency import Price, Search
from pearray.compiler.systolic import alternate, arrange


def _network(rng, size, channels, stride, last):
    """Few products for each of many outputs, a layer that reads these, depthwise or not, and the inputs."""
    requant, graph = pe.Requant.onnx(1.0, 0, 0.01, 0, 1.0, np.int8(1)), Graph()
    wide = 6 * channels
    image = graph.input("image", (1, 4, *size), "int8")
    x = graph.add("begin", pe.Conv2d(requant=requant), x=image, w=operands(rng, (channels, 4, 1, 1)))
    expanded = graph.add("expand", pe.Conv2d(requant=requant), x=x, w=operands(rng, (wide, channels, 1, 1)))
    operator = pe.Conv2d(stride=stride, padding=1, groups=wide if last == wide else 1, requant=requant)
    graph.output(graph.add("last", operator, x=expanded, w=operands(rng, (last, wide // operator.groups, 3, 3))))
    return graph, {"image": operands(rng, (1, 4, *size))}


def test_turns_compute_the_same(rng, monkeypatch):
    """A group that comes before what it reads has been stored, or adds to sums of the other layer, finds others."""
    config, turns, alternated = kinds.SMALL["moves"], [], alternate.Turns.steps

    def price(self, steps, kept):
        # All that is tried is better than what was before.
        prices.append(len(prices))
        return Price(-float(len(prices)))

    def steps(self, first, second):
        turns.append(alternated(self, first, second))
        return turns[-1]

    monkeypatch.setattr(alternate, "_WORTH", -10.0)
    monkeypatch.setattr(Search, "price", price)
    monkeypatch.setattr(arrange._Arranger, "cuts", lambda self, kept: [])
    monkeypatch.setattr(Search, "most", lambda self, steps, usual, must=(): (usual, []))
    monkeypatch.setattr(alternate.Turns, "steps", steps)
    for _ in range(6):
        prices, size, stride = [], rng.integers(5, 14, 2).tolist(), int(rng.integers(1, 3))
        graph, inputs = _network(rng, size, 2, stride, int(rng.choice([12, 7])))
        interpret(graph, inputs, config, **briefly(config))
    names = [[step.group.outputs[0].target[0].name for step in each] for each in turns]
    assert any(each != sorted(each, key=each.index) for each in names)


@pytest.mark.slow
def test_lanes_work_under_the_next_layer(rng, monkeypatch):
    """Lanes need twice as long as the array for the first layer, which would wait for them."""
    config = pe.load_config("systolic-16x16").hardware
    graph, _ = _network(rng, (84, 112), 16, 2, 96)

    def cycles():
        return compiler_for(config).cycles(config, compile_graph(graph, config, **briefly(config)).program)

    by_turns = cycles()
    monkeypatch.setattr(arrange, "pairs", lambda *_: iter(()))
    assert by_turns < 0.9 * cycles()


def test_nobody_stores_where_the_first_still_reads(rng):
    """What the first layer reads stands until the second has stored its outputs, and no longer."""
    config = kinds.SMALL["moves"]
    graph, _ = _network(rng, (9, 9), 2, 1, 12)
    for moves, dies in ((1, 2), (0, 1)):
        chosen = replace(config, scratchpads=replace(config.scratchpads, moves=moves))
        compiled = compile_graph(graph, chosen, **briefly(chosen))
        stands = {each.name: each for each in compiled.placement.reserved if each.buffer is not None}
        assert stands["begin"].dies == dies
