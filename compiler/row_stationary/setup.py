"""Setup of the array: which PE belongs to which set, its tags, and the lines of the filter buffer that say so."""

from dataclasses import dataclass

import numpy as np

from ...hdl.row_stationary.config import RowStationaryConfig
from ...hdl.row_stationary.row import array_shape

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


def _fields(config: RowStationaryConfig) -> dict[str, tuple[int, int]]:
    """Offset and width of each field of a PE's setup; a tag is two."""
    layout = array_shape(config).setup
    fields = {name: (layout[name].offset, layout[name].width) for name in ("active", "top", "bottom")}
    for name in ("ifmap", "filters", "psums"):
        tag = layout[name]
        fields |= {f"{name}_{part}": (tag.offset + at.offset, at.width) for part, at in tag.shape}
    return fields


def _pe_bytes(config: RowStationaryConfig) -> int:
    """Bytes of one PE's lines."""
    return -(-array_shape(config).setup.size // (8 * config.line_bytes)) * config.line_bytes


def setup_size(config: RowStationaryConfig) -> int:
    """Lines that a setup of the array takes."""
    return config.pes * _pe_bytes(config) // config.line_bytes


def setup_lines(placement: Placement, config: RowStationaryConfig) -> bytes:
    """Lines of the filter buffer that set the array up, the last PE of the last row first.

    A chain is a column of sets, whose sums are added. Chains (group, t, ofmap row), numbered in this order, stand
    beside one another, and go on in the rows below where the array is full.
    """
    fields, cols = _fields(config), config.array.cols
    tall = placement.height * placement.r
    grid = [[0] * cols for _ in range(config.array.rows)]
    for chain in range(placement.groups * placement.t * placement.e):
        block, j = divmod(chain, placement.e)
        for above in range(tall):
            r, i = divmod(above, placement.height)
            values = {
                "active": 1, "top": above == 0, "bottom": above == tall - 1,
                "ifmap_row": block // placement.t * placement.r + r,
                "ifmap_col": placement.step * j + placement.dilation * i,
                "filters_row": block * placement.r + r, "filters_col": i, "psums_row": block, "psums_col": j}
            grid[chain // cols * tall + above][chain % cols] = sum(
                int(value) << fields[name][0] for name, value in values.items())
    return b"".join(setup.to_bytes(_pe_bytes(config), "little") for row in reversed(grid) for setup in reversed(row))


def decode_setups(data: bytes, config: RowStationaryConfig) -> dict[str, np.ndarray]:
    """Fields of all PEs' setups, arrays of shape (rows, cols), from the bytes of :func:`setup_lines`."""
    size = _pe_bytes(config)
    values = [int.from_bytes(data[start:start + size], "little") for start in range(0, len(data), size)][::-1]
    return {name: np.array([value >> offset & (1 << width) - 1 for value in values]).reshape(
        config.array.rows, config.array.cols) for name, (offset, width) in _fields(config).items()}
