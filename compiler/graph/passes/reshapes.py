"""A reshape or a transposition changes no byte: its output is another view of its input."""

from ...operators import Reshape, Transpose
from ..graph import Graph

__all__ = ["reshapes_are_views"]


def reshapes_are_views(graph: Graph) -> Graph:
    """Take reshapes and transpositions out of the nodes: their outputs become views, or constants like their inputs."""
    nodes, views, orders, constants = [], dict(graph.views), dict(graph.orders), dict(graph.constants)
    for node in graph.nodes:
        if not isinstance(node.operator, (Reshape, Transpose)):
            nodes.append(node)
            continue
        x, y = node.inputs["x"], node.outputs["y"]
        if x in constants:
            constants[y] = node.operator.golden({"x": constants[x]})["y"]
            continue
        views[y] = x
        if isinstance(node.operator, Transpose):
            orders[y] = node.operator.order
    return graph.changed(nodes=nodes, views=views, orders=orders, constants=constants)
