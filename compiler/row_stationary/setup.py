"""Setup of the array: which PE belongs to which set, its tags, and the lines of the filter buffer that say so."""

from dataclasses import dataclass

import numpy as np
from amaranth.hdl import Shape

from ...hdl.row_stationary.config import RowStationaryConfig
from ...hdl.row_stationary.row import ArrayShape, array_shape

__all__ = ["Placement", "decode_setups", "setup_lines", "setup_size"]


@dataclass(frozen=True)
class Placement:
    """PE sets of passes.

    Parameters
    ----------
    height, e : int
        Rows and columns of a set: filter rows of a pass, and ofmap rows.
    groups, t, r : int
        Sets on different groups of channels, on different filters of a group, and on different channels of a filter.
        The last ones stand above one another, since sums go up through them.
    step, dilation : int
        Lines of ifmap, of those that a pass reads, between two ofmap rows and between two filter rows.
    """

    height: int
    e: int
    groups: int
    t: int
    r: int
    step: int
    dilation: int


def setup_size(config: RowStationaryConfig) -> int:
    """Lines that a setup of the array takes."""
    return config.pes * _setup_bytes(config) // config.line_bytes


def _setup_bytes(config: RowStationaryConfig) -> int:
    """Bytes of one PE's lines."""
    return -(-_bits(config) // (8 * config.line_bytes)) * config.line_bytes


def _bits(config: RowStationaryConfig) -> int:
    return int(Shape.cast(_shape(config).setup).width)


def _shape(config: RowStationaryConfig) -> ArrayShape:
    return array_shape(config)


def setup_lines(placement: Placement, config: RowStationaryConfig) -> bytes:
    """Lines of the filter buffer that set the array up, the last PE of the last row first.

    A chain is a column of sets, whose sums are added. Chains (group, t, ofmap row), numbered in this order, stand
    beside one another, and go on in the rows below where the array is full.
    """
    rows, cols = config.array.rows, config.array.cols
    layout = _shape(config).setup
    part = _setup_bytes(config)
    tall = placement.height * placement.r
    grid = [[0] * cols for _ in range(rows)]

    def field(name: str, value: int, inner: str | None = None) -> int:
        at = layout[name]
        offset = at.offset + (at.shape[inner].offset if inner else 0)
        return value << int(offset)

    for chain in range(placement.groups * placement.t * placement.e):
        block, j = divmod(chain, placement.e)
        for above in range(tall):
            r, i = divmod(above, placement.height)
            grid[chain // cols * tall + above][chain % cols] = (
                field("active", 1) | field("top", int(above == 0)) | field("bottom", int(above == tall - 1))
                | field("ifmap", block // placement.t * placement.r + r, "row")
                | field("ifmap", placement.step * j + placement.dilation * i, "col")
                | field("filters", block * placement.r + r, "row") | field("filters", i, "col")
                | field("psums", block, "row") | field("psums", j, "col"))
    return b"".join(setup.to_bytes(part, "little") for row in reversed(grid) for setup in reversed(row))


def decode_setups(data: bytes, config: RowStationaryConfig) -> dict[str, np.ndarray]:
    """Fields of all PEs' setups, arrays of shape (rows, cols), from the bytes of :func:`setup_lines`."""
    layout = _shape(config).setup
    part = _setup_bytes(config)
    values = [int.from_bytes(data[start:start + part], "little") for start in range(0, len(data), part)][::-1]

    def bits(offset: int, shape: object) -> np.ndarray:
        width = int(Shape.cast(shape).width)  # type: ignore[arg-type]
        taken = [value >> offset & (1 << width) - 1 for value in values]
        return np.array(taken).reshape(config.array.rows, config.array.cols)

    fields: dict[str, np.ndarray] = {}
    for name in ("active", "top", "bottom"):
        fields[name] = bits(layout[name].offset, layout[name].shape)
    for name in ("ifmap", "filters", "psums"):
        for inner in ("row", "col"):
            at = layout[name].shape[inner]
            fields[f"{name}_{inner}"] = bits(layout[name].offset + at.offset, at.shape)
    return fields
