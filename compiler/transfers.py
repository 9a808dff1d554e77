"""Bodies of LOADs and STOREs: blocks of nested rows between memory and a scratchpad, and rows that are filled."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import prod

from ..hdl.shell.commands import ADDRESS_BITS
from .kernels.regions import Region
from .kernels.views import Buffer, View

__all__ = ["Window", "block", "blocks", "fill", "nested", "pixel_dims", "ranges", "rows"]


_ADDRESSES = 1 << ADDRESS_BITS


def blocks(dram: int, address: int, length: int, dims: list[tuple[int, int, int]]) -> list[dict[str, int]]:
    """Bodies of LOADs or STOREs of nested rows, merged where rows adjoin.

    Parameters
    ----------
    dram, address : int
        Of the first row.
    length : int
        Bytes of a row.
    dims : list of (count, step in memory, step in the scratchpad)
        Up to three, innermost first. A third that is left after merging takes a command for each of its indices.
        Where steps go back in memory they go back in the scratchpad instead, from the end.
    """
    left = []
    for count, far, near in dims:
        if count > 1 and far < 0:
            dram, address, far, near = dram + (count - 1) * far, address + (count - 1) * near, -far, -near
        if count > 1:
            left.append((count, far, near))
    while left and left[0][1] == left[0][2] == length:
        length *= left.pop(0)[0]
    while len(left) > 1 and left[1][1:] == (left[0][0] * left[0][1], left[0][0] * left[0][2]):
        left[:2] = [(left[0][0] * left[1][0], *left[0][1:])]
    if len(left) > 2:
        *inner, (count, far, near) = left
        return [body for index in range(count)
                for body in blocks(dram + index * far, address + index * near, length, inner)]
    (count1, far1, near1), (count2, far2, near2) = left + [(1, 0, 0)] * (2 - len(left))
    return [{"dram": dram, "address": address, "length": length, "count1": count1, "dram_step1": far1,
             "step1": near1 % _ADDRESSES, "count2": count2, "dram_step2": far2, "step2": near2 % _ADDRESSES}]


def block(*, dram: int = 0, address: int = 0, length: int, dims: list[tuple[int, int, int]]) -> dict[str, int]:
    """Body of a LOAD or STORE of nested rows that one command takes; see :func:`blocks`."""
    (body,) = blocks(dram, address, length, dims)
    return body


def fill(value: int, item: int, *, address: int, length: int, dims: list[tuple[int, int]]) -> list[dict[str, int]]:
    """Bodies of LOADs that fill rows of `length` operands with one operand, addresses and steps in bytes."""
    parts = [(value >> 8 * byte) & 255 for byte in range(item)]
    if len(set(parts)) == 1:
        nested = [(count, step, step) for count, step in dims]
        body = block(address=address, length=length * item, dims=nested)
        return [body | {"fill": 1, "value": parts[0], "dram_step1": 0, "dram_step2": 0}]
    bodies = []
    (count, step), *others = dims or [(1, 0)]
    # One byte at a time: rows of the outer dimensions are walked here, they are few.
    for outer in product(*([index * step for index in range(count)] for count, step in reversed(others))):
        for byte, part in enumerate(parts):
            bodies.append({"fill": 1, "value": part, "address": address + sum(outer) + byte, "length": 1,
                           "count1": length, "step1": item, "count2": count, "step2": step})
    return bodies


def ranges(dims: list[tuple[int, int]], first: int, end: int) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
    """Cut a range of nested loops into nested loops: first number, distance from loop 0's element, and dimensions.

    Parameters
    ----------
    dims : list of (count, step)
        Loops, innermost first.
    first, end : int
        Numbers of the first iteration, and of that behind the last.
    """
    if first >= end:
        return
    if len(dims) == 1:
        yield first, first * dims[0][1], [(end - first, dims[0][1])]
        return
    *inner, (_, step) = dims
    size = prod(count for count, _ in inner)
    low, high = -(-first // size), end // size
    parts = [(first, end)] if high < low else [(first, low * size), (low * size, high * size), (high * size, end)]
    for place, (start, stop) in enumerate(parts):
        if place == 1 and start < stop:
            yield start, low * step, [*inner, (high - low, step)]
            continue
        outer = start // size
        for number, far, found in ranges(inner, start - outer * size, stop - outer * size):
            yield outer * size + number, outer * step + far, [*found, (1, step)]


def rows(dims: list[tuple[int, int]], first: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Cut a range as :func:`ranges` into parts of the innermost loop: first number, distance, and count."""
    while first < end:
        count = min(end - first, dims[0][0] - first % dims[0][0])
        far, rest = 0, first
        for size, step in dims:
            far, rest = far + rest % size * step, rest // size
        yield first, far, count
        first += count


def nested(dims: list[tuple[int, int]], item: int, near: int) -> list[tuple[int, int, int]]:
    """Dimensions of a block of loops over elements of `item` bytes, whose iterations stand `near` bytes apart."""
    found = []
    for count, step in dims:
        found.append((count, step * item, near))
        near *= count
    return found


def pixel_dims(y: View, region: Region, pitch: int, line: int | None = None) -> list[tuple[int, int, int]]:
    """Dimensions of a block of the pixels of a region of `y`, which stand `pitch` bytes apart in a scratchpad.

    Rows of pixels are `line` pixels apart there, if not as many as there are in one.
    """
    item, columns, rows = y.buffer.item, region.columns, region.rows
    line = columns if line is None else line
    return [(columns, y.stride("w") * item, pitch), (rows, y.stride("h") * item, line * pitch),
            (region.images, y.stride("n") * item, rows * line * pitch)]


@dataclass(frozen=True)
class Window:
    """A part of a tensor's images as it stands in a scratchpad, padding included.

    Parameters
    ----------
    x : View
        Tensor, with axes ``n, h, w, c``.
    images, rows, columns : (int, int, int)
        First index, which may lie outside, distance, and number of images, rows and columns.
    image, line, pixel : int
        Distances of images, rows and pixels in the scratchpad, in operands.
    base : int
        Operand of the scratchpad at which the first pixel stands.
    """

    x: View
    images: tuple[int, int, int]
    rows: tuple[int, int, int]
    columns: tuple[int, int, int]
    image: int
    line: int
    pixel: int
    base: int = 0

    def inside(self, name: str) -> tuple[int, int]:
        """Rows or columns of the window inside the image: both ends, empty at the window's end if none is."""
        first, step, count = self.rows if name == "h" else self.columns
        low = min(max(-(first // step), 0), count)
        return low, max(min(-((first - self.x.size(name)) // step), count), low)

    def padding(self, channels: int, at: int = 0) -> list[dict[str, int]]:
        """LOADs that fill what lies outside the image, for `channels` of each pixel from `at` on."""
        rows, columns, item = self.inside("h"), self.inside("w"), self.x.item
        loads: list[dict[str, int]] = []

        def pad(rows: tuple[int, int], columns: tuple[int, int]) -> None:
            if rows[0] < rows[1] and columns[0] < columns[1]:
                loads.extend(fill(
                    self.x.outside, item,
                    address=(self.base + rows[0] * self.line + columns[0] * self.pixel + at) * item,
                    length=(columns[1] - columns[0] - 1) * self.pixel + channels,
                    dims=[(rows[1] - rows[0], self.line * item), (self.images[2], self.image * item)]))

        every = 0, self.columns[2]
        pad((0, rows[0]), every)
        pad(rows, (0, columns[0]))
        pad(rows, (columns[1], self.columns[2]))
        pad((rows[1], self.rows[2]), every)
        return loads

    def copy(self, channel: int, channels: int, at: int = 0) -> tuple[list[dict[str, int]],
                                                                      list[tuple[Buffer, int, int]]]:
        """LOADs of some channels of each pixel inside the image to place `at` of it, and the elements they read."""
        rows, columns, x, item = self.inside("h"), self.inside("w"), self.x, self.x.item
        if rows[0] == rows[1] or columns[0] == columns[1]:
            return [], []

        def pixel(image: int, row: int, column: int) -> int:
            return x.element(n=self.images[0] + image * self.images[1], h=self.rows[0] + row * self.rows[1],
                             w=self.columns[0] + column * self.columns[1])

        first = pixel(0, rows[0], columns[0])
        dims = [(columns[1] - columns[0], self.columns[1] * x.stride("w"), self.pixel),
                (rows[1] - rows[0], self.rows[1] * x.stride("h"), self.line),
                (self.images[2], self.images[1] * x.stride("n"), self.image)]
        ends = [(count - 1) * far for count, far, _ in dims]
        near = (self.base + rows[0] * self.line + columns[0] * self.pixel + at) * item
        loads = blocks(x.buffer.address + (first + channel) * item, near, channels * item,
                       [(count, far * item, step * item) for count, far, step in dims])
        return loads, [x.span(first + sum(min(end, 0) for end in ends),
                              first + sum(max(end, 0) for end in ends) + x.size("c"))]
