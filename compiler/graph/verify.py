"""Verifier of graphs, which runs behind every pass."""

import numpy as np

from ...hdl.errors import PearrayError
from .graph import Graph, Quantisation

__all__ = ["statements", "verify"]


def verify(graph: Graph) -> None:
    """Check that a graph is whole: every tensor typed, made once and before it is read, and quantised in one way."""
    known = {*graph.inputs, *graph.constants}
    for name, value in graph.constants.items():
        tensor = graph.tensors[name]
        if (value.shape, value.dtype) != (tensor.shape, tensor.dtype):
            raise PearrayError(f"constant {name} must be {tensor.dtype} of shape {tensor.shape}, not {value.dtype} of "
                               f"shape {value.shape}")
    for node in graph.nodes:
        for name in (*node.inputs.values(), *node.outputs.values()):
            if name not in graph.tensors:
                raise PearrayError(f"{node.name}: tensor {name!r} has no type")
        for name in node.inputs.values():
            if graph.source(name) not in known:
                raise PearrayError(f"{node.name}: tensor {name!r} is read before it is made")
        for name in node.outputs.values():
            if name in known:
                raise PearrayError(f"{node.name}: tensor {name!r} is made twice")
            known.add(name)
        graph.infer(node)
    for name, source in graph.views.items():
        made, given = graph.tensors[name], graph.tensors[source]
        if (np.prod(made.shape), made.dtype) != (np.prod(given.shape), given.dtype):
            raise PearrayError(f"view {name} must have the elements of {source}, {given.dtype} of shape {given.shape}, "
                               f"not be {made.dtype} of shape {made.shape}")
    for name in graph.outputs:
        if graph.source(name) not in known:
            raise PearrayError(f"output {name!r} of the graph is made by no node")
    for name in graph.positions:
        others = [node.name for node in graph.nodes for role, given in node.inputs.items()
                  if given == name and role not in node.operator.positions]
        if name not in graph.inputs or others or name in {*graph.views.values(), *graph.outputs}:
            raise PearrayError(f"position {name} must be an input of the graph, and no operand of "
                               f"{others[0] if others else 'anything'}")
    for name, stated in statements(graph).items():
        declared = graph.tensors[name].quantisation
        for reader, quantisation in stated:
            # Integers may be read with another scale than they were made with, unless their type says which is theirs.
            if declared is not None and quantisation != declared:
                raise PearrayError(f"{reader}: {name} must be stored with {declared}, as its type says, not with "
                                   f"{quantisation}")


def statements(graph: Graph) -> dict[str, list[tuple[str, Quantisation]]]:
    """What operators say of how tensors are stored, by tensor: names of nodes, and what they say."""
    found: dict[str, list[tuple[str, Quantisation]]] = {}
    for node in graph.nodes:
        for role, name in (*node.outputs.items(), *node.inputs.items()):
            stated = node.operator.quantisation(role)
            if stated is not None:
                found.setdefault(name, []).append((node.name, stated))
    return found
