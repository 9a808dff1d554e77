"""What stands at a graph's edges, as quantisation, is the host's."""

from dataclasses import replace

from ...operators import AtEnd
from ..graph import Graph

__all__ = ["host_edges"]


def host_edges(graph: Graph) -> Graph:
    """Mark what the host computes: of inputs what operators say, as Quantize, and what no program reads at the end."""
    known, before = {*graph.inputs}, []
    for node in graph.nodes:
        before.append(node.operator.at_edge and {*node.inputs.values()} <= known)
        known |= {*node.outputs.values()} if before[-1] else set()
    read: set[str] = set()
    nodes = []
    for node, is_before in zip(reversed(graph.nodes), reversed(before), strict=True):
        after = isinstance(node.operator, AtEnd) and not read & {*node.outputs.values()}
        read |= set() if after else {*node.inputs.values()}
        nodes.append(replace(node, on_host=is_before or after))
    return graph.changed(nodes=nodes[::-1])
