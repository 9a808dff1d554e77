"""A reshape changes no byte: its output is another view of its input."""

from ...operators import Reshape
from ..graph import Graph

__all__ = ["reshapes_are_views"]


def reshapes_are_views(graph: Graph) -> Graph:
    """Take reshapes out of the nodes: their outputs become views of what they reshape, or constants like it."""
    nodes, views, constants = [], dict(graph.views), dict(graph.constants)
    for node in graph.nodes:
        if not isinstance(node.operator, Reshape):
            nodes.append(node)
            continue
        x, y = node.inputs["x"], node.outputs["y"]
        if x in constants:
            constants[y] = constants[x].reshape(graph.tensors[y].shape)
        else:
            views[y] = x
    return graph.changed(nodes=nodes, views=views, constants=constants)
