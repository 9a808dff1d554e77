"""Operands that broadcast to images, or to more dimensions, get as many dimensions."""

from dataclasses import replace

from ...operators import Reshape
from ...operators.binary import Binary
from ...operators.extremes import Extreme
from ..graph import Graph, Node

__all__ = ["operands_are_images"]

#: Dimensions of images, whose channels stand last in memory.
_IMAGES = 4


def operands_are_images(graph: Graph) -> Graph:
    """Put a reshape before each operand of fewer dimensions than what is computed with it, from images on.

    Who can't read a tensor in another order, as images one of rows, has it copied then.
    """
    nodes: list[Node] = []
    made: dict[tuple[str, int], str] = {}
    for node in graph.nodes:
        rank = len(graph.tensors[node.outputs["y"]].shape) if isinstance(node.operator, (Binary, Extreme)) else 0
        if rank >= _IMAGES:
            for role, name in node.inputs.items():
                shape = graph.tensors[name].shape
                if name in graph.constants or len(shape) == rank:
                    continue
                if (name, rank) not in made:
                    image = f"{name}:images"
                    while image in graph.tensors or image in made.values():
                        image += "'"
                    made[name, rank] = image
                    nodes.append(Node(image, Reshape((1,) * (rank - len(shape)) + tuple(shape)), {"x": name},
                                      {"y": image}))
                node = replace(node, inputs=node.inputs | {role: made[name, rank]})
        nodes.append(node)
    changed = graph.changed(nodes=nodes)
    for node in nodes:
        changed.infer(node)
    return changed if made else graph
