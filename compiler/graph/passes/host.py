"""What stands at a graph's edges, as quantisation, is the host's."""

from dataclasses import replace

from ...operators import Real
from ..graph import Graph

__all__ = ["host_edges"]


def host_edges(graph: Graph) -> Graph:
    """Mark what the host computes: of inputs what operators say, as Quantize, and real numbers that nobody reads."""
    read = {name for node in graph.nodes for name in node.inputs.values()}
    known, nodes = {*graph.inputs}, []
    for node in graph.nodes:
        before = node.operator.at_edge and {*node.inputs.values()} <= known
        after = isinstance(node.operator, Real) and not read & {*node.outputs.values()}
        known |= {*node.outputs.values()} if before else set()
        nodes.append(replace(node, on_host=before or after))
    return graph.changed(nodes=nodes)
