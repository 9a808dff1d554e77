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
        Inputs and constants of the graph.
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
    if budget is not None and budget < 0:
        raise PearrayError(f"budget must be at least 0 bytes, not {budget}")


def _backward(graph: Graph, loss: str, seed: str, by: Sequence[str]) -> dict[str, str]:
    """Add the nodes of the backward pass, and return the gradient of each tensor that has one."""
    depends = {*by}
    for node in graph.nodes:
        if not depends.isdisjoint(node.inputs.values()):
            depends.update(node.outputs.values())
    found = {loss: seed}
    for node in reversed(list(graph.nodes)):
        dy = {role: found[name] for role, name in node.outputs.items() if name in found}
        if not dy or depends.isdisjoint(node.inputs.values()):
            continue
        rule = DERIVATIVES.get(type(node.operator))
        if rule is None:
            known = ", ".join(sorted(kind.__name__ for kind in DERIVATIVES))
            raise PearrayError(f"{node.name}: operator must be one that has a derivative ({known}), not "
                               f"{node.operator.kind}")
        step = Backward(graph, node, dy)
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


def _chain(producer: dict[str, Node[Any]], name: str, kept: Collection[str]) -> list[Node[Any]]:
    """Nodes that compute a tensor from what is kept, in order."""
    found: dict[int, Node[Any]] = {}

    def visit(name: str) -> None:
        node = producer.get(name)
        if node is None or name in kept or id(node) in found:
            return
        for each in node.inputs.values():
            visit(each)
        found[id(node)] = node

    visit(name)
    return list(found.values())


def _dropped(graph: Graph, forward: int, kept: set[str], budget: int | None) -> set[str]:
    """What is computed again so that the rest is within the budget."""
    producer = {name: node for node in graph.nodes[:forward] for name in node.outputs.values()}
    left, order = set(kept), {name: index for index, name in enumerate(graph.tensors)}

    def work(name: str) -> tuple[float, int]:
        nodes = _chain(producer, name, left - {name})
        cost = sum(graph.macs(node) + sum(prod(graph.tensors[each].shape) for each in node.outputs.values())
                   for node in nodes)
        return cost / _bytes(graph, [name]), order[name]

    while budget is not None and _bytes(graph, left) > budget:
        left.remove(min(left, key=work))
    return kept - left


def _computed_again(graph: Graph, forward: int, kept: set[str]) -> tuple[Graph, list[str]]:
    """The graph with what is not kept computed again before it is first read, and the names of that."""
    producer = {name: node for node in graph.nodes[:forward] for name in node.outputs.values()}
    nodes, names, again = list(graph.nodes[:forward]), dict[str, str](), list[str]()
    changed = graph.changed()
    taken = graph.tensors.keys() | {node.name for node in graph.nodes}

    def free(name: str) -> str:
        while name in taken or name in names.values():
            name += "'"
        return name

    for node in graph.nodes[forward:]:
        for name in node.inputs.values():
            if name in names:
                continue
            for each in _chain(producer, name, kept | names.keys()):
                again += each.outputs.values()
                outputs = {role: free(f"{made}:again") for role, made in each.outputs.items()}
                nodes.append(replace(each, name=free(f"{each.name}:again"), outputs=outputs,
                                     inputs={role: names.get(made, made) for role, made in each.inputs.items()}))
                names |= {made: outputs[role] for role, made in each.outputs.items()}
                changed.infer(nodes[-1])
        nodes.append(replace(node, inputs={role: names.get(made, made) for role, made in node.inputs.items()}))
    changed.nodes = nodes
    return changed, again
