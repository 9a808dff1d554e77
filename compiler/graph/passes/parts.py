"""Nodes of the parts of an operator that is made of others."""

from collections.abc import Sequence
from typing import Any

from ...operators.operator import Part
from ..graph import Graph, Node
from ..names import Names

__all__ = ["nodes_of"]


def nodes_of(node: Node[Any], parts: Sequence[Part], graph: Graph, names: Names) -> list[Node[Any]]:
    """Nodes of the parts of a node, in order, under names of theirs; their constants join the graph."""
    tensors, found = dict(node.inputs), []
    for part in parts:
        name = names.free(f"{node.name}:{part.name}")
        # What it makes may have the name of what it reads.
        inputs = {role: tensors[given] for role, given in part.inputs.items()}
        tensors[part.name] = node.outputs.get(part.name, name)
        for role, value in part.constants.items():
            inputs[role] = graph.constant(names.free(f"{name}:{role}"), value)
        first, *others = part.operator.outputs
        outputs = {first: tensors[part.name]}
        outputs |= {role: node.outputs.get(role) or names.free(f"{name}:{role}") for role in others}
        tensors |= {role: outputs[role] for role in others}
        found.append(Node(name, part.operator, inputs, outputs))
    return found
