"""Plain mappings, legal for every layer: what stands in where no better one is known."""

from dataclasses import replace

from ...golden.cost import ConvLayer
from ...golden.row_stationary import LayerMapping, Mapping
from ...hdl.config import RowStationaryConfig
from ...hdl.errors import PearrayError
from ...hdl.row_stationary.row import tag_bits
from .mapping import LayerPlan, Traffic
from .setup import setup_size

__all__ = ["plain_plan"]


def plain_plan(layer: ConvLayer, config: RowStationaryConfig, batch: int, traffic: Traffic, *,
               lanes_only: bool = False) -> LayerPlan:
    """Plan of a layer: a mapping that fits, made smaller until it does.

    Parameters
    ----------
    layer : ConvLayer
        Shape.
    config : RowStationaryConfig
        Accelerator.
    batch : int
        Images.
    traffic : Traffic
        Tensors in memory.
    lanes_only : bool
        Whether the channels of a PE must divide a line of filters.

    Raises
    ------
    PearrayError
        If nothing fits.
    """
    pe, lanes = config.pe, config.psum_lanes
    rows, cols = config.array.rows, config.array.cols
    cg, ng = layer.c // layer.groups, layer.m // layer.groups
    height = -(-layer.r // -(-layer.r // rows))
    least = min(lanes, ng)
    columns = layer.s
    while columns > 1 and _taps(layer, columns) > min(pe.ifmap_words, pe.filter_words // least):
        columns -= 1
    taps = _taps(layer, columns)
    if taps > min(pe.ifmap_words, pe.filter_words // least):
        raise PearrayError(f"{layer.name}: stride must be at most {min(pe.ifmap_words, pe.filter_words // least)} on "
                           f"this array, not {taps}")
    q = min(cg, pe.ifmap_words // taps, pe.filter_words // (taps * least))
    if lanes_only:
        q = max(width for width in range(1, q + 1) if config.filter_lanes % width == 0)
    p = ng if ng < lanes else min(-(-ng // lanes), pe.filter_words // (taps * q) // lanes,
                                  max(1, pe.psum_words // lanes)) * lanes
    e = min(layer.output[1], cols)
    r = max(1, min(cg // q, rows // height))
    bands = rows // (height * r)
    t = max(1, min(cols * bands // e, -(-ng // p)))
    g = 1
    if p * t >= ng and (r == 1 or q * r == cg):
        g = max(1, min(cols * bands // (e * t), layer.groups))
    mapping = Mapping(m=ng, n=batch, e=e, p=p, q=q, r=r, t=t, g=g, rows=height, columns=columns)
    tried = 0
    while True:
        plan = _plan(layer, mapping, config, batch, traffic)
        smaller = _smaller(plan, mapping, layer, lanes)
        if smaller is None:
            for choice in ({"ifmap_tiles": 2, "psum_blocks": 2}, {"ifmap_tiles": 2}, {}):
                for resident in (not traffic.coded_input, False):
                    better = replace(plan, resident=resident, **choice)
                    if better.buffer_lines <= config.buffer_lines:
                        better.check()
                        return better
            raise AssertionError("the plain plan fits")
        if smaller == mapping or tried > 1000:
            raise PearrayError(f"{layer.name}: the buffers can't hold the smallest pass of this layer; make "
                               "global_buffer.banks or global_buffer.filter_banks larger")
        mapping = smaller
        tried += 1


def _taps(layer: ConvLayer, columns: int) -> int:
    from ...golden.tensors import pair

    dilation, stride = pair("dilation", layer.dilation)[1], pair("stride", layer.stride)[1]
    mapped = LayerMapping(layer=layer, mapping=Mapping(m=1, n=1, e=1, p=1, q=1, r=1, t=1, columns=columns))
    del dilation, stride
    return max(part.taps for part in mapped.parts)


def _plan(layer: ConvLayer, mapping: Mapping, config: RowStationaryConfig, batch: int, traffic: Traffic) -> LayerPlan:
    mapped = LayerMapping(layer=layer, mapping=mapping, batch=batch, filter_lanes=config.filter_lanes,
                          psum_lanes=config.psum_lanes)
    return LayerPlan(mapped=mapped, config=config, traffic=traffic)


def _smaller(plan: LayerPlan, mapping: Mapping, layer: ConvLayer, lanes: int) -> Mapping | None:
    """Return a smaller mapping if this one does not fit."""
    config, mapped = plan.config, plan.mapped
    if plan.filter_buffer_lines * (2 if mapping.p * mapping.t * mapping.r * mapping.g > 1 else 1) > config.filter_lines:
        for name in ("g", "t", "r"):
            if getattr(mapping, name) > 1:
                return replace(mapping, **{name: -(-getattr(mapping, name) // 2)}, **(
                    {"g": 1} if name != "g" else {}))
        if mapping.p > lanes:
            return replace(mapping, p=-(-mapping.p // 2 // lanes) * lanes)
        if plan.filter_buffer_lines > config.filter_lines:
            if mapping.q > 1:
                return replace(mapping, q=mapping.q // 2)
            if mapping.rows > 1:
                return replace(mapping, rows=-(-mapping.rows // 2))
    if setup_size(config) > config.filter_lines:
        return mapping
    limit = min(256, 1 << tag_bits(config.array.rows, config.array.cols)[1])
    if mapping.e > 1 and (mapped.ifmap_lines(mapped.strips[0])[0] > limit or mapping.e > 256):
        return replace(mapping, e=-(-mapping.e // 2))
    if mapping.n > 128:
        return replace(mapping, n=128)
    if plan.buffer_lines > config.buffer_lines * 7 // 8 or mapped.ifmap_columns(mapped.parts[0]) > 4096:
        if mapping.n > 1:
            return replace(mapping, n=-(-mapping.n // 2))
        if plan.block_buffer_lines > plan.tile_buffer_lines and mapping.m > mapping.p * mapping.t:
            return replace(mapping, m=-(-mapping.m // 2 // (mapping.p * mapping.t)) * mapping.p * mapping.t)
        for name in ("e", "g", "q", "r", "t"):
            if getattr(mapping, name) > 1:
                return replace(mapping, **{name: -(-getattr(mapping, name) // 2)}, **(
                    {"g": 1} if name != "g" else {}))
        if mapping.m > lanes:
            return replace(mapping, p=min(mapping.p, lanes), m=-(-mapping.m // 2 // lanes) * lanes)
        return None if plan.buffer_lines <= config.buffer_lines else mapping
    return None
