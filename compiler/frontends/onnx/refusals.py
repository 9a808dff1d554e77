"""Nodes of a network that cannot be mapped, all of which are told at once."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ....hdl.errors import PearrayError
from ...graph.graph import Tensor
from .builder import Builder, NodeError, OnnxNode

__all__ = ["ADVICE", "Refusal", "Refusals", "Refused"]

#: What to do about nodes that cannot be mapped.
ADVICE = "; with fallback='host' (--fallback host) onnxruntime computes on the host what cannot be mapped"


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
    advice : str
        What messages end with.
    """

    def __init__(self, graph: Builder, shape: Callable[[str], Tensor | None], is_known: Callable[[OnnxNode], bool],
                 advice: str = ADVICE):
        self._graph, self._shape, self._is_known, self._advice = graph, shape, is_known, advice
        self._unknown: set[str] = set()
        self._found: list[Refusal] = []

    def take(self, node: OnnxNode, action: Callable[[OnnxNode], None]) -> None:
        """Do something with a node, unless it reads what is not known, and note it if that fails."""
        if not self._unknown & {*node.inputs} or not self._is_known(node):
            try:
                action(node)
                return
            except PearrayError as error:
                self._found.append(Refusal(node, error))
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
        Refused
            With the message of the node, if it is one; otherwise for each kind of operator how many nodes there are,
            the first one and its reason.
        """
        if self._found:
            raise Refused(self._found, self._advice)


class Refused(PearrayError):
    """Nodes of a network cannot be mapped.

    Parameters
    ----------
    found : sequence of Refusal
        Nodes that have been refused.
    advice : str
        What the message ends with.
    """

    def __init__(self, found: "Sequence[Refusal]", advice: str):
        kinds: dict[str, list[Refusal]] = {}
        for each in found:
            kinds.setdefault(each.node.label, []).append(each)
        if len(found) == 1:
            text = str(found[0].error)
        else:
            told = [f"{label} ({_nodes([each.node.name for each in group])}): {group[0].reason}"
                    for label, group in kinds.items()]
            text = f"{len(found)} nodes cannot be mapped. {'. '.join(told)}"
        super().__init__(text + advice)
        self.found = found


class Refusal(NamedTuple):
    """A node that has been refused.

    Members
    -------
    taken : OnnxNode
        The node at which the network has been walked.
    error : PearrayError
        The error, perhaps of another node that belongs to it.
    """

    taken: OnnxNode
    error: PearrayError

    @property
    def node(self) -> OnnxNode:
        """The node that is at fault."""
        return self.error.node if isinstance(self.error, NodeError) else self.taken

    @property
    def reason(self) -> str:
        """Why, without the node that a message begins with, and without the list of all that is supported."""
        if isinstance(self.error, NodeError):
            return self.error.reason
        text = str(self.error).partition("; supported: ")[0]
        head, _, rest = text.partition(": ")
        return rest if head.startswith("node ") and rest else text


def _nodes(names: Sequence[str]) -> str:
    return f"{len(names)} nodes, first {names[0]!r}" if len(names) > 1 else f"node {names[0]!r}"
