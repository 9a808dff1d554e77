"""Names for what passes add to a graph."""

from .graph import Graph

__all__ = ["Names"]


class Names:
    """Names of a graph's tensors and nodes, none of which is given out again.

    Parameters
    ----------
    graph : Graph
        The graph.
    """

    def __init__(self, graph: Graph):
        self._taken = {*graph.tensors, *(node.name for node in graph.nodes)}

    def free(self, name: str, *endings: str) -> str:
        """A name like this one that is free, as all are that have one of the endings behind it; now they are taken."""
        while not self._taken.isdisjoint(wanted := [name, *(name + ending for ending in endings)]):
            name += "'"
        self._taken.update(wanted)
        return name
