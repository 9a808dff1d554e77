"""Operands of kernels: named buffers in memory, and strided views of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

__all__ = ["Axis", "Buffer", "View"]


@dataclass(eq=False)
class Buffer:
    """A region of memory that holds a tensor, as rows of equal length.

    Rows are the grain in which it is known what has been stored. A buffer that no program stores to holds its values
    from the beginning: inputs and constants.

    Parameters
    ----------
    name : str
        Name of the tensor.
    rows, columns : int
        Rows, and elements of each.
    item : int
        Bytes of an element.
    values : ndarray or None
        Elements of a constant, in the order of memory.

    Members
    -------
    address : int
        First byte, once it has been placed.
    """

    name: str
    rows: int
    columns: int
    item: int
    values: np.ndarray | None = None
    address: int = -1
    #: For each row, elements for which no STORE has been emitted yet, and the latest STORE so far; None: never stored.
    _missing: np.ndarray | None = None
    _ordinal: np.ndarray | None = None

    @property
    def size(self) -> int:
        """Elements."""
        return self.rows * self.columns

    @property
    def nbytes(self) -> int:
        """Bytes."""
        return self.size * self.item

    @property
    def is_made(self) -> bool:
        """Whether the program stores it."""
        return self._missing is not None

    def expect_stores(self) -> None:
        """Declare that STOREs will write all of it."""
        self._missing = np.full(self.rows, self.columns, np.int32)
        self._ordinal = np.zeros(self.rows, np.int32)

    def note_store(self, rows: slice | np.ndarray, elements: int, ordinal: int) -> None:
        """Record a STORE of some elements of each of some rows."""
        if self._missing is not None and self._ordinal is not None:
            if isinstance(rows, slice):
                self._missing[rows] -= elements
            else:
                # Several pixels may lie in one row.
                np.subtract.at(self._missing, rows, elements)
            self._ordinal[rows] = ordinal

    def ready(self, first: int, end: int) -> int | None:
        """STORE to wait for before elements first..end can be read, or None if one is not yet emitted."""
        if self._missing is None or first >= end:
            return 0
        assert self._ordinal is not None
        rows = slice(first // self.columns, -(-end // self.columns))
        if self._missing[rows].any():
            return None
        return int(self._ordinal[rows].max())

    def settle(self) -> None:
        """Forget which STOREs wrote it: whoever comes from now on waits for all of them."""
        if self._ordinal is not None:
            self._ordinal[:] = 0

    def alone(self) -> "Buffer":
        """The same buffer as if no program stored to it."""
        return Buffer(self.name, self.rows, self.columns, self.item, self.values, self.address)


@dataclass(frozen=True)
class Axis:
    """Axis of a view: its name, how many elements it has, and how far one is from the next."""

    name: str
    size: int
    stride: int


@dataclass(frozen=True)
class View:
    """Elements of a buffer, each axis at its own stride.

    Parameters
    ----------
    buffer : Buffer
        Where they stand.
    axes : tuple of Axis
        Axes.
    offset : int
        Element of the buffer at which all indices are zero.
    outside : int
        What elements read as whose index lies outside an axis: padding.
    is_bytes : bool
        Whether its elements are the bytes of those of the buffer, the lowest first.
    """

    buffer: Buffer
    axes: tuple[Axis, ...]
    offset: int = 0
    outside: int = 0
    is_bytes: bool = False

    @classmethod
    def rows(cls, buffer: Buffer, names: Sequence[str], sizes: Sequence[int], outside: int = 0) -> "View":
        """View of a whole buffer, the last axis innermost."""
        strides = [int(np.prod(sizes[axis + 1:], dtype=np.int64)) for axis in range(len(sizes))]
        return cls(buffer, tuple(map(Axis, names, sizes, strides)), 0, outside)

    def as_row(self) -> "View":
        """Images that are a whole buffer as one long row of their pixels."""
        channels = self.size("c")
        return View.rows(self.buffer, "nhwc", (1, 1, self.buffer.size // channels, channels), self.outside)

    def axis(self, name: str) -> Axis:
        """Axis of a name."""
        for axis in self.axes:
            if axis.name == name:
                return axis
        raise KeyError(name)

    def size(self, name: str) -> int:
        """Elements of an axis."""
        return self.axis(name).size

    def stride(self, name: str) -> int:
        """Distance of elements along an axis."""
        return self.axis(name).stride

    def loops(self, names: str) -> list[tuple[int, int]]:
        """Sizes and strides of axes, those that it has not left out."""
        return [(axis.size, axis.stride) for name in names for axis in self.axes if axis.name == name]

    @property
    def name(self) -> str:
        """Name of the buffer."""
        return self.buffer.name

    @property
    def item(self) -> int:
        """Bytes of an element."""
        return 1 if self.is_bytes else self.buffer.item

    @property
    def parts(self) -> int:
        """Elements that one of the buffer is read as."""
        return self.buffer.item // self.item

    @property
    def address(self) -> int:
        """First byte of the element at which all indices are zero."""
        return self.buffer.address + self.offset * self.item

    @property
    def is_whole(self) -> bool:
        """Whether it has as many elements as the buffer."""
        return prod(axis.size for axis in self.axes) == self.buffer.size * self.parts

    def span(self, first: int, end: int) -> tuple[Buffer, int, int]:
        """Elements of the buffer that those from `first` to `end` lie in."""
        return self.buffer, first // self.parts, -(-end // self.parts)

    def as_bytes(self) -> "View":
        """The bytes of its elements, those of one side by side along its last axis, whose stride must be 1.

        Raises
        ------
        AssertionError
            If elements of the last axis do not follow one another, or it is a view of bytes already.
        """
        if self.is_bytes or self.axes[-1].stride != 1:
            raise AssertionError(f"{self} can't be read as bytes: its last axis must have stride 1, and its elements "
                                 "must be those of the buffer")
        parts = self.buffer.item
        *outer, last = (replace(axis, stride=axis.stride * parts) for axis in self.axes)
        return replace(self, axes=(*outer, Axis(last.name, last.size * parts, 1)), offset=self.offset * parts,
                       is_bytes=True)

    def part(self, name: str, first: int, size: int, step: int = 1) -> "View":
        """View of some elements along an axis."""
        chosen = self.axis(name)
        axes = tuple(Axis(name, size, axis.stride * step) if axis is chosen else axis for axis in self.axes)
        return replace(self, axes=axes, offset=self.offset + first * chosen.stride)

    def renamed(self, *names: str) -> "View":
        """Return the same view with other names of its axes, in order; where there are more, of one element each."""
        sizes = [(axis.size, axis.stride) for axis in self.axes]
        padded = [(1, 0)] * (len(names) - len(sizes)) + sizes
        return replace(self, axes=tuple(Axis(name, *size) for name, size in zip(names, padded, strict=True)))

    def alone(self) -> "View":
        """The same view of a buffer that no program stores to."""
        return replace(self, buffer=self.buffer.alone())

    def element(self, **indices: int) -> int:
        """Element of the buffer at some indices; those that are left out are zero."""
        return self.offset + sum(index * self.stride(name) for name, index in indices.items())

    def rows_of(self, name: str, first: int, end: int) -> tuple[Buffer, int, int]:
        """Elements of the buffer from index `first` to `end` of an axis on, with all of the axes inside it."""
        step = self.stride(name)
        rest = sum((axis.size - 1) * axis.stride for axis in self.axes if axis.stride < step)
        return self.span(self.offset + first * step, self.offset + (end - 1) * step + rest + 1)

    def is_dense(self, *names: str) -> bool:
        """Whether elements along these axes, outermost first, follow one another at the stride of the last."""
        last = self.axis(names[-1])
        step = last.stride * last.size
        for axis in map(self.axis, names[-2::-1]):
            if axis.size > 1 and axis.stride != step:
                return False
            step *= axis.size
        return True

    def __str__(self) -> str:
        axes = ", ".join(f"{axis.name}:{axis.size}@{axis.stride}" for axis in self.axes if axis.size > 1)
        return f"{self.name}+{self.offset}[{axes}]"
