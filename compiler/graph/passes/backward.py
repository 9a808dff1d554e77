"""The backward graph of a graph: gradients of a loss with respect to any of its tensors that are given.

Nodes are differentiated from the last to the first, by the rules of :data:`..derivatives.DERIVATIVES`. Where a tensor
has several readers their gradients are added, those of later readers first. What of the forward pass the backward pass
reads stays in memory between them. If that is more than a budget, some of it is computed again from the rest, which
gives the same bits: what takes least work for each byte that it spares, and work is multiply-accumulates and elements
made.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from ....hdl.errors import PearrayError
from ..derivatives import DERIVATIVES, Backward
from ..graph import Graph, Node
from ..names import Names
from ..verify import verify
from .apart import operators_apart

__all__ = ["Differentiated", "differentiated"]


@dataclass(frozen=True)
class Differentiated:
    """A graph that computes a loss and its gradients, and what it keeps for them.

    Parameters
    ----------
    graph : Graph
        Its outputs are those of the forward pass, and the gradients. Constants by which it is differentiated are
        inputs.
    forward : int
        Nodes of the forward pass, which come first.
    seed : str
        Input that is the gradient of the loss with respect to itself: 1, or the factor by which it is scaled.
    gradients : dict of str to str
        Gradient of each tensor that was asked for.
    kept, again : tuple of str
        Tensors that the forward pass makes and the backward pass reads, and those that it computes again.
    kept_bytes : int
        Bytes of `kept`.
    """

    graph: Graph
    forward: int
    seed: str
    gradients: dict[str, str]
    kept: tuple[str, ...]
    again: tuple[str, ...]
    kept_bytes: int


def differentiated(graph: Graph, loss: str, by: Sequence[str], budget: int | None = None) -> Differentiated:
    """Add the backward pass to a graph.

    Parameters
    ----------
    graph : Graph
        Of operators on float32, before other passes.
    loss : str
        Tensor whose gradient, an input of the same shape, is given.
    by : sequence of str
        Inputs and constants of the graph, each once.
    budget : int, optional
        Bytes that may be kept from the forward for the backward pass; all that is read if absent.

    Raises
    ------
    PearrayError
        If a tensor is none, the loss does not depend on one, or an operator has no derivative.
    """
    _check(graph, loss, by, budget)
    made = operators_apart(graph.changed(
        constants={name: value for name, value in graph.constants.items() if name not in by},
        inputs=[*graph.inputs, *(name for name in by if name in graph.constants)]))
    forward = len(made.nodes)
    seed = made.input(f"gradient of {loss}", made.tensors[loss].shape, np.float32)
    found = _backward(made, loss, seed, by)
    for name in by:
        if name not in found:
            raise PearrayError(f"{loss} must depend on {name} to be differentiated by it")
    made.outputs = list(dict.fromkeys([*made.outputs, loss, *(found[name] for name in by if found[name] != seed)]))
    kept = _read(made, forward)
    dropped = _dropped(made, forward, kept, budget)
    made, again = _computed_again(made, forward, kept - dropped)
    verify(made)
    left = _read(made, forward)
    return Differentiated(made, forward, seed, {name: found[name] for name in by},
                          tuple(name for name in made.tensors if name in left), tuple(again), _bytes(made, left))


def _check(graph: Graph, loss: str, by: Sequence[str], budget: int | None) -> None:
    if not any(loss in node.outputs.values() for node in graph.nodes) or graph.tensors[loss].dtype != np.float32:
        raise PearrayError(f"loss must be a tensor of float32 that a node makes, not {loss!r}")
    for name in by:
        if name not in (*graph.inputs, *graph.constants) or graph.tensors[name].dtype != np.float32:
            raise PearrayError(f"{name!r} must be an input or a constant of float32 to be differentiated by")
        if by.count(name) > 1:
            raise PearrayError(f"{name!r} must be named once to be differentiated by, not {by.count(name)} times")
    if budget is not None and budget < 0:
        raise PearrayError(f"budget must be at least 0 bytes, not {budget}")


def _backward(graph: Graph, loss: str, seed: str, by: Sequence[str]) -> dict[str, str]:
    """Add the nodes of the backward pass, and return the gradient of each tensor that has one."""
    depends = {*by}
    for node in graph.nodes:
        if not depends.isdisjoint(node.inputs.values()):
            depends.update(node.outputs.values())
    found, names = {loss: seed}, Names(graph)
    for node in reversed(list(graph.nodes)):
        dy = {role: found[name] for role, name in node.outputs.items() if name in found}
        if not dy or depends.isdisjoint(node.inputs.values()):
            continue
        rule = DERIVATIVES.get(type(node.operator))
        if rule is None:
            known = ", ".join(sorted(kind.__name__ for kind in DERIVATIVES))
            raise PearrayError(f"{node.name}: operator must be one that has a derivative ({known}), not "
                               f"{node.operator.kind}")
        step = Backward(graph, node, dy, names)
        for role, gradient in rule(step).items():
            name = node.inputs.get(role)
            if name in depends:
                found[name] = gradient if name not in found else step.total(found[name], gradient)
    return found


def _read(graph: Graph, forward: int) -> set[str]:
    """Tensors that the forward pass makes and the backward pass reads."""
    made = {name for node in graph.nodes[:forward] for name in node.outputs.values()}
    return {name for node in graph.nodes[forward:] for name in node.inputs.values()} & made


def _bytes(graph: Graph, names: Collection[str]) -> int:
    return sum(prod(graph.tensors[name].shape) * graph.tensors[name].dtype.itemsize for name in names)


def _producers(nodes: Sequence[Node[Any]]) -> dict[str, int]:
    """Place of the node that makes each tensor."""
    return {name: place for place, node in enumerate(nodes) for name in node.outputs.values()}


def _chain(nodes: Sequence[Node[Any]], producer: dict[str, int], name: str, kept: Collection[str]) -> list[int]:
    """Places of the nodes that compute a tensor from what else is kept, in order."""
    found, waiting = set[int](), [name]
    for each in waiting:
        place = producer.get(each)
        if place is not None and place not in found and (each == name or each not in kept):
            found.add(place)
            waiting += nodes[place].inputs.values()
    return sorted(found)


def _dropped(graph: Graph, forward: int, kept: set[str], budget: int | None) -> set[str]:
    """What is computed again so that the rest is within the budget."""
    if budget is None:
        return set()
    nodes = graph.nodes[:forward]
    costs = [graph.macs(node) + sum(prod(graph.tensors[name].shape) for name in node.outputs.values())
             for node in nodes]
    producer, order = _producers(nodes), {name: index for index, name in enumerate(graph.tensors)}
    sizes = {name: _bytes(graph, [name]) for name in kept}
    # What has no elements spares nothing.
    left, stays = {name for name in kept if sizes[name]}, set(kept)

    def work(name: str) -> tuple[float, int]:
        cost = sum(costs[place] for place in _chain(nodes, producer, name, stays))
        return cost / sizes[name], order[name]

    while sum(sizes[name] for name in left) > budget:
        least = min(left, key=work)
        left.remove(least)
        stays.remove(least)
    return kept - stays


def _computed_again(graph: Graph, forward: int, kept: set[str]) -> tuple[Graph, list[str]]:
    """The graph with what is not kept computed again before it is first read, and the names of that."""
    nodes, names, again = list(graph.nodes[:forward]), dict[str, str](), list[str]()
    producer = _producers(nodes)
    changed, unused = graph.changed(), Names(graph)
    for node in graph.nodes[forward:]:
        for name in node.inputs.values():
            if name in names or name in kept:
                continue
            for each in (nodes[place] for place in _chain(nodes, producer, name, kept | names.keys())):
                again += each.outputs.values()
                own = {old: unused.free(f"{old}:again") for old in dict.fromkeys((each.name, *each.outputs.values()))}
                nodes.append(replace(each, name=own[each.name],
                                     inputs={role: names.get(made, made) for role, made in each.inputs.items()},
                                     outputs={role: own[made] for role, made in each.outputs.items()}))
                names |= {made: own[made] for made in each.outputs.values()}
                changed.infer(nodes[-1])
        nodes.append(replace(node, inputs={role: names.get(made, made) for role, made in node.inputs.items()}))
    changed.nodes = nodes
    return changed, again
