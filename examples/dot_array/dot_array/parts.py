"""How a layer is cut: tiles of output channels, parts of sums, and the lines of weights of each."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from pearray.compiler.kernels.nest import Nest
from pearray.compiler.kernels.views import View

from .config import DotConfig

__all__ = [
    "Mapping", "Part", "cuts", "depth_of", "fold", "is_uniform", "parts_of", "patterns_of", "reach_of", "tiles_of",
    "weight_lines",
]


def reach_of(nest: Nest, config: DotConfig) -> int:
    """Output channels of a tile: one for each unit; channel by channel not more than a line has."""
    units, products = config.array.rows, config.array.cols
    return min(units, products) if nest.channelwise else units


def tiles_of(nest: Nest, config: DotConfig) -> int:
    """Tiles of output channels of a group of the layer."""
    return -(-nest.ng // reach_of(nest, config))


def is_uniform(nest: Nest) -> bool:
    """Whether all channels have the same weights."""
    weights = nest.weights
    return nest.channelwise and isinstance(weights, np.ndarray) and (weights.ndim == 1 or weights.size == 1)


def patterns_of(nest: Nest, config: DotConfig, tiles: int) -> int:
    """Places in a line at which a tile of channels may begin, for the first `tiles` tiles of a line."""
    return min(config.array.cols // reach_of(nest, config), tiles) if nest.channelwise else 1


def fold(nest: Nest, config: DotConfig) -> Iterator[Nest]:
    """Yield the layer with its filter's columns as more channels, if its few channels leave lines unfilled.

    Channels of a pixel then run on into the pixels to its right, as they do in memory. A line holds several taps, and
    pixels stand in the scratchpad once for each output that sees them.
    """
    x, products = nest.x, config.array.cols
    is_plain = not (nest.channelwise or nest.added or nest.groups > 1 or isinstance(nest.weights, View))
    if is_plain and nest.dilation[1] == 1 and x.is_dense("w", "c") and x.stride("w") == x.size("c") == nest.cg and (
            -(-nest.s * nest.cg // products) < nest.s * -(-nest.cg // products)):
        yield replace(nest, s=1, cg=nest.s * nest.cg)


@dataclass(frozen=True)
class Part:
    """A part of the sums: ranges of filter rows and columns, and of input channels of a group.

    Channel by channel these are the channels of the outputs.
    """

    rows: tuple[int, int]
    columns: tuple[int, int]
    channels: tuple[int, int]

    @property
    def taps(self) -> tuple[int, int]:
        """Number of filter rows and columns."""
        return self.rows[1] - self.rows[0], self.columns[1] - self.columns[0]

    @property
    def width(self) -> int:
        """Number of channels."""
        return self.channels[1] - self.channels[0]


@dataclass(frozen=True)
class Mapping:
    """How a layer is cut.

    Parameters
    ----------
    pixels, tiles : int
        Most output pixels and tiles of output channels of a group of sums, which fills a bank of accumulators.
    rows, columns, channels : int
        Most filter rows and columns, and input channels, whose activations and weights stand as one tile each.
    by_channels : bool
        Walk tiles of channels outside of pixels, so that weights stay, instead of inside, so that activations stay.
    """

    pixels: int
    tiles: int
    rows: int
    columns: int
    channels: int
    by_channels: bool = False


def parts_of(nest: Nest, config: DotConfig, mapping: Mapping, tiles: tuple[int, int]) -> list[Part]:
    """Parts of the sums of some tiles of output channels."""
    channels = cuts(nest.cg, mapping.channels)
    if nest.channelwise:
        reach = reach_of(nest, config)
        channels = [(tiles[0] * reach, min(tiles[1] * reach, nest.ng))]
    return [Part(rows, columns, part) for part in channels for rows in cuts(nest.r, mapping.rows)
            for columns in cuts(nest.s, mapping.columns)]


def cuts(total: int, most: int) -> list[tuple[int, int]]:
    """Ranges of at most `most` that make up a total."""
    return [(start, min(start + most, total)) for start in range(0, total, most)]


def depth_of(nest: Nest, part: Part, config: DotConfig) -> int:
    """Lines that a tap adds to a sum."""
    if nest.channelwise:
        return nest.repeat or 1
    return -(-part.width // config.array.cols)


def weight_lines(nest: Nest, part: Part, tiles: int, config: DotConfig) -> int:
    """Lines of the weights of a part, for some tiles of output channels."""
    rows, columns = part.taps
    each = rows * columns * depth_of(nest, part, config)
    return each * (patterns_of(nest, config, tiles) if is_uniform(nest) else tiles)
