"""A reshape changes no byte: its output is another view of its input."""

from ...operators import Reshape
from ..graph import Graph

__all__ = ["reshapes_are_views"]


def reshapes_are_views(graph: Graph) -> Graph:
    """Take reshapes out of the nodes: their outputs become views of what they reshape."""
    views = {node.outputs["y"]: node.inputs["x"] for node in graph.nodes
             if isinstance(node.operator, Reshape) and not node.on_host}
    return graph.changed(nodes=[node for node in graph.nodes if not isinstance(node.operator, Reshape) or node.on_host],
                         views={**graph.views, **views})
