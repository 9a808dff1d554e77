"""Passes over graphs, each from a graph to another, with the verifier behind it."""

from collections.abc import Callable

from ..graph import Graph
from ..verify import verify
from .host import host_edges
from .masks import masks_are_biases
from .ranks import operands_are_images
from .reshapes import reshapes_are_views
from .spreads import operands_have_few_axes
from .types import quantised_types

__all__ = ["PASSES", "run_passes"]

#: In the order in which they run.
PASSES: tuple[Callable[[Graph], Graph], ...] = (quantised_types, masks_are_biases, host_edges, operands_are_images,
                                                operands_have_few_axes, reshapes_are_views)


def run_passes(graph: Graph) -> Graph:
    """Verify a graph, and bring it into the form that is lowered."""
    verify(graph)
    for change in PASSES:
        graph = change(graph)
        verify(graph)
    return graph
