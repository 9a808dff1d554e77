"""Choice of how a layer is cut: candidates that fit the memories, of which the cheapest is taken."""

from collections.abc import Iterator
from dataclasses import replace

from pearray import PearrayError
from pearray.compiler.kernels.nest import Nest
from pearray.memory import MemoryTiming

from .config import DotConfig
from .footprint import Footprint
from .parts import Mapping, fold, parts_of, reach_of, tiles_of, weight_lines
from .price import largest_region, price

__all__ = ["choose"]

#: Most filter rows and columns of a part, and most input channels: counts of an EXECUTE and of a LOAD.
_MOST_TAPS, _MOST_CHANNELS = 256, 1 << 15


def choose(nest: Nest, config: DotConfig, timing: MemoryTiming) -> tuple[Nest, Mapping]:
    """Cheapest mapping of a layer, and the form of it that is mapped.

    Raises
    ------
    PearrayError
        If the memories can't hold the smallest parts of it.
    """
    forms = [nest, *fold(nest, config)]
    # Half of each scratchpad is left for what comes next, if that is possible.
    for share in (2, 1):
        found = [(price(form, config, timing, mapping), form, mapping)
                 for form in forms for mapping in _candidates(form, config, share)]
        if found:
            return min(found, key=lambda each: each[0])[1:]
    raise PearrayError(f"{nest.name}: the scratchpads can't hold the smallest tile of this layer; make "
                       "scratchpads.activation_bytes or scratchpads.weight_bytes larger")


def _halves(total: int, most: int) -> Iterator[int]:
    """Sizes of even parts of at most `most`: as large as can be, a half of that, and so on down to one."""
    parts = -(-total // most)
    while (size := -(-total // parts)) > 1:
        yield size
        parts *= 2
    yield 1


def _candidates(nest: Nest, config: DotConfig, share: int) -> Iterator[Mapping]:
    """Mappings whose tiles fit into a share of each scratchpad."""
    depth, total = min(config.accumulators.depth, 1 << 15), tiles_of(nest, config)
    for tiles in _halves(total, _most_tiles(nest, config)):
        for pixels in _halves(nest.images * nest.p * nest.q, depth // tiles):
            for rows, columns, channels in _cuts(nest, config):
                mapping = Mapping(pixels, tiles, rows, columns, channels)
                if _fits(nest, config, mapping, share):
                    # Smaller parts would only be more commands.
                    yield mapping
                    if tiles < total:
                        yield replace(mapping, by_channels=True)
                    break


def _most_tiles(nest: Nest, config: DotConfig) -> int:
    """Tiles of a group for which outputs, accumulators and memories of constants have room."""
    finish, units, reach = nest.finish, config.array.rows, reach_of(nest, config)
    item, room, channels = finish.item(config), config.scratchpads.output_bytes, config.scratchpads.channels
    if units * item > room:
        raise PearrayError(f"{nest.name}: scratchpads.output_bytes must be at least {units * item} to hold "
                           f"{units} outputs of {item} bytes, not {room}")
    most = (room // 2 // item - units) // reach + 1
    if finish.bias is not None or (finish.entries is not None and finish.entries.size > 1):
        if units > channels:
            raise PearrayError(f"{nest.name}: scratchpads.channels must be at least array.rows = {units}, "
                               f"not {channels}")
        most = min(most, channels // 2 // units)
    if reach % config.post.lanes:
        # Outputs of a second tile would begin within a group of lanes.
        most = 1
    return max(1, min(most, config.accumulators.depth))


def _cuts(nest: Nest, config: DotConfig) -> Iterator[tuple[int, int, int]]:
    """Filter rows and columns, and input channels, of ever smaller parts of the sums."""
    operands, products = (nest, *nest.added), config.array.cols
    rows, columns = max(each.r for each in operands), max(each.s for each in operands)
    taps = [(part, columns) for part in _halves(rows, _MOST_TAPS) if columns <= _MOST_TAPS]
    taps += [(1, part) for part in _halves(columns, _MOST_TAPS)]
    lines = -(-max(each.cg for each in operands) // products)
    for rows, columns in taps:
        # Channel by channel, it is the outputs that decide which channels are there.
        for part in (1,) if nest.channelwise else _halves(lines, _MOST_CHANNELS // products):
            yield rows, columns, part * products


def _fits(nest: Nest, config: DotConfig, mapping: Mapping, share: int) -> bool:
    """Whether a share of each scratchpad has room for every tile."""
    pads, (region, _) = config.scratchpads, largest_region(nest, mapping.pixels)
    return all(
        Footprint.of(each, region, part, config).lines * config.array.cols * share <= pads.activation_bytes
        and weight_lines(each, part, mapping.tiles, config) * config.pes * share <= pads.weight_bytes
        for each in (nest, *nest.added) for part in parts_of(each, config, mapping, (0, mapping.tiles)))
