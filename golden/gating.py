"""How many products of a row-stationary layer meet an ifmap word that is zero, in closed form over the windows."""

import numpy as np
import numpy.typing as npt

from .row_stationary import LayerMapping, Part
from .tensors import Array, four_sides

__all__ = ["accesses", "gated_products"]


def gated_products(mapped: LayerMapping, ifmap: Array, resident: bool = False) -> int:
    """Count the products of all passes whose ifmap word is zero.

    An ifmap word meets as many products as there are windows and filter rows that see it, times the filters of all
    PEs. So each part of the contraction is a weighted sum of where the ifmap is zero: weights of rows are the PEs
    (ofmap row, filter row) that get a row, weights of columns the places in windows that see a column.

    Parameters
    ----------
    mapped : LayerMapping
        The layer and its mapping.
    ifmap : (N, C, H, W) integer array
        Ifmaps without the layer's padding, less their zero point.
    resident : bool
        Whether a tile of ifmaps holds all channels of a group, and not only those of the part. This matters
        where PEs hold channels beyond the last: they get what follows in the tile [image][row][column][channel],
        words of the next column, and zeros behind the tile.
    """
    layer, t = mapped.layer, mapped.mapping.t
    p = sum(filters.p for block in mapped.blocks for filters in block.filters)
    total = 0
    for group in range(layer.groups):
        first = group * mapped.per_group[0]
        frame = _frame(mapped, ifmap[:, first:first + mapped.per_group[0]])
        total += sum(_zeros(mapped, frame, part, resident) for part in mapped.parts)
    return total * p * t


def _frame(mapped: LayerMapping, ifmap: Array) -> npt.NDArray[np.bool_]:
    """Where ifmaps of a group (N, C, H, W) are zero, in the rows and columns that passes read: (N, H', W', C)."""
    top, left = four_sides(mapped.layer.padding)[:2]
    rows = max(mapped.stride[0] * strip.first + mapped.tile_lines(strip.size) for strip in mapped.strips)
    frame = np.ones((ifmap.shape[0], rows, mapped.tile_columns, mapped.per_group[0]), bool)
    seen = ifmap[:, :, :rows - top, :mapped.tile_columns - left].transpose(0, 2, 3, 1) == 0
    frame[:, top:top + seen.shape[1], left:left + seen.shape[2], :seen.shape[3]] = seen
    return frame


def _zeros(mapped: LayerMapping, frame: npt.NDArray[np.bool_], part: Part, resident: bool) -> int:
    """Zeros that the PEs of one filter meet in a part, if each PE had one filter."""
    held = part.q * mapped.mapping.r
    dilation = mapped.dilation
    step = mapped.stride[0]
    starts = np.arange(mapped.layer.output[2])[:, None] * part.stride + np.arange(part.taps)
    columns = np.bincount((part.column * dilation[1] + starts * part.pitch).reshape(-1), minlength=frame.shape[2])
    lines = (part.row + np.arange(mapped.height)) * dilation[0]
    if held == part.channels:
        own = frame[..., part.channel:part.channel + held].sum((0, 3))
        seen = step * np.arange(mapped.layer.output[1])[:, None] + lines
        return int(np.bincount(seen.reshape(-1), minlength=frame.shape[1]) @ own @ columns)
    total = 0
    for strip in mapped.strips:
        seen = step * np.arange(strip.size)[:, None] + lines
        rows = np.bincount(seen.reshape(-1), minlength=mapped.tile_lines(strip.size))
        begin = mapped.stride[0] * strip.first
        for together in mapped.images:
            for image, images in mapped.pass_images(together):
                tile = frame[image:image + images, begin:begin + len(rows)]
                channel = part.channel
                if not resident:
                    tile, channel = tile[..., channel:channel + part.channels], 0
                flat = np.append(tile.reshape(-1), np.ones(held, bool))
                pixels = np.arange(tile[..., 0].size)[:, None] * tile.shape[3] + channel + np.arange(held)
                own = flat[pixels].sum(1).reshape(tile.shape[:3]).sum(0)
                total += int(rows @ own @ columns)
    return total


def accesses(mapped: LayerMapping, ifmap: Array, *, bias: bool = True, resident: bool = False) -> dict[str, int]:
    """Predict every counter of the array and its buses for a layer, by the names of a profile record.

    Parameters
    ----------
    mapped, ifmap, resident
        As for :func:`gated_products`.
    bias : bool
        Whether the sums of a block begin at biases in the global buffer.

    Returns
    -------
    dict
        ``macs``, ``gated``, ``active_pes``, and what :meth:`.LayerMapping.counts` has but ``products``.
    """
    counts = mapped.counts(bias)
    gated = gated_products(mapped, ifmap, resident)
    return {"macs": counts.pop("products") - gated, "gated": gated, "active_pes": mapped.active_pes} | counts
