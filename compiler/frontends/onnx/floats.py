"""What operators that read float tensors are told of these, and what they refuse alike."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ....hdl.errors import PearrayError
from .builder import Builder, OnnxNode, Quantisation

__all__ = ["Floats", "Stored", "check_first_output", "check_no_activation", "eight_bits"]

#: Names of a stored tensor, its scale and its zero point.
Stored = tuple[str, str, str]


class Floats(NamedTuple):
    """Float tensors seen so far in a network.

    Members
    -------
    stored : callable
        Stored form of a float tensor by name, or None.
    value : callable
        Value of a constant tensor by name, dequantised where it is stored, or None.
    """

    stored: Callable[[str], Stored | None]
    value: Callable[[str], np.ndarray | None]

    def operand(self, role: str, name: str) -> Stored:
        """Stored form of an operand.

        Raises
        ------
        PearrayError
            If it has none.
        """
        found = self.stored(name)
        if found is None:
            raise PearrayError(f"{role} {name!r} must come from DequantizeLinear")
        return found


def check_first_output(node: OnnxNode) -> None:
    """Check that nobody wants another output of a node than the first."""
    if any(node.outputs[1:]):
        raise PearrayError(f"output {next(filter(None, node.outputs[1:]))!r} is not supported; only the first one is")


def check_no_activation(node: OnnxNode, what: str) -> None:
    """Check that no limit of values stands between an operator and what stores its result."""
    if node.attributes.get("activation") is not None:
        raise PearrayError(f"no Relu or Clip may follow {what} directly: put QuantizeLinear and DequantizeLinear "
                           "between")


def eight_bits(node: OnnxNode, graph: Builder, index: int) -> Quantisation:
    """How the result of a node is stored, whose scale is its input of a number: in 8 bits."""
    found = graph.quantisation(node, index, "y")
    if found.clamp is not None:
        raise PearrayError("y must have 8 bits, not 4")
    return found
