"""Choice of a layer's mapping: the best by the estimate, or one that is given."""

from dataclasses import replace
from functools import lru_cache
from math import gcd

from ...golden.cost import ConvLayer
from ...golden.row_stationary import LayerMapping, Mapping
from ...hdl.errors import PearrayError
from ...hdl.row_stationary.config import RowStationaryConfig
from .estimate import BYTES_WEIGHT, estimate
from .mapping import LayerPlan, Traffic
from .search import USES, Candidates

__all__ = ["best_plan", "plan_of", "price"]

#: Candidates that are priced exactly.
_EXACT = 48
#: Weight of a word between array and global buffer, beside cycles, when plans are compared.
_WORD_WEIGHT = 0.01


def price(plan: LayerPlan) -> float:
    """What a plan is chosen by: its cycles, those that memory is busy for it, and its words of the global buffer."""
    cost, counts = estimate(plan), plan.mapped.counts(plan.traffic.bias)
    words = counts["ifmap_reads"] + counts["psum_reads"] + counts["psum_writes"]
    return cost.cycles + BYTES_WEIGHT * cost.dram_bytes / plan.rate + _WORD_WEIGHT * words


def _start(layer: ConvLayer, config: RowStationaryConfig, batch: int, traffic: Traffic | None) -> LayerPlan:
    """Plan of a layer under the smallest mapping, from which others are made."""
    mapped = LayerMapping(layer=layer, mapping=Mapping(m=1, n=1, e=1, p=1, q=1, r=1, t=1), batch=batch,
                          filter_lanes=config.filter_lanes, psum_lanes=config.psum_lanes)
    return LayerPlan(mapped=mapped, config=config, traffic=traffic or Traffic(output_bytes=config.operand_bytes))


def best_plan(layer: ConvLayer, config: RowStationaryConfig, batch: int = 1,
              traffic: Traffic | None = None) -> LayerPlan | None:
    """Find the cheapest legal plan of a layer, or None if no mapping fits the buffers.

    Groups that have fewer filters than a line has psums may be merged, with zero filters between them.
    """
    plan = _best(_start(replace(layer, name=""), config, batch, traffic))
    if plan is None:
        return None
    return replace(plan, mapped=replace(plan.mapped, layer=replace(plan.mapped.layer, name=layer.name)))


@lru_cache(maxsize=4096)
def _best(start: LayerPlan) -> LayerPlan | None:
    """Find the cheapest plan; networks have many layers of the same shape."""
    layer, lanes = start.mapped.layer, start.config.psum_lanes
    joined = lanes // gcd(lanes, layer.m // layer.groups)
    ways = (1, joined) if joined > 1 and layer.groups % joined == 0 and not start.traffic.gathered else (1,)
    starts = [replace(start, merged=merged, mapped=replace(
        start.mapped, layer=replace(layer, groups=layer.groups // merged))) for merged in ways]
    for small in (False, True):
        found = [plan for one in starts for plan in map(_fitting, Candidates(one, small).best(_EXACT)) if plan]
        if found:
            return min(found, key=price)
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

    Raises
    ------
    PearrayError
        If it does not fit, naming what.
    """
    least = _start(layer, config, batch, traffic).under(mapping)
    least.check()
    return min(filter(None, (_fitting(least.using(*use)) for use in USES)), key=price)
