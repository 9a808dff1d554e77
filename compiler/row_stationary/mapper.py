"""Choice of a layer's mapping: the best by the estimate, or one that is given."""

from collections.abc import Mapping as MappingOf
from dataclasses import replace
from functools import lru_cache
from math import gcd

from ...golden.cost import ConvLayer
from ...golden.row_stationary import LayerMapping, Mapping
from ...hdl.errors import PearrayError
from ...hdl.row_stationary.config import RowStationaryConfig
from .estimate import BYTES_WEIGHT, estimate
from .mapping import LayerPlan, Traffic
from .search import Candidates

__all__ = ["best_plan", "find_plan", "mapping_of", "misfit", "plan_of", "price"]

#: Candidates that are priced exactly.
_EXACT = 48
#: Weight of a word between array and global buffer, beside cycles, when plans are compared.
_WORD_WEIGHT = 0.01


def price(plan: LayerPlan) -> float:
    """What a plan is chosen by: its cycles, those that memory is busy for it, and its words of the global buffer."""
    config, cost, counts = plan.config, estimate(plan), plan.mapped.counts(plan.traffic.bias)
    rate = config.beat_bytes * plan.traffic.timing.beats_per_cycle
    words = counts["ifmap_reads"] + counts["psum_reads"] + counts["psum_writes"]
    return cost.cycles + BYTES_WEIGHT * cost.dram_bytes / rate + _WORD_WEIGHT * words


def best_plan(layer: ConvLayer, config: RowStationaryConfig, batch: int = 1, traffic: Traffic | None = None, *,
              split_images: bool = True) -> LayerPlan:
    """Find the cheapest legal plan of a layer.

    Groups that have fewer filters than a line has psums may be merged, with zero filters between them.

    Parameters
    ----------
    layer : ConvLayer
        Shape.
    config : RowStationaryConfig
        The accelerator.
    batch : int
        Images.
    traffic : Traffic, optional
        What is in memory.
    split_images : bool
        Whether several passes may share the filters, each with some of the ifmaps.

    Raises
    ------
    PearrayError
        If no mapping fits the buffers.
    """
    plan = find_plan(layer, config, batch, traffic, split_images=split_images)
    if plan is None:
        raise misfit(layer.name, config)
    return plan


def misfit(name: str, config: RowStationaryConfig) -> PearrayError:
    """Error for a layer that no mapping fits."""
    return PearrayError(f"{name}: no mapping fits {config.name}; make global_buffer.banks or "
                        "global_buffer.filter_banks larger, or the layer smaller")


def find_plan(layer: ConvLayer, config: RowStationaryConfig, batch: int = 1, traffic: Traffic | None = None, *,
              split_images: bool = True) -> LayerPlan | None:
    """Find the cheapest legal plan as :func:`best_plan`; None if no mapping fits the buffers."""
    traffic = traffic or Traffic(output_bytes=config.operand_bytes)
    plan = _best(replace(layer, name=""), config, batch, traffic, split_images)
    if plan is None:
        return None
    return replace(plan, mapped=replace(plan.mapped, layer=replace(plan.mapped.layer, name=layer.name)))


@lru_cache(maxsize=4096)
def _best(layer: ConvLayer, config: RowStationaryConfig, batch: int, traffic: Traffic,
          split_images: bool) -> LayerPlan | None:
    """Find the cheapest plan; networks have many layers of the same shape."""
    joined = config.psum_lanes // gcd(config.psum_lanes, layer.m // layer.groups)
    best: tuple[float, LayerPlan] | None = None
    for small in (False, True):
        for merged in (1, joined) if joined > 1 and layer.groups % joined == 0 and not traffic.gathered else (1,):
            seen = replace(layer, groups=layer.groups // merged)
            for plan in Candidates(seen, config, batch, traffic, split_images, small).best(_EXACT):
                chosen = _fitting(replace(plan, merged=merged))
                if chosen is not None:
                    cost = price(chosen)
                    if best is None or cost < best[0]:
                        best = cost, chosen
        if best is not None:
            return best[1]
    return None


def _fitting(plan: LayerPlan) -> LayerPlan | None:
    """Return a plan with two places for filters, or else one, if it is legal."""
    for slots in (2, 1):
        chosen = replace(plan, filter_slots=slots)
        try:
            chosen.check()
        except PearrayError:
            continue
        return chosen
    return None


def plan_of(layer: ConvLayer, mapping: Mapping, config: RowStationaryConfig, batch: int = 1,
            traffic: Traffic | None = None) -> LayerPlan:
    """Give a mapping the best use of the buffers.

    Parameters
    ----------
    layer : ConvLayer
        Shape.
    mapping : Mapping
        Its mapping.
    config : RowStationaryConfig
        The accelerator.
    batch : int
        Images.
    traffic : Traffic, optional
        What is in memory.

    Raises
    ------
    PearrayError
        If it does not fit, naming what.
    """
    traffic = traffic or Traffic(output_bytes=config.operand_bytes)
    mapped = LayerMapping(layer=layer, mapping=mapping, batch=batch, filter_lanes=config.filter_lanes,
                          psum_lanes=config.psum_lanes)
    least = LayerPlan(mapped=mapped, config=config, traffic=traffic)
    least = replace(least, ifmap_tiles=least.tiles_of_part)
    least.check()
    plans = [_fitting(replace(least, resident=resident, ifmap_tiles=least.tiles_of_part + tiles, psum_blocks=blocks))
             for resident in (True, False) for tiles in (1, 0) for blocks in (2, 1)]
    return min((plan for plan in plans if plan is not None), key=price)


def mapping_of(layer: ConvLayer, config: RowStationaryConfig, given: MappingOf[str, MappingOf[str, int]],
               batch: int = 1, traffic: Traffic | None = None, *, split_images: bool = True) -> LayerPlan:
    """Plan a layer as told, or else the cheapest way.

    Parameters
    ----------
    layer : ConvLayer
        Shape.
    config : RowStationaryConfig
        The accelerator.
    given : mapping
        Parameters of mappings, ``m, n, e, p, q, r, t`` and so on, by name of the layer.
    batch : int
        Images.
    traffic : Traffic, optional
        What is in memory.
    split_images : bool
        Whether several passes may share the filters, each with some of the ifmaps.

    Raises
    ------
    PearrayError
        If the mapping that is given does not fit, or none does.
    """
    if layer.name not in given:
        return best_plan(layer, config, batch, traffic, split_images=split_images)
    try:
        return plan_of(layer, Mapping(**given[layer.name]), config, batch, traffic)
    except (TypeError, ValueError) as error:
        if isinstance(error, PearrayError):
            raise
        raise PearrayError(f"mapping of {layer.name}: {error}") from None
