"""Price of a mapping in closed form: cycles of the engine that has most to do."""

from pearray.compiler.kernels.nest import Nest
from pearray.compiler.kernels.regions import Region
from pearray.compiler.kernels.views import View
from pearray.hdl.post.engine import Post
from pearray.hdl.shell.commands import COMMAND_BYTES
from pearray.memory import MemoryTiming

from .config import DotConfig
from .cost import row_cycles
from .engine import DotEngine
from .footprint import Footprint
from .outputs import row_pitch
from .parts import Mapping, Part, depth_of, is_uniform, parts_of, reach_of, tiles_of, weight_lines

__all__ = ["largest_region", "price"]


def largest_region(nest: Nest, pixels: int) -> tuple[Region, int]:
    """Largest region of at most `pixels` pixels, and how many such make the output, as ``split_region`` cuts it."""
    sizes, count = [], 1
    for total, each in ((nest.images, nest.p * nest.q), (nest.p, nest.q), (nest.q, 1)):
        parts = -(-total // max(1, pixels // each))
        sizes.append(-(-total // parts))
        count *= parts
    return Region(0, sizes[0], 0, sizes[1], 0, sizes[2]), count


def _turns(cycles: float, size: int, room: int, inner: int, is_inner: bool) -> tuple[float, float]:
    """Cycles of loads in the first turn of the outer loop, and in each later one.

    Parameters
    ----------
    cycles, size : float, int
        Of the tiles that a group of sums needs of one operand: to load them, and their bytes.
    room : int
        Bytes of the scratchpad.
    inner : int
        Turns of the inner loop.
    is_inner : bool
        Whether the tiles depend on the inner loop. Those of all its turns are used again, and must stay for that.
    """
    if is_inner:
        return cycles * inner, 0.0 if size * inner <= room else cycles * inner
    each = cycles if size <= room else cycles * inner
    return each, each


def price(nest: Nest, config: DotConfig, timing: MemoryTiming, mapping: Mapping) -> float:
    """Cycles of a layer: for each turn of the outer loop those of the engine that has most to do."""
    region, regions = largest_region(nest, mapping.pixels)
    tiles, blocks = mapping.tiles, -(-tiles_of(nest, config) // mapping.tiles)
    a_size = w_size = lines = steps = 0
    a_cycles = w_cycles = 0.0
    for each in (nest, *nest.added):
        for part in parts_of(each, config, mapping, (0, tiles)):
            at = Footprint.of(each, region, part, config)
            a_size += at.lines * config.array.cols
            a_cycles += _activation_cycles(each, config, timing, at, part)
            w_size += weight_lines(each, part, tiles, config) * config.pes
            w_cycles += _weight_cycles(each, config, timing, part, tiles)
            lines += part.taps[0] * part.taps[1] * depth_of(each, part, config)
            steps += 1
    pads, by_channels = config.scratchpads, mapping.by_channels
    outer, inner = (blocks, regions) if by_channels else (regions, blocks)
    # Channel by channel, activations depend on both loops; weights that are the same for all depend on none.
    a = _turns(a_cycles, a_size, 0 if nest.channelwise else pads.activation_bytes, inner,
               by_channels or nest.channelwise)
    w = (w_cycles, 0.0) if is_uniform(nest) else _turns(w_cycles, w_size, pads.weight_bytes, inner, not by_channels)
    # Commands are read, too: two LOADs and an EXECUTE of each part, a POST and a STORE.
    fetch = (3 * steps + 2) * COMMAND_BYTES / config.beat_bytes
    # One that adds to sums waits until those before it have been written.
    execute = region.pixels * tiles * lines + 2 * steps + (steps - 1) * DotEngine.latency_of(config)
    sums = region.pixels * tiles * config.array.rows
    post = max(sums / config.post.lanes, Post.settings_cycle_of(config) + 1) + 1
    store = _store_cycles(nest, config, timing, region, tiles)
    first, later = (max(a_turn + w_turn + inner * fetch, inner * max(execute, post, store))
                    for a_turn, w_turn in zip(a, w, strict=True))
    # The first loads and the last outputs overlap with nothing.
    return nest.groups * (first + (outer - 1) * later) + (a_cycles + w_cycles) / steps + post + store


def _activation_cycles(nest: Nest, config: DotConfig, timing: MemoryTiming, at: Footprint, part: Part) -> float:
    """Cycles to load a tile of activations."""
    x, rows, columns = nest.x, at.images[2] * at.rows[2], at.columns[2]
    if x.stride("c") != 1 and part.width > 1:
        return row_cycles(config, timing, 1, part.width * columns * rows)
    if part.width % config.array.cols == 0 and at.columns[1] * x.stride("w") == part.width:
        # Pixels adjoin in memory and in the scratchpad.
        return row_cycles(config, timing, part.width * columns, rows)
    return row_cycles(config, timing, part.width, columns * rows)


def _weight_cycles(nest: Nest, config: DotConfig, timing: MemoryTiming, part: Part, tiles: int) -> float:
    """Cycles to load a tile of weights."""
    units, weights = config.array.rows, nest.weights
    if not isinstance(weights, View):
        return row_cycles(config, timing, weight_lines(nest, part, tiles, config) * config.pes)
    if weights.stride("m") != 1:
        return row_cycles(config, timing, 1, min(tiles * units, nest.ng) * part.width)
    return row_cycles(config, timing, units, tiles * part.width)


def _store_cycles(nest: Nest, config: DotConfig, timing: MemoryTiming, region: Region, tiles: int) -> float:
    """Cycles to store the outputs of a group of sums."""
    valid, item = min(tiles * reach_of(nest, config), nest.ng), nest.finish.item(config)
    if valid == nest.y.size("c") and row_pitch(nest, config, tiles, valid) == valid:
        return row_cycles(config, timing, valid * item * region.pixels)
    return row_cycles(config, timing, valid * item, region.pixels)
