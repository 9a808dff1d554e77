"""Graphs in parts: programs for the accelerator, and what the host computes between them."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TypeVar

from ..operators import AtEnd, Hosted, Reshape
from .graph import Graph, Node

__all__ = ["Crossing", "Part", "crossings", "parts_of", "phases"]

Item = TypeVar("Item", bound=Hashable)


@dataclass(frozen=True, eq=False)
class Part:
    """A part of a graph, as a graph.

    Parameters
    ----------
    graph : Graph
        Whose inputs are the whole's, or made by parts before it.
    on_host : bool
        Whether the host computes all of it.
    """

    graph: Graph
    on_host: bool


@dataclass(frozen=True)
class Crossing:
    """A tensor that goes from a program to the host or back.

    Parameters
    ----------
    name : str
        The tensor.
    nbytes : int
        Its bytes, as elements stand in an array of NumPy.
    to_host : bool
        Whether the host reads what a program has made.
    """

    name: str
    nbytes: int
    to_host: bool


def phases(items: Sequence[Item], before: Callable[[Item], Sequence[Item]], side: Callable[[Item], bool | None]
           ) -> dict[Item, int]:
    """Number of the part to which each of some things belongs, so that parts of two sides take turns.

    Each is in the earliest part of its side behind all that it needs, so every way from one item of a part to another
    stays within it, and no arrangement has fewer parts.

    Parameters
    ----------
    items : sequence
        In topological order.
    before : callable
        What an item needs.
    side : callable
        Side of an item; None for one that may be on either, and goes with what it needs.
    """
    def numbered(first: bool) -> dict[Item, int]:
        found: dict[Item, int] = {}
        for item in items:
            own = side(item)
            found[item] = 0 if own in (first, None) else 1
            for each in before(item):
                differs = own is not None and found[each] % 2 != (0 if own is first else 1)
                found[item] = max(found[item], found[each] + differs)
        return found

    return min((numbered(first) for first in (False, True)), key=lambda found: len({*found.values()}))


def parts_of(graph: Graph) -> list[Part]:
    """Parts of a graph in the order in which they run; a graph that no host computes a part of is one part."""
    if not any(isinstance(node.operator, Hosted) for node in graph.nodes):
        return [Part(graph, False)]
    # What follows from inputs alone is made again for each part that reads it.
    edges = [node for node in graph.nodes if node.operator.at_edge and {*node.inputs.values()} <= {*graph.inputs}]
    inner = [node for node in graph.nodes if node not in edges]
    makers = {name: node for node in inner for name in node.outputs.values()}
    number = phases(inner, lambda node: [makers[name] for name in node.inputs.values() if name in makers], _side)
    groups: dict[int, list[Node]] = {}
    for node in inner:
        groups.setdefault(number[node], []).append(node)
    parts, left = [], {*graph.outputs}
    for each in sorted(groups):
        others = {name for node in inner if number[node] != each for name in node.inputs.values()}
        parts.append(_part(graph, groups[each], edges, others | left))
        left -= {*parts[-1].graph.outputs}
    return parts


def _side(node: Node) -> bool | None:
    """Whether the host computes a node; None where that takes neither an array nor a runtime."""
    if isinstance(node.operator, Hosted):
        return True
    return None if node.operator.at_edge or isinstance(node.operator, (AtEnd, Reshape)) else False


def _part(graph: Graph, nodes: list[Node], edges: Sequence[Node], wanted: set[str]) -> Part:
    """Part of some nodes, with those at the graph's edge that it needs, which makes what is wanted of it."""
    own = {name for node in nodes for name in node.inputs.values()} | {*graph.outputs} & wanted
    used = [node for node in edges if own & {*node.outputs.values()}]
    made = {name for node in nodes for name in node.outputs.values()}
    outputs = [name for name in graph.tensors if name in made & wanted or (
        name in graph.outputs and name in wanted and any(name in node.outputs.values() for node in used))]
    inside = [*used, *nodes]
    made |= {name for node in used for name in node.outputs.values()}
    read = dict.fromkeys(name for node in inside for name in node.inputs.values() if name not in made)
    inputs = [name for name in read if name not in graph.constants]
    return Part(Graph(
        inside, {name: graph.tensors[name] for name in [*inputs, *made]},
        {name: graph.constants[name] for name in read if name in graph.constants}, inputs, outputs,
        aliases=graph.aliases), all(_side(node) is not False for node in nodes))


def crossings(parts: Sequence[Part]) -> list[Crossing]:
    """Tensors that go from programs to the host and back, in order."""
    made: Mapping[str, Part] = {name: part for part in parts for name in part.graph.outputs}
    found: dict[tuple[str, bool], Crossing] = {}
    for part in parts:
        for name in part.graph.inputs:
            if name in made and made[name].on_host != part.on_host:
                tensor = part.graph.tensors[name]
                found.setdefault((name, part.on_host), Crossing(
                    name, prod(tensor.shape) * tensor.dtype.itemsize, part.on_host))
    return list(found.values())
