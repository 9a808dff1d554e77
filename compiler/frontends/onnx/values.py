"""Float tensors of a network, none of which will ever exist: each is known by the stored integers that it follows from.

What only moves elements, the maximum of windows and limits of values commute with rounding to a scale exactly, since
that never decreases: they are noted, and done on stored integers once it is known how the result is stored.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from .builder import OnnxNode, Quantisation

__all__ = ["Chain", "Given", "Limits", "Moved", "RealScaling", "Result", "Scaling", "Stored", "Value", "limited"]


class Limits(NamedTuple):
    """Least and greatest value of a tensor.

    Members
    -------
    low, high : float
        Real numbers; a greatest one below the least one takes its place.
    """

    low: float = -np.inf
    high: float = np.inf

    def then(self, low: float, high: float) -> "Limits":
        """Limits that hold behind others, once the values are cut to both."""
        return Limits(*(min(max(limit, low), high) for limit in self))


@dataclass(frozen=True)
class Stored:
    """A float tensor as its stored integers: names of the tensor, its scale and its zero point, and what these say."""

    name: str
    scale: str
    zero_point: str
    quantisation: Quantisation


@dataclass(frozen=True)
class Given:
    """A float input of the network, which the host quantises."""

    name: str
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class Scaling:
    """What follows a sum of products: ``factor * sum + addend``.

    Parameters
    ----------
    factor, addend : float64 array of shape () or (channels,)
        One number, or one for each output channel.
    """

    factor: np.ndarray = field(default_factory=lambda: np.ones(()))
    addend: np.ndarray = field(default_factory=lambda: np.zeros(()))

    @property
    def is_absent(self) -> bool:
        """Whether nothing follows."""
        return bool(np.all(self.factor == 1) and not np.any(self.addend))


class RealScaling(NamedTuple):
    """What makes sums of products real numbers: ``scale * sum + bias``, float32, of one axis of channels.

    Members
    -------
    scale, bias : float32 array of shape () or (channels,)
        One number, or one for each output channel.
    axis : int
        Axis of the channels.
    """

    scale: np.ndarray
    bias: np.ndarray
    axis: int


@dataclass(frozen=True)
class Result:
    """Result of an operator on stored tensors, as real numbers.

    Parameters
    ----------
    node : OnnxNode
        Node of the file.
    make : callable
        Operator on stored tensors, from the QuantizeLinear behind it and what follows its sums.
    real : callable or None
        Operator that makes the sums alone under a name, and what makes these real numbers, from what follows them;
        None if the operator is none that adds products.
    scaling : Scaling or None
        What follows its sums; None if the operator is none that adds products.
    limits : Limits
        Limits behind that.
    channels : (int, int)
        Axis of the output channels, and how many there are, of an operator that adds products.
    rank : int
        Dimensions of what it makes.
    is_shared : bool
        Whether several nodes read it, or it is a result of the network.
    """

    node: OnnxNode
    make: Callable[[OnnxNode, Scaling], OnnxNode]
    real: Callable[[Scaling, str], tuple[OnnxNode, RealScaling]] | None = None
    scaling: Scaling | None = None
    limits: Limits = field(default_factory=Limits)
    channels: tuple[int, int] = (0, 0)
    rank: int = 0
    is_shared: bool = False

    @property
    def activation(self) -> object:
        """Limits as operators take them."""
        if self.limits == Limits():
            return None
        if self.limits == Limits(0):
            return "relu"
        largest = float(np.finfo(np.float32).max)
        return "clip", *(min(max(limit, -largest), largest) for limit in self.limits)


@dataclass(frozen=True)
class Chain:
    """A function of a stored tensor of 8 bits, element by element: some nodes in a row, or in several that meet again.

    Parameters
    ----------
    source : str
        The stored tensor.
    root : str
        Its name in the nodes, which differs from `source` if that has been moved.
    nodes : tuple of OnnxNode
        Nodes in order, with those that dequantise the tensor and constants.
    name : str
        What the last one makes.
    direct : Result or None
        The same as an operator on stored tensors, if the file has it as one node between those that (de)quantise.
    """

    source: str
    root: str
    nodes: tuple[OnnxNode, ...]
    name: str
    direct: Result | None = None


@dataclass(frozen=True)
class Moved:
    """A float tensor whose elements are those of others in another order, or the greatest of some.

    Parameters
    ----------
    node : OnnxNode
        Who moves them.
    operands : tuple
        Values of its inputs, real numbers for constants, None for those that are no elements.
    place : int
        Which of its outputs it is.
    limits : Limits
        Limits behind it.
    is_shared : bool
        Whether several nodes read it, or it is a result of the network.
    """

    node: OnnxNode
    operands: "tuple[Value | np.ndarray | None, ...]"
    place: int = 0
    limits: Limits = field(default_factory=Limits)
    is_shared: bool = False


Value = Stored | Given | Result | Chain | Moved


def limited(value: Given | Result | Moved, low: float, high: float) -> Given | Result | Moved:
    """Return a value cut to low..high, where a lower bound above the upper gives way to it."""
    return replace(value, limits=value.limits.then(min(low, high), high))
