"""Steps of a layer under a mapping."""

from collections.abc import Iterator

from pearray.compiler.kernels.nest import Nest
from pearray.compiler.kernels.regions import Region, split_region
from pearray.compiler.placement import MemoryPlan
from pearray.compiler.steps import Group, Use

from .config import DotConfig
from .operands import OperandMaker
from .outputs import OutputMaker
from .parts import Mapping, cuts, parts_of, tiles_of
from .schedule import DotStep

__all__ = ["lower"]


def _groups(nest: Nest, config: DotConfig, mapping: Mapping) -> Iterator[tuple[Region, int, tuple[int, int]]]:
    """Yield the region, group of channels, and tiles of output channels of each group of sums."""
    regions = split_region(Region(0, nest.images, 0, nest.p, 0, nest.q), mapping.pixels)
    blocks = cuts(tiles_of(nest, config), mapping.tiles)
    for group in range(nest.groups):
        if mapping.by_channels:
            yield from ((region, group, tiles) for tiles in blocks for region in regions)
        else:
            yield from ((region, group, tiles) for region in regions for tiles in blocks)


def lower(nest: Nest, config: DotConfig, plan: MemoryPlan, mapping: Mapping) -> Iterator[DotStep]:
    """Yield the steps of a layer in order.

    Parameters
    ----------
    nest : Nest
        The layer.
    config : DotConfig
        Accelerator.
    plan : MemoryPlan
        Where its packed constants go.
    mapping : Mapping
        How it is cut.
    """
    operands = [(each, OperandMaker(each, config, plan)) for each in (nest, *nest.added)]
    outputs = OutputMaker(nest, config, plan)
    for region, group, tiles in _groups(nest, config, mapping):
        sums = Group(list(outputs.outputs(region, group, tiles)))
        first = True
        for each, maker in operands:
            for part in parts_of(each, config, mapping, tiles):
                a, w = Use(maker.activations(region, group, part), 1), Use(maker.weights(group, tiles, part), 1)
                for body in maker.bodies(region, tiles, part):
                    yield DotStep(sums, a, w, body | {"first": int(first)})
                first = False
