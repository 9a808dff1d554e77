"""Commands of the row-stationary array: EXECUTE is a processing pass."""

from dataclasses import replace
from functools import cache

from amaranth.hdl import Format, signed, unsigned
from amaranth.lib import data, enum

from ..shell.commands import (
    DESTINATION_BITS,
    RECORD,
    CommandSet,
    LoadBody,
    MoveBody,
    Parameter,
    PostBody,
    StoreBody,
    variant,
)
from ..shell.functions import post_body

__all__ = ["COMMANDS", "SHIFT_BITS", "Destination", "JoiningBody", "PassBody", "command_set"]

#: Width of the number of a row's shift.
SHIFT_BITS = 8


class Destination(enum.IntEnum, shape=DESTINATION_BITS):
    """Memory that a load writes: a buffer, or a memory of post-processing."""

    #: No memory.
    NONE = 0
    BIAS = Parameter.BIAS.value
    SCALE = Parameter.SCALE.value
    TABLE = Parameter.TABLE.value
    #: Line ``address // 8`` of the global buffer and the bytes behind.
    GLOBAL_BUFFER = 5
    #: Filters, and setups of the array.
    FILTER_BUFFER = 6
    #: With 16-bit operands: the words of a run-length code, to the global buffer.
    GLOBAL_BUFFER_CODED = 7

    @classmethod
    def format(cls, value, format_spec):
        """Tell Verilog the names that it has always had, so that its text stays as it is."""
        names = {0: "ACTIVATION", 1: "WEIGHT"} | {member.value: member.name for member in Parameter}
        return Format.Enum(value, names, name=cls.__qualname__)


class PassBody(data.Struct):
    """Processing pass of the array, or its setup for a layer. Counts are less one.

    With ``setup`` the command sets the array up, when all passes before it have ended: each PE takes
    ``ceil(setup bits / line bits)`` lines of the filter buffer from ``filter_base`` on, the last PE of the last row
    first; ``shift``, ``maximum``, zero points and signs hold until the next setup. The other fields are ignored.
    With ``maximum`` sums are maxima: of the products of a window those count whose filter word is not zero (it must
    have one, or its sum is the least value), and psums are compared, not added.

    A pass delivers, and the PEs sum, in this order:

    * **ifmap words**: for each row n, column, channel set r, line and channel q, the operand at
      ``ifmap_base + n * ifmap_row_step + column * ifmap_column_step + r * ifmap_set_step + line * ifmap_line_step +
      q`` goes to the PEs whose ifmap tag is (r, line).
    * **filter beats**: lines from ``filter_base`` on go, for each beat, set and filter row, to the PEs whose filter
      tag is (set, row). The last beat of each holds ``filter_last + 1`` words.
    * **psum beats**: for each row n, window f, beat, filter set t and ofmap row j, the line at ``psum_read + n *
      psum_image_step + f * psum_window_step + beat + t * psum_set_step + j * psum_row_step`` goes to the chain whose
      psum tag is (t, j), unless sums are ``fresh``, and the chain's sums go to the same place from ``psum_write``.
      The last beat of a window holds ``psum_last + 1`` sums. A pass reads no line that the pass before it has not
      yet written. With ``bias`` it reads ``psum_read + beat + t * psum_set_step`` instead, for each n, window and
      row, without waiting: no pass writes these lines.

    ``window``, ``kept``, ``moved``, ``filters``, ``windows`` and ``rows`` are those of
    :func:`.row_stationary.mac.pass_shape_layout`. The command completes when its last sums are in the buffer.
    """

    setup: unsigned(1)
    maximum: unsigned(1)
    fresh: unsigned(1)
    bias: unsigned(1)
    shift: unsigned(6)
    ifmap_unsigned: unsigned(1)
    filter_unsigned: unsigned(1)
    ifmap_zero_point: signed(9)
    filter_zero_point: signed(9)
    window: unsigned(8)
    kept: unsigned(8)
    moved: unsigned(8)
    filters: unsigned(8)
    windows: unsigned(12)
    rows: unsigned(8)
    ifmap_base: unsigned(20)
    ifmap_line_step: unsigned(20)
    ifmap_set_step: unsigned(20)
    ifmap_column_step: unsigned(20)
    ifmap_row_step: unsigned(20)
    ifmap_channels: unsigned(8)
    ifmap_lines: unsigned(8)
    ifmap_sets: unsigned(8)
    ifmap_columns: unsigned(12)
    filter_base: unsigned(16)
    filter_height: unsigned(8)
    filter_sets: unsigned(8)
    filter_beats: unsigned(8)
    filter_last: unsigned(4)
    psum_read: unsigned(16)
    psum_write: unsigned(16)
    psum_set_step: unsigned(16)
    psum_row_step: unsigned(16)
    psum_window_step: unsigned(16)
    psum_image_step: unsigned(16)
    psum_sets: unsigned(8)
    psum_rows: unsigned(8)
    psum_beats: unsigned(8)
    psum_last: unsigned(4)


#: EXECUTE with ``post.softmax``.
JoiningBody = variant(PassBody, """
    With ``join`` set, sums join those that stand in the global buffer, each shifted by what the POST of a block of
    scores has found: chains begin at zero, and what they make is added to the psums, which are read in the order in
    which they are written. With s the shift ``shift_base + f`` of window f, psums are shifted to the right by
    ``max(s, 0)`` bits, and what chains make by ``max(-s, 0)`` bits, both rounded to nearest, halves upwards. With
    ``low_part`` set, which needs ``join``, psums are not shifted, and what chains make by 8 bits more, 31 at most:
    ifmaps are the lower bytes of numerators, whose upper ones a pass before has joined. ``fresh``, ``bias`` and
    ``maximum`` must be zero.

    With ``by_word`` set, filters are a matrix of bytes in the filter buffer, of which PEs are sent a word at a time.
    Word (filter i, channel k) of set (t, r) is byte ``8 * filter_base + filter_last + t * psum_image_step +
    r * psum_row_step + i * ifmap_line_step + k * ifmap_row_step``; ``filters``, ``window``, ``psum_sets`` and
    ``ifmap_sets`` are their counts. ``rows``, ``psum_rows``, ``ifmap_lines`` and ``filter_height`` must be zero, so
    that nothing else needs these steps. With ``by_line`` set as well, 8 channels that follow one another, and are a
    line, are sent at once; ``window + 1`` is a multiple of 8.

    With ``no_sign`` set, ifmap words have no sign, whatever the setup says. ``rows`` must be zero with ``join``, too.
    """, added={"join": 1, "by_word": 1, "by_line": 1, "no_sign": 1, "shift_base": SHIFT_BITS, "low_part": 1})

_LOAD = variant(LoadBody, """Destinations are buffers.

For a pass that a LOAD waits for, it is enough that its filters have been read, if the LOAD writes the filter buffer, or
else its ifmaps.

To ``GLOBAL_BUFFER_CODED``, ``dram`` is a multiple of 8 and ``address`` even, ``count1`` and ``count2`` are 1,
and ``length``, a multiple of 8, is the most that the code can have: no more is read than up to some bursts
behind its last word. Zeros that the last code word has to spare may be written behind the last word, 2 words
at most.
""", destination=Destination)

_POST_DOC = """Sums come from the global buffer.

``acc_base + n * acc_nstep + m`` is a line of it, which holds ``lanes`` sums (so s is 0), and ``bank`` is 0. With
``scale_mstep`` set, the scale line is one further for each m. With 16-bit operands there is no POST.

In configurations with ``post.softmax``, a row of C scores is ``C / lanes`` lines that follow one another, where C is
``array.rows * pe.ifmap_words``, at most 128, and even. With ``softmax`` set, ``m_count`` counts lines, and so do the
steps of biases and outputs; there are 256 states, shifts and quotients. With ``normalise`` set, quotient
``scale_base + n * scale_nstep`` is the scale of all lines of tile n.
"""
_POST = variant(PostBody, _POST_DOC, "scale_mstep")

_STORE = variant(StoreBody, """With 16-bit operands rows come from the global buffer.

``address`` and the lengths are then even. With ``relu`` set, words below zero become zero. With ``coded`` set,
``address`` is a multiple of 8, and the words of all rows become one run-length code, which is written to ``dram`` (a
multiple of 64) and up; ``dram_step1`` and ``dram_step2`` are ignored.
""", "coded", "relu")

#: Counts of a pass are less one, so none is refused. ``active_pes`` alone is no count in a record: it is the greatest
#: number of PEs that a setup has made active since the record before.
COMMANDS = CommandSet(
    destination=Destination, activations=(Destination.GLOBAL_BUFFER, Destination.GLOBAL_BUFFER_CODED),
    load=_LOAD, execute=PassBody, post=_POST, store=_STORE,
    record=(*RECORD, "active", "stall_dram", "macs", "gated", "passed", "ifmap_reads", "psum_reads", "psum_writes",
            "filter_reads", "fills", "ifmap_spad_writes", "filter_spad_writes", "active_pes"),
    frees={"filters_free": Destination.FILTER_BUFFER, "ifmap_free": None},
)


@cache
def command_set(functions: frozenset[str] = frozenset(), *, moves: bool = False) -> CommandSet:
    """Commands with some functions of the vector engine, and with ``scratchpads.moves`` or without."""
    found = COMMANDS
    if functions:
        body = post_body(functions)
        post = variant(body, f"{_POST_DOC}\n    {body.__doc__}", "scale_mstep")
        found = replace(found, post=post, execute=JoiningBody)
    if not moves:
        return found
    doc = "The destination is ``GLOBAL_BUFFER``; what goes to others is lost."
    return replace(found, move=variant(MoveBody, doc, destination=Destination))
