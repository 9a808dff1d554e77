"""Fused attention as a step of its own, which brings its commands along."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from ...hdl.systolic.config import SystolicConfig
from ...memory import MemoryTiming
from ..kernels.attention import Attention
from ..placement import MemoryPlan
from ..program_step import ProgramStep
from ..timing.latencies import UnendingError
from .attention_cut import AttentionLayer, QueryBlock
from .attention_emit import Emission, emit
from .program_step import program_step
from .timeline import timeline

__all__ = ["lower_attention"]

#: Blocks of keys by which orders are compared, where there are more than stay on chip; and products of a sample that
#: is timed at most.
_FEW, _MOST_PRODUCTS = 12, 400


def lower_attention(kernel: Attention, config: SystolicConfig, timing: MemoryTiming, plan: MemoryPlan) -> ProgramStep:
    """Cut a kernel of attention, and emit its commands.

    Raises
    ------
    PearrayError
        If the memories can't hold the smallest blocks.
    """
    layer = AttentionLayer(kernel, config)
    way = _choose(layer, timing)
    program = emit(layer, layer.query_blocks(way.rows, way.last), way.emission, plan)
    return program_step(config, program, kernel.y.view.buffer)


class _Way(NamedTuple):
    """Most queries of a block, those of the very last, and the order of commands."""

    rows: int
    last: int
    emission: Emission


def _choose(layer: AttentionLayer, timing: MemoryTiming) -> _Way:
    """Look for a good way, from one that is good as a rule, changing one thing after another."""
    most = layer.most_rows
    # Blocks of queries cost nothing but commands where keys and values stay: with smaller ones QK may be ahead.
    rows = [most]
    if layer.stays:
        rows = list(dict.fromkeys(min(most, max(layer.depth // count, 1)) for count in (4, 3, 2)))
    # With so few there is room for the outputs of two blocks of queries.
    doubled = min(most, max(layer.depth // (2 * layer.tiles), 1))
    best = _Way(rows[0], 0, Emission())
    if not _can_sample(layer, best):
        return best
    least = _cycles(layer, timing, best)
    steps: list[Callable[[_Way], list[_Way]]] = [
        lambda way: [way._replace(rows=each) for each in rows],
        lambda way: [way._replace(last=each) for each in (way.rows // 2, way.rows // 4)
                     if layer.stays and layer.config.array.rows <= each < layer.queries],
        *(lambda way, name=name, values=values: [
            way._replace(emission=replace(way.emission, **{name: value})) for value in values]
          for name, values in (("parts", (1, 2, 4)), ("lead", (1, 2, 4)), ("ahead", (2, 4)))),
        lambda way: [way._replace(rows=each, emission=replace(way.emission, spreads=True))
                     for each in dict.fromkeys((way.rows, doubled if layer.stays else way.rows))],
    ]
    for step in steps:
        for way in step(best):
            cycles = _cycles(layer, timing, way) if way != best else least
            if cycles < least:
                best, least = way, cycles
    return best


def _sample(layer: AttentionLayer, way: _Way) -> list[QueryBlock]:
    """Blocks of queries by which ways are compared: of all, as much as every way has."""
    blocks = layer.query_blocks(way.rows, way.last)
    if layer.stays:
        return [block for block in blocks if block.head in (0, layer.heads - 1)]
    return [replace(block, blocks=(*block.blocks[:_FEW - 1], block.blocks[-1])) if len(block.blocks) > _FEW else block
            for block in blocks[:2]]


def _can_sample(layer: AttentionLayer, way: _Way) -> bool:
    return sum(len(block.blocks) for block in _sample(layer, way)) <= _MOST_PRODUCTS


def _cycles(layer: AttentionLayer, timing: MemoryTiming, way: _Way) -> float:
    """Cycles of a sample, infinitely many if it would never end."""
    program = emit(layer, _sample(layer, way), way.emission, MemoryPlan(keep=False))
    try:
        return float(timeline(layer.config, program, timing).cycles)
    except UnendingError:
        return float("inf")
