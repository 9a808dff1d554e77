"""The graph made of a file's operators, and the register of those that are known.

Tensors have the file's names and shapes, in which images are NHWC. Operators here take images as NCHW, which stand in
memory with their channels last: bytes are in the file's order in either shape, so one is a view of the other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ....hdl.errors import PearrayError
from ...graph.graph import Node, Tensor
from ...operators import Pad, Reshape, Transpose
from ...operators.fields import one_scale
from ...operators.operator import Operator
from ..building import GraphBuilder
from .file import FileOperator, FileTensor, TfliteFile

__all__ = ["BYTES", "HANDLERS", "SEVERAL", "WORDS", "Builder", "Padded", "Stored", "handles", "image_axis",
           "natural_order"]

Shape = tuple[int, ...]

#: Axes of an image in the file's order as ours, and back.
_TO_IMAGE, _FROM_IMAGE = (0, 3, 1, 2), (0, 2, 3, 1)


#: Types of activations by the schema's names: those of 8 bits, and those that contractions and windows take.
BYTES = ("INT8", "UINT8")
WORDS = (*BYTES, "INT16")

_INT16 = ("16 bits are for convolutions, matrix products, sums, differences and products of two tensors, poolings and "
          "what moves elements; functions of one tensor are tables, which have 8")


class Stored(NamedTuple):
    """How a quantised tensor is stored: scale, and zero point in the tensor's type."""

    scale: float
    zero_point: Any

    @property
    def dtype(self) -> np.dtype:
        """Type of the tensor."""
        return np.dtype(self.zero_point.dtype)


class Padded(NamedTuple):
    """A tensor that is padded: its number, elements added before and behind each axis, and their stored value."""

    source: int
    sides: tuple[tuple[int, int], ...]
    value: int


@dataclass(kw_only=True)
class Builder(GraphBuilder):
    """Graph under construction; tensors are known by their numbers in the file.

    Parameters
    ----------
    file : TfliteFile
        The file.
    batches : (int, int) or None
        First dimension that the file gives to its inputs, and the one wanted instead.
    is_batch_free : bool
        Whether the file leaves that dimension free: shapes that its operators are given are then meant as they are.
    values : dict of int to ndarray
        Tensors that are known, of the file or computed from others.
    hosts : bool
        Whether the host computes what no program does, where it is known how.
    padded : dict of int to Padded
        Tensors that are others padded, which are made only if somebody needs more than the padding.
    """

    file: TfliteFile
    batches: tuple[int, int] | None = None
    is_batch_free: bool = False
    values: dict[int, np.ndarray] = field(default_factory=dict)
    hosts: bool = False
    padded: dict[int, Padded] = field(default_factory=dict)
    _images: dict[tuple[int, Shape], str] = field(default_factory=dict)
    #: Constants made of the file's, by number and use.
    _kept: dict[tuple[int, str], str] = field(default_factory=dict)

    def keep(self, number: int, use: str, value: np.ndarray) -> str:
        """Name of a constant that is made of one of the file's, and serves all that use that in this way."""
        if (number, use) not in self._kept:
            self._kept[number, use] = self.store(f"{self.file.tensors[number].name}:{use}", np.ascontiguousarray(value))
        return self._kept[number, use]

    def of(self, operator: FileOperator, place: int, role: str) -> int:
        """Number of an input, which must be there."""
        if place >= len(operator.inputs) or operator.inputs[place] < 0:
            raise PearrayError(f"{role}, its input {place}, is missing")
        return operator.inputs[place]

    def entry(self, number: int) -> FileTensor:
        """What the file says of a tensor, all of which must be read."""
        tensor = self.file.tensors[number]
        if tensor.note:
            raise PearrayError(f"{tensor.name!r}: {tensor.note}")
        return tensor

    def shape(self, number: int) -> Shape:
        """Shape of a tensor, in the file's order."""
        if number in self.values:
            return tuple(self.values[number].shape)
        if number in self.padded:
            source, sides, _ = self.padded[number]
            return tuple(size + sum(side) for size, side in zip(self.shape(source), sides, strict=True))
        return self.tensor(self.entry(number).name).shape

    def known(self, operator: FileOperator, place: int, role: str) -> np.ndarray:
        """Value of an input that must be known when a program is compiled."""
        number = self.of(operator, place, role)
        if number not in self.values:
            self.entry(number)
            raise PearrayError(f"{role} must be a constant, not what is computed in {self.file.tensors[number].name!r}")
        return self.values[number]

    def integers(self, operator: FileOperator, place: int, role: str) -> list[int]:
        """Integers of an input that must be known."""
        value = self.known(operator, place, role)
        if value.dtype.kind not in "iu":
            raise PearrayError(f"{role} must be integers, not {value.dtype}")
        return [int(item) for item in value.reshape(-1)]

    def option(self, operator: FileOperator, name: str) -> Any:
        """Return one of an operator's options, which must be there."""
        if operator.options is None:
            raise PearrayError(f"its options are missing, of which {name} is one")
        return operator.options[name]

    def stored(self, number: int, role: str, *allowed: str) -> Stored:
        """How a tensor is stored, which must be of one of some types, by default int8, and have one scale."""
        tensor = self.entry(number)
        if tensor.kind not in (allowed or ("INT8",)):
            names = " or ".join(allowed or ("INT8",)).lower()
            hint = ": convert the model to int8" if tensor.kind in ("UINT8", "INT16", "INT4") else ""
            why = f" ({_INT16})" if tensor.kind == "INT16" else ""
            raise PearrayError(f"{role} must be {names}, not {tensor.kind.lower()}{hint}{why}")
        if tensor.scale.size != 1:
            raise PearrayError(f"{role} must have one scale, not {tensor.scale.size}")
        return Stored(one_scale(f"scale of {role}", tensor.scale[0]), self.zero_point(tensor, role))

    @staticmethod
    def zero_point(tensor: FileTensor, role: str) -> Any:
        """Return the one zero point of a tensor, in its type."""
        points, dtype = np.unique(tensor.zero_point), tensor.dtype
        assert dtype is not None
        info = np.iinfo(dtype)
        if points.size != 1 or not info.min <= points[0] <= info.max:
            raise PearrayError(f"zero point of {role} must be one integer in {info.min}..{info.max}, "
                               f"not {', '.join(map(str, points))}")
        return dtype.type(points[0])

    def rows(self, number: int, shape: Shape | None = None) -> str:
        """Name of a tensor in the file's order, perhaps as another shape."""
        name = self._made(number)
        if shape is None or shape == self.tensor(name).shape:
            return name
        if number in self.values:
            return self._constant(f"{name}:rows", self.values[number].reshape(shape))
        return self._view(Reshape(shape), name, self.inner(name, "rows"))

    def image(self, number: int, shape: Shape | None = None) -> str:
        """Name of a tensor as images NCHW, perhaps after another shape in the file's order."""
        shape = self.shape(number) if shape is None else shape
        name = self.entry(number).name
        if len(shape) != 4:
            raise PearrayError(f"{name!r} must have 4 dimensions (N, H, W, C), not shape {shape}")
        if (number, shape) not in self._images:
            if number in self.values:
                found = self._constant(f"{name}:image", self.values[number].reshape(shape).transpose(_TO_IMAGE))
            else:
                # What is made as images, if it is now, has its name from there.
                rows = self.rows(number, shape)
                found = self._images.get((number, shape)) or self._view(Transpose(_TO_IMAGE, is_view=True), rows,
                                                                       self.inner(name, "image"))
            self._images[number, shape] = found
        return self._images[number, shape]

    def pad(self, operator: FileOperator, padded: Padded) -> None:
        """Take an operator's output as a tensor with padding, which is made if somebody needs it."""
        number = operator.outputs[0]
        self.padded[number] = padded
        dtype = self.entry(padded.source).dtype
        assert dtype is not None
        self._check(number, self.shape(number), dtype)

    def natural(self, number: int, shape: Shape | None = None) -> str:
        """Name of a tensor, perhaps as another shape, as images if it has 4 dimensions, else in the file's order."""
        shape = self.shape(number) if shape is None else shape
        return self.image(number, shape) if len(shape) == 4 else self.rows(number, shape)

    def make(self, operator: FileOperator, made: Operator, inputs: dict[str, str], shape: Shape | None = None) -> None:
        """Append what makes the output of an operator, in the file's order, perhaps under another shape."""
        own, dtype = self._infer(made, inputs)
        if shape in (None, own):
            self._check(operator.outputs[0], own, dtype)
            self._append(made, inputs, self.file.tensors[operator.outputs[0]].name)
        else:
            self.finish(operator, self.append(operator, made, inputs), shape)

    def append(self, operator: FileOperator, made: Operator, inputs: dict[str, str], what: str = "result") -> str:
        """Append an operator on the way to the output of the file's operator; return the name of what it makes."""
        output = self.file.tensors[operator.outputs[0]].name
        return self._append(made, inputs, self.inner(output, what), output if what == "result" else "")

    def finish(self, operator: FileOperator, name: str, shape: Shape | None = None) -> None:
        """Give a tensor that has been appended in the file's order the name and the shape of an operator's output."""
        self.finish_as(operator.outputs[0], name, shape)

    def finish_as(self, number: int, name: str, shape: Shape | None = None) -> None:
        """Give a tensor that has been appended in the file's order the name of one of the file's, and a shape."""
        target = self.tensor(name).shape if shape is None else shape
        self._check(number, target, self.tensor(name).dtype)
        self._view(Reshape(target), name, self.file.tensors[number].name)

    def make_image(self, operator: FileOperator, made: Operator, inputs: dict[str, str],
                   shape: Shape | None = None) -> None:
        """Append what makes the output of an operator as images, whose shape in the file may be another."""
        self.finish_image(operator, self.append(operator, made, inputs), shape)

    def finish_image(self, operator: FileOperator, name: str, shape: Shape | None = None) -> None:
        """Give images that have been appended the name and the shape of an operator's output."""
        number, tensor = operator.outputs[0], self.tensor(name)
        own = tuple(tensor.shape[axis] for axis in _FROM_IMAGE)
        target, output = own if shape is None else shape, self.file.tensors[number].name
        self._check(number, target, tensor.dtype)
        self._images[number, own] = name
        if target == own:
            self._view(Transpose(_FROM_IMAGE, is_view=True), name, output)
        else:
            rows = self._view(Transpose(_FROM_IMAGE, is_view=True), name, self.inner(output, "rows"))
            self._view(Reshape(target), rows, output)

    def make_natural(self, operator: FileOperator, made: Operator, inputs: dict[str, str],
                     shape: Shape | None = None) -> None:
        """Append what makes the output of an operator of inputs that are as :meth:`natural` has them."""
        name = self.append(operator, made, inputs)
        (self.finish_image if len(self.tensor(name).shape) == 4 else self.finish)(operator, name, shape)

    def check_same(self, x: int, y: int) -> None:
        """Check that two tensors are stored in one way, as those are of which one has bytes of the other."""
        a, b = self.entry(x), self.entry(y)
        if not (a.kind == b.kind and np.array_equal(a.scale, b.scale) and np.array_equal(a.zero_point, b.zero_point)):
            raise PearrayError(f"{b.name!r} must be stored as {a.name!r}, {_storage(a)}, not {_storage(b)}")

    def declare(self, operator: FileOperator) -> None:
        """Take the outputs of an operator that cannot be mapped as the file has them, for those that read them."""
        for number in operator.outputs:
            tensor = self.file.tensors[number]
            self.tensors.setdefault(tensor.name, Tensor(
                tensor.name, self.with_batch(tensor.shape), tensor.dtype or np.dtype(np.int8)))

    def with_batch(self, shape: Shape) -> Shape:
        """Return a shape of the file with the batch that is wanted."""
        if self.batches and shape and shape[0] == self.batches[0]:
            return (self.batches[1], *shape[1:])
        return shape

    def target(self, shape: Shape) -> Shape:
        """Return a shape that an operator of the file is given, with the batch that is wanted if the file fixes one."""
        return shape if self.is_batch_free else self.with_batch(shape)

    def _infer(self, made: Operator, inputs: dict[str, str]) -> tuple[Shape, np.dtype]:
        return made.infer({role: self.tensor(given) for role, given in inputs.items()})["y"]

    def _append(self, made: Operator, inputs: dict[str, str], name: str, label: str = "") -> str:
        self.tensors[name] = Tensor(name, *self._infer(made, inputs))
        self.nodes.append(Node(label or name, made, inputs, {"y": name}))
        return name

    def _view(self, made: Operator, source: str, name: str) -> str:
        return self._append(made, {"x": source}, name)

    def _constant(self, name: str, value: np.ndarray) -> str:
        return self.store(name, np.ascontiguousarray(value))

    def _made(self, number: int) -> str:
        """Name of a tensor in the file's order, which is made if it is known or others with padding."""
        tensor = self.entry(number)
        if number in self.values:
            self.constants.setdefault(tensor.name, self.values[number])
        elif number in self.padded and tensor.name not in self.tensors:
            self._pad(number)
        return tensor.name

    def _pad(self, number: int) -> None:
        """Make a tensor with its padding."""
        source, sides, value = self.padded[number]
        operator, shape = FileOperator("PAD", -1, [source], [number]), self.shape(source)
        ends = [place for side in (0, 1) for place in natural_order(shape, [each[side] for each in sides])]
        self.make_natural(operator, Pad(tuple(ends), value=value), {"x": self.natural(source)})

    def _check(self, number: int, shape: Shape, dtype: np.dtype) -> None:
        """Check that an output is what the file says."""
        tensor = self.file.tensors[number]
        if tensor.dtype != dtype:
            raise PearrayError(f"its output must be {dtype}, not {tensor.kind.lower()}")
        if self.batches is None and shape != tensor.shape:
            raise PearrayError(f"its output must have shape {shape}, not {tensor.shape}")


def _storage(tensor: FileTensor) -> str:
    return f"{tensor.kind.lower()} of scale {tensor.scale.tolist()} and zero point {tensor.zero_point.tolist()}"


def image_axis(axis: int) -> int:
    """Axis of images here that is one of the file's."""
    return _TO_IMAGE.index(axis)


def natural_order(shape: Shape, values: Sequence[Any]) -> tuple[Any, ...]:
    """Reorder what there is for each axis of a tensor of the file as operators here have axes."""
    return tuple(values[axis] for axis in _TO_IMAGE) if len(shape) == 4 else tuple(values)


Handler = Callable[[FileOperator, Builder], None]
HANDLERS: dict[str, Handler] = {}

#: Operators that may have several outputs.
SEVERAL: set[str] = set()


def handles(*kinds: str, several: bool = False) -> Callable[[Handler], Handler]:
    """Register a function for operators, which may have several outputs."""
    def register(handler: Handler) -> Handler:
        HANDLERS.update(dict.fromkeys(kinds, handler))
        SEVERAL.update(kinds if several else ())
        return handler

    return register

