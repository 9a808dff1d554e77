# amaranth: UnusedElaboratable=no
"""Testbench of the pass engine: its buffers, what fills them, and commands with the events that they cause."""

from amaranth.hdl import Module
from amaranth.lib import data, wiring
from pass_layers import WIDTH

from pearray.hdl.row_stationary.buffer import GlobalBuffer
from pearray.hdl.row_stationary.passes import PassEngine
from pearray.hdl.row_stationary.row import ArrayShape, tag_bits

__all__ = ["array_shape", "engine_and_buffers", "fill", "work"]


def engine_and_buffers(shape, banks=5, bank_lines=256, filter_lines=512, shift_rows=0):
    """Pass engine between a global buffer and a filter buffer."""
    m = Module()
    m.submodules.engine = engine = PassEngine(shape, banks * bank_lines, filter_lines, shift_rows)
    m.submodules.buffer = buffer = GlobalBuffer(banks, bank_lines, WIDTH, 3, 2)
    m.submodules.filters = filters = GlobalBuffer(1, filter_lines, WIDTH, 2, 1)
    wiring.connect(m, engine.psums, buffer.read[0])
    wiring.connect(m, engine.ifmap, buffer.read[1])
    wiring.connect(m, engine.result, buffer.write[1])
    wiring.connect(m, engine.filters, filters.read[0])
    wiring.connect(m, engine.setups, filters.read[1])
    return m, engine, buffer, filters


def array_shape(rows, cols, arithmetic):
    """Array with small scratchpads."""
    row_tag, col_tag = tag_bits(rows, cols)
    return ArrayShape(rows=rows, cols=cols, arithmetic=arithmetic, ifmap_words=12, filter_words=40, psum_words=6,
                      filter_lanes=WIDTH // arithmetic.bits, psum_lanes=WIDTH // arithmetic.accumulator.width,
                      row_tag_bits=row_tag, col_tag_bits=col_tag)


async def fill(ctx, port, start, lines):
    """Write lines to a buffer."""
    ctx.set(port.valid, 1)
    for index, line in enumerate(lines):
        ctx.set(port.payload, {"address": start + index, "data": line, "mask": (1 << WIDTH // 8) - 1})
        await ctx.tick()
    ctx.set(port.valid, 0)


async def work(ctx, engine, commands):
    """Give commands; return the cycles in which they completed, and the counts of events when data became free."""
    left, done, cycles = commands[::-1], [], 0
    layouts = engine.events.shape(), engine.pe_events.shape()
    counts = {name: 0 for layout in layouts for name, _ in data.Layout.cast(layout)}
    free = {"filters": [], "ifmap": []}
    begun = after = 0
    while after < 4:
        if left and not ctx.get(engine.commands.valid):
            ctx.set(engine.commands.payload, left.pop())
            ctx.set(engine.commands.valid, 1)
        *_, ready, one, events, pe_events, filters_free, ifmap_free, active = await ctx.tick().sample(
            engine.commands.ready, engine.done, engine.events, engine.pe_events, engine.filters_free,
            engine.ifmap_free, engine.active)
        assert active == (begun > len(done))
        if ready and ctx.get(engine.commands.valid):
            ctx.set(engine.commands.valid, 0)
            begun += 1
        cycles += 1
        if one:
            done.append(cycles)
        for layout, values in zip(layouts, (events, pe_events), strict=True):
            for name, _ in data.Layout.cast(layout):
                counts[name] += values[name]
        if filters_free:
            free["filters"].append(counts["filter_read"])
        if ifmap_free:
            free["ifmap"].append(counts["ifmap_read"])
        assert cycles < 50_000, f"stuck after {len(done)} of {len(commands)} commands"
        after += len(done) == len(commands)
    return done, counts, free
