"""Cycles that no schedule of a product can go below: the bound of random shapes (:mod:`bench_shapes`).

It holds for every program whose weights stay in the array, and whose commands wait for what they read, as they must if
the program is to be right whatever the memory does. Each term follows from the hardware's latencies, the rates of its
ports, and the memory behind it, and none knows how a layer is cut.

**The first operand.** The first command is fetched, becomes a LOAD, and its first beat comes a latency later, behind
those of the commands that are fetched ahead. An EXECUTE waits until its LOADs are done, so before the first vector
enters, weights of a tile have come, and the activations of all vectors that meet them. The next tile follows as many
cycles later as there are vectors, or rows of weights if these are more: fewer vectors come sooner and let the array
wait longer.

**Sums leave.** A POST keeps lanes for some cycles at least, however few rows it has. If the last POST has fewer rows of
sums than a tile has of weights, so have all tiles that enter behind those of the POST before it, and the array waits
behind each of them but the last. Either way lanes still have as many groups before them when the array, had it never
waited, would be done, as :func:`_left` finds over all numbers of such tiles and of rows of the last POST.

**Lanes.** They take a group a cycle, and are idle for a cycle between POSTs. They begin when a sum is whole: the
array has had all tiles of its contraction, and all weights of these have come. Where array and lanes take about as
long, large POSTs let lanes wait for the first, and the array be done long before the last, and small ones cost a cycle
each (:func:`_excess`). A row of weights that the host has not packed comes in a burst of its own, or the bytes up to
the next row come as well, and in the time of a latency only so many bursts come as may be in flight.
"""

from bisect import bisect_left
from typing import NamedTuple

from pearray.compiler.systolic.timing import Latencies
from pearray.hdl.shell.block_walk import BlockWalker
from pearray.hdl.shell.config import Config
from pearray.hdl.shell.tokens import TokenGates
from pearray.memory import DEFAULT_MEMORY

__all__ = ["Product", "least_cycles"]

#: From what a command waits for to its acceptance; from the start write to the first fetch; behind the last command.
_DONE, _BEGIN, _END = TokenGates.DONE_LATENCY, 3, 2

#: Shares of beats, the rest of bursts, in means of the time that both take at least.
_SHARES = 0.2, 0.4, 0.6, 0.8, 1.0


class Product(NamedTuple):
    """A product of ``pixels`` by ``depth`` by ``channels``, of operands of a byte.

    Parameters
    ----------
    pixels, depth, channels : int
        Output pixels, elements of the contraction, and output channels.
    pitch : int
        Bytes of memory from an input pixel to the next.
    is_packed : bool
        Whether the host has packed the weights; else their rows, of ``channels`` bytes, follow one another.
    read, written : int
        Bytes that have to be read, and written, at least.
    """

    pixels: int
    depth: int
    channels: int
    pitch: int
    is_packed: bool
    read: int
    written: int


def _first_waits(config: Config, product: Product) -> int:
    """Cycles, at least, that the array loses for its first operands, from the first beat on."""
    beat, rows, cols = config.beat_bytes, config.array.rows, config.array.cols
    # The last tile of the contraction, and of the channels, may be smaller than others.
    weights = ((product.depth - 1) % rows + 1) * ((product.channels - 1) % cols + 1)
    follows = product.depth > rows or product.channels > cols or product.pixels > rows

    def beats(vectors: int) -> int:
        # A pixel's own beat, or those up to the next.
        return -(-weights // beat) + -(-((vectors - 1) * min(product.pitch, beat) + 1) // beat)

    return min(beats(vectors) - 1 + follows * (rows - vectors) for vectors in range(1, rows + 1))


def _weights_come(config: Config, product: Product) -> int:
    """Cycles, at least, from the first beat until all weights of a tile of channels can have come."""
    beat, timing = config.beat_bytes, DEFAULT_MEMORY
    size = (product.channels - 1) % config.array.cols + 1
    if product.is_packed:
        return -(-product.depth * size // beat) - 1
    # Bursts end a beat behind one another at least, and a latency and a cycle behind the one that they had to wait for.
    turn = (timing.read_latency + 1) / timing.outstanding
    found = 0.0
    for share in _SHARES:
        row = min(share * product.channels / beat, share * max(1, size / beat) + (1 - share) * turn)
        free = share + (1 - share) * (timing.outstanding * (turn - 1) + 1)
        found = max(found, (product.depth - 1) * row + share * size / beat - free)
    return int(found)


def _left(config: Config, sums: int) -> int:
    """Groups, at least, that lanes have before them when an array that never waited would be done."""
    rows, constants = config.array.rows, Latencies.of(config)
    groups, apart = constants.groups, constants.posting({"n_count": 1, "m_count": 1}).ready
    if sums < rows:
        return groups
    few = (max((tiles - 1) * (rows - last), apart - tiles * last) + groups * last
           for last in range(1, rows - 1) for tiles in range(1, apart + 1))
    return min(groups * (rows - 1), *few)


def _excess(deep: int, groups: int, sums: int) -> int:
    """Cycles, at least, from the first vector to the last group, but for one for each group; sums take `deep` vectors.

    Those that all POSTs up to one read have had all their vectors before it, and its groups and those of all behind it
    come then, with an idle cycle between two POSTs. So each reads as many at most as these cycles and the POSTs before
    leave, of which more rows never make it fewer in all; and as many POSTs as there are cycles are enough.
    """
    def suffices(excess: int) -> bool:
        read = 0.0
        for behind in range(excess, -1, -1):
            read += max(0.0, excess - behind - (deep - groups) * read) / deep
        return read >= sums

    return bisect_left(range(deep * sums), True, key=suffices)


def least_cycles(config: Config, product: Product) -> int:
    """Cycles of a product on a systolic array, from the start write to the done flag, at least."""
    latency, constants = DEFAULT_MEMORY.read_latency, Latencies.of(config)
    command, rows, beat = _BEGIN + latency, config.array.rows, config.beat_bytes
    # Fetches go ahead, and another one does when the first command has come, before a LOAD can ask for anything.
    come = max(command + constants.needed[0] + 2 + BlockWalker.LATENCY + latency,
               command + constants.beats + 1 + latency + constants.beats)
    first = come + constants.load_done + _DONE + constants.prepare + constants.slots_top
    deep, wide = -(-product.depth // rows), -(-product.channels // config.array.cols)
    sums = product.pixels * wide
    waits, lanes = _first_waits(config, product), sums * constants.groups
    array = waits + deep * wide * max(product.pixels, rows) - 1 + _left(config, sums)
    lanes += max((deep - 1) * rows, _weights_come(config, product), waits - 1 + _excess(deep, constants.groups, sums))
    # From a vector, through array and post-processing, to the response of a STORE of one beat.
    stored = BlockWalker.LATENCY + constants.store_data + DEFAULT_MEMORY.write_latency + 1
    end = constants.through + _DONE + constants.start + constants.post + _DONE + stored + _DONE + _END
    return first + max(array, lanes, -(-product.read // beat), -(-product.written // beat)) + end
