"""Quantisation at a graph's edges is the host's."""

from dataclasses import replace

from ...operators import Quantize, Real
from ..graph import Graph

__all__ = ["host_edges"]


def host_edges(graph: Graph) -> Graph:
    """Mark what the host computes: Quantize of inputs alone, and real numbers that nobody reads."""
    read = {name for node in graph.nodes for name in node.inputs.values()}
    nodes = []
    for node in graph.nodes:
        before = isinstance(node.operator, Quantize) and {*node.inputs.values()} <= {*graph.inputs}
        after = isinstance(node.operator, Real) and not read & {*node.outputs.values()}
        nodes.append(replace(node, on_host=before or after))
    return graph.changed(nodes=nodes)
