"""Candidates for the mapping of a layer, the best first by a rough price."""

from collections.abc import Iterator
from itertools import product

import numpy as np

from ...golden.row_stationary import Mapping
from ...hdl.row_stationary.row import tag_bits
from .mapping import IMAGES, LINES, SETS, LayerPlan
from .rough import Columns, RoughPrices

__all__ = ["USES", "Candidates", "cuts"]

#: Uses of the buffers: whether a tile holds all channels, spare tiles, and blocks of psums.
USES = tuple(product((True, False), (1, 0), (2, 1)))

#: Candidates that keep the PEs this many times longer at work than the best are not priced, but for the small ones.
_WASTE = 4

#: Heights of a set, filter columns, channels of a PE, strips and so on that are tried, each.
_FEW, _MORE = 3, 6


def cuts(total: int, limit: int, most: int = 1 << 20) -> list[int]:
    """Sizes of at most `limit` that cut a total into even pieces, the largest first, `most` of them."""
    sizes: list[int] = []
    size = min(total, max(1, limit))
    while size >= 1 and len(sizes) < most:
        size = -(-total // -(-total // size))
        sizes.append(size)
        size -= 1
    return sizes


class Candidates:
    """Mappings of a layer that fit the PEs, and the rough price of each.

    Parameters
    ----------
    start : LayerPlan
        The layer, the accelerator and what is in memory, under any mapping.
    small : bool
        Whether the smallest choices are tried, not the largest.
    """

    def __init__(self, start: LayerPlan, small: bool = False):
        self._start, self._mapped, self._layer, self._config = start, start.mapped, start.mapped.layer, start.config
        self._small, (self._cg, self._ng) = small, start.mapped.per_group

    def best(self, count: int) -> Iterator[LayerPlan]:
        """Yield plans, at most `count`, the cheapest by the rough price first."""
        rows = [item for choice in self._columns() for item in self._mappings(choice)]
        if self._start.traffic.coded_input:
            # A code can't be read from its middle.
            rows = [row for row in rows if row[4] == self._layer.output[1]] or rows
        if not rows:
            return
        table = np.array(rows, np.float64).T
        products = RoughPrices(self._start, table).products
        keep = products <= (np.inf if self._small else _WASTE) * products.min()
        rows = [row for row, kept in zip(rows, keep, strict=True) if kept]
        rough = RoughPrices(self._start, table[:, keep])
        prices, filters = map(np.array, zip(*(rough.of(*use) for use in USES), strict=True))
        for index in np.argsort(prices, axis=None, kind="stable")[:count]:
            which, at = divmod(int(index), len(rows))
            if not np.isfinite(prices[which, at]):
                return
            values = dict(zip(("rows", "columns", "r", "q", "e", "p", "t", "g", "n", "images"), rows[at], strict=False))
            values["rows"] *= values["rows"] != self._layer.r
            values["columns"] *= values["columns"] != self._layer.s
            yield self._start.under(Mapping(m=int(filters[which, at]), **values)).using(*USES[which])

    def _columns(self) -> list[Columns]:
        """Filter columns of a PE."""
        found: list[Columns] = []
        for columns in range(self._layer.s, 0, -1):
            # What fits best, what cuts evenly, and one column, which may leave out those between windows.
            if found and columns != 1 and columns != -(-self._layer.s // -(-self._layer.s // columns)):
                continue
            mapped = self._start.under(
                Mapping(m=1, n=1, e=1, p=1, q=self._cg, r=1, t=1, rows=1, columns=columns)).mapped
            parts = [(part, number // self._layer.r) for part, number in mapped.part_kinds]
            most = max(part.taps for part, _ in parts)
            if most <= self._config.pe.ifmap_words:
                found.append(Columns(columns, sum(number for _, number in parts),
                                      sum(number * part.taps for part, number in parts),
                                      sum(number * mapped.ifmap_columns(part) for part, number in parts), most))
        return found[:_FEW] + found[max(_FEW, len(found) - 1):]

    def _mappings(self, choice: Columns) -> Iterator[tuple[int, ...]]:
        """Parameters, and what is known of the columns."""
        layer, pe = self._layer, self._config.pe
        rows, cols = self._config.array.rows, self._config.array.cols
        seen = set()
        few = self._few
        # Each set has filters for a line of psums, if there are as many.
        widest = pe.filter_words // (choice.most * min(self._config.psum_lanes, self._ng))
        if not widest:
            return
        for height in few(layer.r, rows):
            tallest = min(LINES, self._most_rows(height))
            for r in range(1, min(rows // height, self._cg) + 1):
                chains = cols * (rows // (height * r))
                for q in self._widths(r, min(pe.ifmap_words // choice.most, self._cg // r, widest)):
                    most = min(pe.psum_words, pe.filter_words // (choice.most * q))
                    for e in few(layer.output[1], min(chains, tallest), _MORE):
                        for p, t in self._filters(most, min(chains // e, SETS // r)):
                            whole = layer.groups > 1 and p * t >= self._ng and (r == 1 or q * r == self._cg)
                            room = min(chains // (e * t), SETS // (t * r)) if whole else 1
                            for g in few(layer.groups, room):
                                for n in cuts(self._mapped.batch, IMAGES, _MORE):
                                    for images in cuts(n, n, _FEW):
                                        key = height, choice.columns, r, q, e, p, t, g, n, images % n
                                        if key not in seen:
                                            seen.add(key)
                                            yield *key, choice.parts, choice.taps, choice.read, choice.most

    def _widths(self, r: int, limit: int) -> list[int]:
        """Channels of a PE. Where filters are gathered, those of a line must begin at places of it."""
        sizes = self._few(-(-self._cg // r), limit)
        if not self._start.traffic.gathered:
            return sizes
        lanes = self._config.filter_lanes
        # With one channel, filters side by side in memory are side by side in a line.
        return [max(width for width in range(1, size + 1) if lanes % width == 0) for size in [*sizes, 1]]

    def _few(self, total: int, limit: int, most: int = _FEW) -> list[int]:
        sizes = cuts(total, limit)
        return sizes[-most:] if self._small else sizes[:most]

    def _most_rows(self, height: int) -> int:
        """Most ofmap rows of a set, of which the ifmap rows have tags."""
        tags = min(LINES, 1 << tag_bits(self._config.array.rows, self._config.array.cols)[1])
        step = 1 if height == 1 else self._mapped.stride[0]
        return max(1, (tags - 1 - (height > 1) * self._mapped.dilation[0] * (height - 1)) // step + 1)

    def _filters(self, most: int, sets: int) -> list[tuple[int, int]]:
        """Filters of a PE, and sets on different ones."""
        lanes, filters = self._config.psum_lanes, self._ng
        found: set[tuple[int, int]] = set()
        if filters <= most:
            found.add((filters, 1))
        for t in {*self._few(-(-filters // lanes), sets), *range(1, min(sets, 4) + 1)}:
            # Those that waste least, and of them the largest.
            each = -(-filters // t)
            sizes = range(min(most, -(-each // lanes) * lanes) // lanes * lanes, 0, -lanes)
            found |= {(p, t) for p in sorted(sizes, key=lambda p: (-(-each // p) * p, -p))[:_FEW]}
            if self._small and lanes <= most:
                found.add((lanes, t))
        return sorted(found, reverse=True)
