"""Parts of graphs: as few as can be, and none that would need what comes behind it."""

from itertools import product

import numpy as np
import pytest

from pearray.compiler.graph.graph import Graph, Node, Tensor
from pearray.compiler.graph.parts import crossings, parts_of, phases
from pearray.compiler.operators import Hosted, Relu


def _drawn(rng, count):
    """What each of some items needs, and the side of each."""
    before = [[int(each) for each in range(item) if rng.random() < 0.3] for item in range(count)]
    sides = [(True, False, None)[int(rng.integers(3))] for _ in range(count)]
    return before, sides


def _fewest(before, sides):
    """Least number of turns of two sides in which all items can be done, by trying."""
    def after(first):
        done, side, turns = set(), first, 0
        while len(done) < len(sides):
            turns += 1
            while ready := [item for item in range(len(sides)) if item not in done
                            and sides[item] in (side, None) and {*before[item]} <= done]:
                done.update(ready)
            side = not side
        return turns

    return min(after(first) for first in (True, False))


def test_phases_are_as_few_as_can_be(rng):
    """A part more is a program, and a way to the host and back, more."""
    for _ in range(200):
        before, sides = _drawn(rng, int(rng.integers(1, 9)))
        found = phases(range(len(sides)), before.__getitem__, sides.__getitem__)
        assert len({*found.values()}) <= _fewest(before, sides)
        for item, needs in enumerate(before):
            assert all(found[each] <= found[item] for each in needs)
        for one, other in product(range(len(sides)), repeat=2):
            if found[one] == found[other]:
                assert None in (sides[one], sides[other]) or sides[one] == sides[other]


def _graph():
    """Two operators of a program around one of the host."""
    spec = ((2, 3), np.dtype(np.int8))
    hosted = Hosted(lambda given: {"b": np.sort(given["a"])}, ("a",), {"b": spec})
    nodes = [Node("first", Relu(1), {"x": "x"}, {"y": "a"}), Node("sort", hosted, {"x0": "a"}, {"y0": "b"}),
             Node("last", Relu(2), {"x": "b"}, {"y": "y"})]
    return Graph(nodes, {"x": Tensor("x", *spec)}, {}, ["x"], ["y", "a"])


def test_parts_hand_over_what_others_read(rng):
    """A part without an output that a later one needs, or that the network gives, could not be run alone."""
    graph, x = _graph(), rng.integers(-128, 128, (2, 3)).astype(np.int8)
    parts = parts_of(graph)
    assert [(part.on_host, part.graph.inputs, part.graph.outputs) for part in parts] == [
        (False, ["x"], ["a"]), (True, ["a"], ["b"]), (False, ["b"], ["y"])]
    assert [(each.name, each.nbytes, each.to_host) for each in crossings(parts)] == [("a", 6, True), ("b", 6, False)]
    values = {"x": x}
    for part in parts:
        values |= part.graph.golden({name: values[name] for name in part.graph.inputs})
    expected = graph.golden({"x": x})
    for name in graph.outputs:
        np.testing.assert_array_equal(values[name], expected[name])


def test_a_graph_without_parts_stays_whole():
    """A copy would be compiled anew, and lose what only the whole knows."""
    graph = Graph([Node("relu", Relu(0), {"x": "x"}, {"y": "y"})], {"x": Tensor("x", (2,), np.dtype(np.int8))}, {},
                  ["x"], ["y"])
    [part] = parts_of(graph)
    assert part.graph is graph
    assert not part.on_host


@pytest.mark.parametrize("made", [np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.int8)])
def test_what_the_host_makes_is_checked(made):
    """Bytes of another type or shape would stand in memory as if they were right."""
    hosted = Hosted(lambda given: {"b": made}, ("a",), {"b": ((2, 3), np.dtype(np.int8))})
    with pytest.raises(ValueError, match="which the host makes, must be int8"):
        hosted.golden({"x0": np.zeros((2, 3), np.int8)})
