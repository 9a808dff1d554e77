"""Commands of the systolic array: EXECUTE contracts one output group."""

from dataclasses import replace
from functools import cache

from amaranth.hdl import signed, unsigned
from amaranth.lib import data, enum

from ..shell.commands import (
    ADDRESS_BITS,
    DESTINATION_BITS,
    RECORD,
    CommandSet,
    LoadBody,
    MoveBody,
    Parameter,
    PostBody,
    variant,
)
from ..shell.functions import post_body

__all__ = ["COMMANDS", "Destination", "ExecuteBody", "PairDestination", "RescalingBody", "RoutineDestination",
           "command_set"]


class Destination(enum.IntEnum, shape=DESTINATION_BITS):
    """Memory that a load writes: a scratchpad of operands, or one of post-processing's."""

    ACTIVATION = 0
    WEIGHT = 1
    BIAS = Parameter.BIAS.value
    SCALE = Parameter.SCALE.value
    TABLE = Parameter.TABLE.value


class PairDestination(enum.IntEnum, shape=DESTINATION_BITS):
    """Memory that a load writes, with ``post.pairs``: one more of post-processing's."""

    ACTIVATION = 0
    WEIGHT = 1
    BIAS = Parameter.BIAS.value
    SCALE = Parameter.SCALE.value
    TABLE = Parameter.TABLE.value
    #: Both tables of pairs.
    PAIR = 5


class RoutineDestination(enum.IntEnum, shape=DESTINATION_BITS):
    """Memory that a load writes, with ``post.routines``: two more of post-processing's."""

    ACTIVATION = 0
    WEIGHT = 1
    BIAS = Parameter.BIAS.value
    SCALE = Parameter.SCALE.value
    TABLE = Parameter.TABLE.value
    #: What routines read.
    VECTOR = 6
    #: Instructions.
    ROUTINE = 7


class ExecuteBody(data.Struct):
    """Contract activations with weights into one bank of the accumulators.

    Addresses and steps are in operands (1 byte each up to 8 bits, else 2). The array has R rows
    and C columns. All address arithmetic is modulo 2**20.

    **Weight-stationary** (``output_stationary`` = 0). The command contracts ``k_total`` elements
    with ``n_count`` tiles of C columns, for ``m_count0 * m_count1 * m_count2`` pixels. Pixel
    (i2, i1, i0) has number ``m = (i2 * m_count1 + i1) * m_count0 + i0`` and activation base
    ``a_base + n * a_nstep + i2 * m_step2 + i1 * m_step1 + i0 * m_step0``.

    Contraction element k stands at ``a_offset(k)`` behind the base of its pixel:
    ``a_offset(0) = 0``; going from k to k + 1 adds 1; after each ``run`` elements it also adds
    ``jump1``; after each ``run_count`` runs it also adds ``jump2``. Its weights stand at
    ``w_base + n * w_nstep + k * w_pitch``, C consecutive operands, one per column; with
    ``left`` set, the weight of column c is at ``w_base + n * w_nstep + c * w_pitch + k``.

    Elements are cut into tiles of at most R. With ``fold`` set a tile takes the next R elements,
    whichever runs they belong to; then ``jump1`` and ``jump2`` must be multiples of the number of
    banks of the activation scratchpad. With ``fold`` clear a tile ends where a run ends.
    With ``diagonal`` set (it excludes ``left`` and ``fold``) a tile is one whole run of at most
    min(R, C) elements, all of which share one line of weights at
    ``w_base + n * w_nstep + tile * w_pitch``; element j of the tile meets column j only.

    The sum over a tile is combined into row ``acc_base + n * acc_nstep + m`` of the bank: added,
    or, with ``maximum`` set, compared. The first tile overwrites if ``first`` is set. Tiles are
    walked tile by tile for each n.

    **Output-stationary** (``output_stationary`` = 1). Tile n of R x C sums contracts
    ``m_count0 * m_count1 * m_count2`` elements, at most ``Config.os_depth``. Element (i2, i1, i0)
    meets R consecutive activations at
    ``a_base + n * a_nstep + i2 * m_step2 + i1 * m_step1 + i0 * m_step0`` and C consecutive weights
    at ``w_base + n * w_nstep + i2 * jump2 + i1 * jump1 + i0 * w_pitch``. The sum of row r goes to
    accumulator row ``acc_base + n * acc_nstep + r``. ``k_total``, ``run``, ``run_count``,
    ``left``, ``fold`` and ``diagonal`` are zero. Where an addition takes A cycles, A sums take turns in
    each PE, and R stands for A times the rows of the array; with integers A is 1.

    Before they meet, activations lose ``a_zero_point`` and weights ``w_zero_point``; both are
    read as signed unless ``a_unsigned`` or ``w_unsigned`` is set. Rows of a tile beyond its last
    element contribute nothing. Counts (``m_count``, ``n_count``, and, weight-stationary, ``k_total``,
    ``run`` and ``run_count``) are at least 1. Tiles that add to rows of the tile before, in this
    command or the one before, must begin at the same row: an addition to a row that was written less
    than six cycles before (with integers; else ``Accumulators.period``) may miss it. The command completes so that
    its last sum stands in the accumulators when a POST that waits for it reads sums.
    """

    output_stationary: unsigned(1)
    left: unsigned(1)
    fold: unsigned(1)
    diagonal: unsigned(1)
    first: unsigned(1)
    maximum: unsigned(1)
    bank: unsigned(1)
    a_zero_point: signed(9)
    # Counts are aligned to 16 bits.
    m_count0: unsigned(16)
    m_count1: unsigned(16)
    m_count2: unsigned(16)
    k_total: unsigned(16)
    run: unsigned(16)
    run_count: unsigned(16)
    n_count: unsigned(16)
    a_unsigned: unsigned(1)
    w_unsigned: unsigned(1)
    w_zero_point: signed(9)
    a_base: unsigned(ADDRESS_BITS)
    a_nstep: unsigned(ADDRESS_BITS)
    m_step0: unsigned(ADDRESS_BITS)
    m_step1: unsigned(ADDRESS_BITS)
    m_step2: unsigned(ADDRESS_BITS)
    jump1: unsigned(ADDRESS_BITS)
    jump2: unsigned(ADDRESS_BITS)
    w_base: unsigned(ADDRESS_BITS)
    w_pitch: unsigned(ADDRESS_BITS)
    w_nstep: unsigned(ADDRESS_BITS)
    acc_base: unsigned(16)
    acc_nstep: unsigned(16)


#: EXECUTE with ``post.softmax``.
RescalingBody = variant(ExecuteBody, """
    With ``rescale`` set, which excludes ``output_stationary``, ``maximum`` and ``diagonal``, sums are shifted before
    they are combined, by what the POST of a block of scores has found. With s the shift ``shift_base + m``,
    ``d = max(s, 0)`` and ``dp = max(-s, 0)``, what stands in the accumulators is shifted to the right by ``d`` bits
    before the first tile of elements of each n is added to it, and the sum over each tile by ``dp`` bits, both rounded
    to nearest, halves upwards. A tile that overwrites is shifted like others.

    With ``low_part`` set as well, activations are the low bytes of numerators: what stands in the accumulators is not
    shifted, and the sum over a tile by ``min(dp + 8, 31)`` bits.""",
                        added={"rescale": 1, "low_part": 1, "shift_base": 16})

#: What a POST of this array has besides.
_RELEASE = """For an EXECUTE that waits for it, a POST counts as completed some cycles before it has read its last sums,
    no more than such a command takes to come to any. It does so sooner if ``release`` is more than the rows of the last
    tile that are left then: as it begins to read the ``release``-th row from the end. Then no EXECUTE may come to
    a row that has yet to be read, and none but overwrite any in the bank until all have been. 0 is safe for all."""
_RELEASED = {"release": 16}

#: ``active`` counts cycles in which the array was given an operand vector.
COMMANDS = CommandSet(
    destination=Destination,
    activations=(Destination.ACTIVATION,),
    load=variant(LoadBody, "Destinations are scratchpads.", destination=Destination),
    execute=ExecuteBody,
    post=variant(PostBody, _RELEASE, added=_RELEASED),
    execute_counts=("m_count0", "m_count1", "m_count2", "n_count", "k_total", "run", "run_count"),
    # Output-stationary.
    execute_counts_except=("k_total", "run", "run_count"),
    record=(*RECORD, "active"),
)


@cache
def command_set(functions: frozenset[str] = frozenset(), *, moves: bool = False) -> CommandSet:
    """Commands with some functions of the vector engine, and with ``scratchpads.moves`` or without."""
    found = replace(COMMANDS, post=variant(post_body(functions), _RELEASE, added=_RELEASED)) if functions else COMMANDS
    for key, destination in (("pairs", PairDestination), ("routines", RoutineDestination)):
        if key in functions:
            load = variant(LoadBody, "Destinations are scratchpads.", destination=destination)
            found = replace(found, destination=destination, load=load)
    if "softmax" in functions:
        found = replace(found, execute=RescalingBody)
    if not moves:
        return found
    doc = "Destinations are ``ACTIVATION`` and ``WEIGHT``; what goes to others is lost."
    return replace(found, move=variant(MoveBody, doc, destination=found.destination))
