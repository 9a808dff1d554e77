"""A reshape changes no byte, nor need a transposition: its output is another view of its input."""

from ...operators import Reshape, Transpose
from ..graph import Graph

__all__ = ["reshapes_are_views"]


def reshapes_are_views(graph: Graph) -> Graph:
    """Take reshapes and transpositions out of the nodes: their outputs become views, or constants like their inputs.

    Who can't read such a view has it copied. An output of the graph that is a transposition is made as it is said,
    unless it is said to be a view.
    """
    outputs = {*graph.outputs}
    for node in reversed(graph.nodes):
        if isinstance(node.operator, Transpose) and node.operator.is_view and node.outputs["y"] in outputs:
            outputs.add(node.inputs["x"])
    nodes, views, orders, constants = [], dict(graph.views), dict(graph.orders), dict(graph.constants)
    for node in graph.nodes:
        x, y = node.inputs.get("x", ""), node.outputs.get("y", "")
        is_made = (isinstance(node.operator, Transpose) and not node.operator.is_view and y in outputs
                   and x not in constants)
        if not isinstance(node.operator, (Reshape, Transpose)) or is_made:
            nodes.append(node)
            continue
        if x in constants:
            constants[y] = node.operator.golden({"x": constants[x]})["y"]
            continue
        views[y] = x
        if isinstance(node.operator, Transpose):
            orders[y] = node.operator.order
    return graph.changed(nodes=nodes, views=views, orders=orders, constants=constants)
