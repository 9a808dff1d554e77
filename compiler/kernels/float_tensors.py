"""Where tensors of floats stand, element by element, for routines that load and store them."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from ...hdl.errors import PearrayError
from ..graph.graph import Node
from ..operators.moved import OUTSIDE
from ..routines.values import Lane, Number, Value
from .context import Context, Located
from .layout import Layout
from .routine import Elements
from .views import Buffer

__all__ = ["FloatTensors"]


class FloatTensors:
    """Tensors of a node, by role.

    Parameters
    ----------
    context : Context
        Where they stand.
    node : Node
        The node.
    """

    def __init__(self, context: Context, node: Node[Any]):
        self.context, self.node = context, node
        for role, name in (node.inputs | node.outputs).items():
            shape = tuple(context.graph.tensors[name].shape)
            if 0 in shape:
                raise PearrayError(f"{node.name}: {role} must have at least one element on an array of floats, not "
                                   f"shape {shape}")

    @property
    def operator(self) -> Any:
        """The node's operator."""
        return self.node.operator

    def shape(self, role: str) -> tuple[int, ...]:
        """Shape of an input or output."""
        return tuple(self.context.graph.tensors[(self.node.inputs | self.node.outputs)[role]].shape)

    def number(self, role: str) -> float | None:
        """The number that an input is for all elements, if it is known when the program is made."""
        value = self.context.constant(self.node.inputs[role])
        if value is None or value.size != 1 or value.dtype.kind != "f":
            return None
        return float(value.item())

    def located(self, role: str) -> Located:
        """Where an input stands; a constant is put there as it is."""
        name, context = self.node.inputs[role], self.context
        if name not in context.located:
            context.locate(name, value=context.graph.constants[name])
        return context.located[name]

    def places(self, role: str) -> np.ndarray:
        """Element of the buffer that holds each element of an input, of its shape."""
        return self.located(role).layout.positions()

    def source(self, role: str, places: np.ndarray) -> Elements:
        """Elements of an input at some places of its buffer: (steps or 1, units or 1)."""
        return Elements(self.located(role).buffer, places)

    def layout(self, role: str) -> Layout:
        """Layout of an output: what is wanted, or that of the first input of its shape with strides, or the usual."""
        shape, wanted = self.shape(role), self.context.wanted.get(self.node.outputs[role])
        if wanted is not None:
            return wanted
        for other, name in self.node.inputs.items():
            found = self.context.located.get(name)
            if self.shape(other) == shape and found is not None and found.layout.strides() is not None:
                return found.layout
        return Layout.of(shape)

    def result(self, role: str, places: np.ndarray | None = None, layout: Layout | None = None) -> Elements:
        """Elements of an output, made for it: all, as they stand in memory, one for each unit, or at some places."""
        buffer = self.context.result(self.node, layout or self.layout(role), role)
        return Elements(buffer, np.arange(buffer.size)[None] if places is None else places)

    def constants(self, name: str, values: np.ndarray) -> Buffer:
        """Buffer of words that are known when the program is made."""
        buffer = Buffer(f"{self.node.name}:{name}", 1, values.size, 4, values.reshape(-1))
        self.context.made.append(buffer)
        return buffer

    def temporary(self, name: str, size: int) -> Buffer:
        """Buffer of words between two kernels of the node."""
        buffer = Buffer(f"{self.node.name}:{name}", 1, size, 4)
        buffer.expect_stores()
        self.context.made.append(buffer)
        return buffer

    def is_narrow(self, role: str) -> bool:
        """Whether an output has the operands' format."""
        return self.context.graph.tensors[self.node.outputs[role]].dtype.name != "float32"

    def stored(self, lane: Lane, role: str, value: Number) -> None:
        """Let a lane store a number as an element of an output, rounded to the format of that."""
        if self.is_narrow(role):
            value = lane.narrow(value if isinstance(value, Value) else lane.number(value))
        lane.store(role, value)

    def loaded(self, lane: Lane, role: str) -> Number:
        """Element of an input, or the number that it is for all."""
        number = self.number(role)
        return lane.load(role) if number is None else number

    def along(self, axes: Sequence[int], role: str) -> tuple[np.ndarray, tuple[int, ...]]:
        """Places of an input with some axes, in order, as steps and others as units; and the shape of the latter."""
        places = self.places(role)
        kept = [axis for axis in range(places.ndim) if axis not in axes]
        shape = tuple(places.shape[axis] for axis in kept)
        steps = prod(places.shape[axis] for axis in axes)
        return places.transpose(*axes, *kept).reshape(steps, -1), shape

    def spread(self, roles: Sequence[str], shape: tuple[int, ...], order: np.ndarray) -> Mapping[str, Elements]:
        """Inputs that broadcast to a shape, whose elements are units in an order of their numbers."""
        found = {}
        for role in roles:
            if self.number(role) is not None:
                continue
            places = self.places(role)
            if places.size > 1 or prod(shape) == 1:
                places = np.broadcast_to(places, shape).reshape(-1)[order]
            found[role] = self.source(role, places.reshape(1, -1))
        return found

    @staticmethod
    def inside(places: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Places of elements by their numbers, :data:`OUTSIDE` where a number is that."""
        return np.where(indices == OUTSIDE, OUTSIDE, places.reshape(-1)[np.maximum(indices, 0)])
