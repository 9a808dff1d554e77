"""Nodes of a network that cannot be mapped, all of which are told at once."""

from collections.abc import Callable, Sequence

import numpy as np

from ....hdl.errors import PearrayError
from ...graph.graph import Tensor
from .builder import Builder, OnnxNode

__all__ = ["Refusals"]


class Refusals:
    """Nodes that have been refused so far.

    What such a node would make is not known. Behind the next QuantizeLinear, whose scale is, the network goes on, if
    onnx can tell its shape.

    Parameters
    ----------
    graph : Builder
        Graph under construction.
    shape : callable
        Shape and type of a tensor by name, or None.
    is_known : callable
        Whether there is anything to check about a node.
    """

    def __init__(self, graph: Builder, shape: Callable[[str], Tensor | None], is_known: Callable[[OnnxNode], bool]):
        self._graph, self._shape, self._is_known = graph, shape, is_known
        self._unknown: set[str] = set()
        #: Operators, with the names of their nodes and the first error.
        self._found: dict[str, tuple[list[str], PearrayError]] = {}

    def take(self, node: OnnxNode, action: Callable[[OnnxNode], None]) -> None:
        """Do something with a node, unless it reads what is not known, and note it if that fails."""
        if not self._unknown & {*node.inputs} or not self._is_known(node):
            try:
                action(node)
                return
            except PearrayError as error:
                self._found.setdefault(node.label, ([], error))[0].append(node.name)
        for name in filter(None, node.outputs):
            found = self._shape(name)
            if found is not None and found.dtype.kind in "iu" and found.dtype != np.int64:
                self._graph.tensors.setdefault(name, found)
            else:
                self._unknown.add(name)

    def check(self) -> None:
        """Raise an error that tells all, if anything has been refused.

        Raises
        ------
        PearrayError
            That of the node, if it is one; otherwise for each kind of operator how many nodes there are, the first
            one and its reason.
        """
        if not self._found:
            return
        count = sum(len(names) for names, _ in self._found.values())
        if count == 1:
            [(_, error)] = self._found.values()
            raise error
        kinds = [f"{label} ({_nodes(names)}): {_reason(error)}" for label, (names, error) in self._found.items()]
        raise PearrayError(f"{count} nodes cannot be mapped. {'. '.join(kinds)}")


def _nodes(names: Sequence[str]) -> str:
    return f"{len(names)} nodes, first {names[0]!r}" if len(names) > 1 else f"node {names[0]!r}"


def _reason(error: PearrayError) -> str:
    """Say why, without the node that a message begins with, and without the list of all that is supported."""
    text = str(error).partition("; supported: ")[0]
    head, _, rest = text.partition(": ")
    return rest if head.startswith("node ") and rest else text
