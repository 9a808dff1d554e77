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
from pearray.compiler.placement import MemoryPlan
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


def test_rooms_are_filled_between_others(rng, monkeypatch):
    """Several groups fill a room that is stored with the last; what comes between them must not be written there."""
    config = pe.load_config("systolic-16x16").hardware

    def choose(self, price, has_time):
        self._choice = alternate._Choice(second=0.5)
        groups.extend({id(step.group): step.group for step in self.lowered(MemoryPlan(keep=False))[1]}.values())
        return 1.0

    groups, found = [], alternate.pairs
    monkeypatch.setattr(arrange, "_WORTH", -10.0)
    monkeypatch.setattr(arrange, "pairs", lambda *given: (
        turns for turns in found(*given) if turns.stages[1].problem.name == "last"))
    monkeypatch.setattr(arrange._Arranger, "cuts", lambda self, kept: [])
    monkeypatch.setattr(alternate.Turns, "choose", choose)
    monkeypatch.setattr(Search, "most", lambda self, steps, usual, must=(): (usual, []))
    graph, inputs = _network(rng, (48, 112), 16, 2, 96)
    interpret(graph, inputs, config, **briefly(config))
    assert 0 < len({id(group.outputs[0].room) for group in groups}) < len(groups)


@pytest.mark.parametrize(("most", "prices"), [(0, 0), (1, 1)])
def test_turns_are_not_looked_for_without_time(rng, monkeypatch, most, prices):
    """Each pair is timed many times, so that the compiler would take minutes for programs of many steps."""
    config, priced, choose = kinds.SMALL["moves"], [], alternate.Turns.choose
    monkeypatch.setattr(arrange, "_MOST_STEPS", most)
    monkeypatch.setattr(alternate, "_WORTH", -10.0)
    monkeypatch.setattr(arrange._Arranger, "cuts", lambda self, kept: [])
    monkeypatch.setattr(Search, "most", lambda self, steps, usual, must=(): (usual, []))
    monkeypatch.setattr(alternate.Turns, "choose", lambda self, price, has_time: (
        choose(self, lambda some: priced.append(len(some)) or price(some), has_time)))
    graph, _ = _network(rng, (9, 9), 2, 1, 12)
    compile_graph(graph, config, **briefly(config))
    assert len(priced) == prices


@pytest.mark.slow
def test_lanes_work_under_the_next_layer(rng, monkeypatch):
    """Lanes need twice as long as the array for the first layer, which would wait for them."""
    config = pe.load_config("systolic-16x16").hardware
    graph, _ = _network(rng, (84, 112), 16, 2, 96)

    def cycles():
        return compiler_for(config).cycles(config, compile_graph(graph, config, **briefly(config)).program)

    by_turns = cycles()
    monkeypatch.setattr(arrange, "pairs", lambda *_: iter(()))
    assert by_turns < 0.93 * cycles()


def _spans(graph, config, moves):
    """Bytes of memory of each tensor, with MOVEs or without."""
    config = replace(config, scratchpads=replace(config.scratchpads, moves=moves))
    compiled = compile_graph(graph, config, **briefly(config))
    return {each.name: range(each.address, each.address + each.length)
            for each in compiled.placement.reserved if each.buffer is not None}


def test_nobody_stores_where_the_first_still_reads(rng):
    """What the first of two layers reads is overwritten if the second, by turns, stores there."""
    graph, _ = _network(rng, (9, 9), 2, 1, 2)
    stands = _spans(graph, kinds.SMALL["moves"], 0)
    assert stands["last"] == stands["begin"]
    stands = _spans(graph, kinds.SMALL["moves"], 1)
    assert not set(stands["last"]) & set(stands["begin"])


def test_memory_is_given_back_along_a_run_of_turns(rng):
    """Layers that all may take turns with the next would each have memory of its own, however many they are."""
    graph, config = Graph(), pe.load_config("systolic-16x16").hardware
    x = graph.input("x", (1, 8, 32, 32), "int8")
    for layer in range(8):
        operator = pe.Conv2d(requant=pe.Requant.onnx(1.0, 0, 0.01, 0, 1.0, np.int8(1)))
        x = graph.add(f"c{layer}", operator, x=x, w=operands(rng, (8, 8, 1, 1)))
    graph.output(x)
    stands = _spans(graph, config, 1)
    # The one that is made, the one that is read, and what the layer before reads.
    assert len({stands[f"c{layer}"].start for layer in range(8)}) == 3
    for first, second in zip(range(6), range(2, 8), strict=True):
        assert stands[f"c{first}"] != stands[f"c{second}"]
