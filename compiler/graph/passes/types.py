"""Quantisation becomes a part of tensors' types."""

from dataclasses import replace

from ..graph import Graph
from ..verify import statements

__all__ = ["quantised_types"]


def quantised_types(graph: Graph) -> Graph:
    """Set the quantisation of each tensor of which all operators that tell it say the same."""
    tensors = dict(graph.tensors)
    for name, stated in statements(graph).items():
        first, *others = (quantisation for _, quantisation in stated)
        if tensors[name].quantisation is None and all(other == first for other in others):
            tensors[name] = replace(tensors[name], quantisation=first)
    return graph.changed(tensors=tensors)
