"""Program format: fixed-size commands that an accelerator fetches from memory.

A program is a sequence of 64-byte commands, little-endian, ending with one :attr:`Opcode.END`.
Each command is a 96-bit header and a 416-bit body, whose layout depends on the kind of array: an EXECUTE
is another command for each. The header names a queue (its opcode) and, for
each of the four queues, how many of that queue's commands must have completed before this one may
start. Completed commands are the tokens of this machine: a queue's count only grows, a command
takes nothing away, and counts are compared modulo 2**16.

A program in which each command waits only for commands that stand before it can't deadlock,
whatever the depth of the queues: the oldest command that has not completed can always go on.

The headers of a program's last commands tell in ``near_end`` how many commands follow: 15 less that
number, END included. So a program of which fetching has seen a command is not read beyond its end. Zero
tells nothing, and is always right.

Lengths and counts are at least 1. At a command in which one is zero that :data:`COUNTS` names, as at one
of unknown opcode or version, the run ends with the error ``BAD_COMMAND`` and the command's address.
Scratchpad addresses wrap at the size of their memory.

The layouts below are the only definition of the format. Hardware decodes with them, the compiler
encodes with :func:`encode`, and ``docs/program.md`` is generated from them.
"""

from collections.abc import Mapping
from typing import Any

from amaranth.hdl import Format, Shape, signed, unsigned
from amaranth.lib import data, enum

__all__ = [
    "BODIES", "BODY_BITS", "COMMAND_BYTES", "COUNTS", "COUNTS_EXCEPT", "FORMAT_VERSION", "HEADER", "KINDS",
    "Destination", "ExecuteBody", "LoadBody", "Opcode", "PassBody", "PostBody", "Rounding", "StoreBody",
    "bodies", "counts", "decode", "encode",
]

FORMAT_VERSION = 2
COMMAND_BYTES = 64
HEADER_BITS = 96
BODY_BITS = COMMAND_BYTES * 8 - HEADER_BITS

#: Width of a scratchpad address or step. Arithmetic is modulo 2**20, so a negative step is its
#: two's complement.
ADDRESS_BITS = 20


class Opcode(enum.Enum, shape=8):
    """Queue of a command, or the end of the program."""

    END = 0
    LOAD = 1
    EXECUTE = 2
    POST = 3
    STORE = 4


class Destination(enum.Enum, shape=3):
    """Memory that a load writes; each kind of array has its own, and those of post-processing."""

    #: Systolic.
    ACTIVATION = 0
    #: Systolic.
    WEIGHT = 1
    BIAS = 2
    SCALE = 3
    TABLE = 4
    #: Row-stationary: line ``address // 8`` of the global buffer and the bytes behind.
    GLOBAL_BUFFER = 5
    #: Row-stationary: filters, and setups of the array.
    FILTER_BUFFER = 6
    #: Row-stationary with 16-bit operands: the words of a run-length code, to the global buffer.
    GLOBAL_BUFFER_CODED = 7

    @classmethod
    def format(cls, value, format_spec):
        """Tell Verilog the names that it has always had, so that the systolic kind's text stays as it is."""
        names = {member.value: member.name for member in cls if member.value <= cls.TABLE.value}
        return Format.Enum(value, names, name=cls.__qualname__)


class Rounding(enum.Enum, shape=2):
    """How post-processing turns a sum into an output."""

    #: The biased sum itself, sign-extended to a whole number of 32-bit words.
    NONE = 0
    #: ``rint(float32(sum) * float32 scale)``, as onnxruntime.
    ONNX = 1
    #: Saturating rounding doubling high multiply, then rounding right shift, as TFLite CONV_2D.
    TFLITE_DOUBLE = 2
    #: One rounding of the whole product, as TFLite FULLY_CONNECTED.
    TFLITE_SINGLE = 3


HEADER = data.StructLayout({
    "opcode": Opcode,
    "version": 8,
    # 15 less the commands that follow, END included; 0 if there are as many or more.
    "near_end": 4,
    "reserved": 12,
    # Commands of each queue that must have completed before this one starts (modulo 2**16).
    "wait_load": 16,
    "wait_execute": 16,
    "wait_post": 16,
    "wait_store": 16,
})


class LoadBody(data.Struct):
    """Copy ``count2`` x ``count1`` rows of ``length`` bytes from DRAM to a scratchpad, or fill them.

    Row (i2, i1) goes from ``dram + i2 * dram_step2 + i1 * dram_step1`` to
    ``address + i2 * step2 + i1 * step1``. Addresses, steps and lengths are in bytes, of any
    alignment; to BIAS, SCALE and TABLE they are multiples of 4, and with operands of two bytes
    ``dram`` and ``address`` of a row are both even or both odd. The command completes when its last
    byte can be read from the scratchpad. For a pass of the row-stationary array that a LOAD waits for, it is
    enough that its filters have been read, if the LOAD writes the filter buffer, or else its ifmaps.

    To ``GLOBAL_BUFFER_CODED``, ``dram`` is a multiple of 8 and ``address`` even, ``count1`` and ``count2`` are 1,
    and ``length``, a multiple of 8, is the most that the code can have: no more is read than up to some bursts
    behind its last word. Zeros that the last code word has to spare may be written behind the last word, 2 words
    at most.
    """

    destination: Destination
    #: Write ``value`` to every byte of the rows instead of reading DRAM.
    fill: unsigned(1)
    value: unsigned(8)
    dram: unsigned(32)
    dram_step1: unsigned(32)
    dram_step2: unsigned(32)
    address: unsigned(ADDRESS_BITS)
    step1: unsigned(ADDRESS_BITS)
    step2: unsigned(ADDRESS_BITS)
    length: unsigned(24)
    count1: unsigned(16)
    count2: unsigned(16)


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
    walked tile by tile for each n, or, with ``k_outer`` set, n by n for each tile.

    **Output-stationary** (``output_stationary`` = 1). Tile n of R x C sums contracts
    ``m_count0 * m_count1 * m_count2`` elements, at most ``Config.os_depth``. Element (i2, i1, i0)
    meets R consecutive activations at
    ``a_base + n * a_nstep + i2 * m_step2 + i1 * m_step1 + i0 * m_step0`` and C consecutive weights
    at ``w_base + n * w_nstep + i2 * jump2 + i1 * jump1 + i0 * w_pitch``. The sum of row r goes to
    accumulator row ``acc_base + n * acc_nstep + r``. ``k_total``, ``run``, ``run_count``,
    ``left``, ``fold``, ``diagonal`` and ``k_outer`` are zero.

    Before they meet, activations lose ``a_zero_point`` and weights ``w_zero_point``; both are
    read as signed unless ``a_unsigned`` or ``w_unsigned`` is set. Rows of a tile beyond its last
    element contribute nothing. Counts (``m_count``, ``n_count``, and, weight-stationary, ``k_total``,
    ``run`` and ``run_count``) are at least 1. Tiles that add to rows of the tile before, in this
    command or the one before, must begin at the same row: an addition to a row that was written less
    than six cycles before may miss it. The command completes when its last sum stands in the
    accumulators.
    """

    output_stationary: unsigned(1)
    left: unsigned(1)
    fold: unsigned(1)
    diagonal: unsigned(1)
    k_outer: unsigned(1)
    first: unsigned(1)
    maximum: unsigned(1)
    bank: unsigned(1)
    a_unsigned: unsigned(1)
    w_unsigned: unsigned(1)
    a_zero_point: signed(9)
    w_zero_point: signed(9)
    a_base: unsigned(ADDRESS_BITS)
    a_nstep: unsigned(ADDRESS_BITS)
    m_step0: unsigned(ADDRESS_BITS)
    m_step1: unsigned(ADDRESS_BITS)
    m_step2: unsigned(ADDRESS_BITS)
    m_count0: unsigned(16)
    m_count1: unsigned(16)
    m_count2: unsigned(16)
    k_total: unsigned(16)
    run: unsigned(16)
    run_count: unsigned(16)
    n_count: unsigned(16)
    jump1: unsigned(ADDRESS_BITS)
    jump2: unsigned(ADDRESS_BITS)
    w_base: unsigned(ADDRESS_BITS)
    w_pitch: unsigned(ADDRESS_BITS)
    w_nstep: unsigned(ADDRESS_BITS)
    acc_base: unsigned(16)
    acc_nstep: unsigned(16)


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


class PostBody(data.Struct):
    """Turn accumulator rows into outputs in the output scratchpad.

    For each tile n < ``n_count``, row m < ``m_count`` and group s < C / lanes, in this order with
    s innermost, the sums of columns ``s * lanes ...`` of row ``acc_base + n * acc_nstep + m`` are

    1. added to line ``bias_base + n * bias_nstep + m * bias_mstep + s`` of the bias memory
       (``lanes`` int32 each) if ``bias`` is set,
    2. rounded by line ``scale_base + n * scale_nstep + (s if per_channel else 0)`` of the scale
       memory (``lanes`` entries of 8 bytes: bits 31..0 a float32 scale or an int32 multiplier,
       bits 37..32 a right shift, two's complement), then ``zero_point`` is added,
    3. clamped to ``low ... high``,
    4. if ``table`` is set, looked up: byte ``column * 256 + (value mod 256)`` of the table memory
       (with ``Rounding.NONE``, set to zero if negative),
    5. written to byte ``out_base + n * out_nstep + m * out_mstep + s * lanes * size`` of the output
       scratchpad, where ``size`` is the size of an output: with ``Rounding.NONE`` (which skips
       2, 3 and the table) that of a sum, 4 bytes, or 8 where accumulators are wider than 32 bits, else
       that of an operand.

    With the row-stationary kind, ``acc_base + n * acc_nstep + m`` is a line of the global buffer, which holds
    ``lanes`` sums (so s is 0), and ``bank`` is 0. The first reserved bit is ``scale_mstep``: with it set, the scale
    line is one further for each m. With 16-bit operands there is no POST.

    Output addresses are multiples of ``lanes * size``. The command completes when its last output
    can be read from the output scratchpad; for an EXECUTE that waits for it, when it has read its last sums.
    """

    rounding: Rounding
    bank: unsigned(1)
    bias: unsigned(1)
    per_channel: unsigned(1)
    table: unsigned(1)
    zero_point: signed(17)
    low: signed(17)
    high: signed(17)
    reserved: unsigned(7)
    n_count: unsigned(16)
    m_count: unsigned(16)
    acc_base: unsigned(16)
    acc_nstep: unsigned(16)
    bias_base: unsigned(16)
    bias_nstep: unsigned(16)
    bias_mstep: unsigned(16)
    scale_base: unsigned(16)
    scale_nstep: unsigned(16)
    out_base: unsigned(ADDRESS_BITS)
    out_nstep: unsigned(ADDRESS_BITS)
    out_mstep: unsigned(ADDRESS_BITS)


class StoreBody(data.Struct):
    """Copy ``count2`` x ``count1`` rows of ``length`` bytes from the output scratchpad to DRAM.

    Fields are as in :class:`LoadBody`. With ``profile`` set the command writes instead one record
    of little-endian 32-bit words to ``dram`` (a multiple of 64); the other
    fields are then ignored. The systolic kind writes four words: cycles since start, read
    beats, write beats, and cycles in which the array was given an operand vector. The row-stationary kind
    writes sixteen, which ``hdl/shell/record.py`` lists. The command completes when memory has acknowledged its last
    byte.

    With the row-stationary kind of 16-bit operands, rows come from the global buffer: ``address`` and the lengths
    are even. The first reserved bits are ``coded`` and ``relu``. With ``relu`` set, words below zero become zero. With
    ``coded`` set, ``address`` is a multiple of 8, and the words of all rows become one run-length code, which is
    written to ``dram`` (a multiple of 64) and up; ``dram_step1`` and ``dram_step2`` are ignored.
    """

    profile: unsigned(1)
    reserved: unsigned(11)
    dram: unsigned(32)
    dram_step1: unsigned(32)
    dram_step2: unsigned(32)
    address: unsigned(ADDRESS_BITS)
    step1: unsigned(ADDRESS_BITS)
    step2: unsigned(ADDRESS_BITS)
    length: unsigned(24)
    count1: unsigned(16)
    count2: unsigned(16)


#: Layout of the body of each command, for the systolic kind; see :func:`bodies`.
BODIES: dict[Opcode, type[data.Struct]] = {
    Opcode.LOAD: LoadBody,
    Opcode.EXECUTE: ExecuteBody,
    Opcode.POST: PostBody,
    Opcode.STORE: StoreBody,
}

#: Lengths and counts of each command, which the hardware refuses to be zero. It tests them by aligned
#: groups of 16 bits, and has the first bit of the body to tell the exceptions (:data:`COUNTS_EXCEPT`).
#: This is the systolic kind's; see :func:`counts`.
COUNTS: dict[Opcode, tuple[str, ...]] = {
    Opcode.LOAD: ("length", "count1", "count2"),
    Opcode.EXECUTE: ("m_count0", "m_count1", "m_count2", "n_count", "k_total", "run", "run_count"),
    Opcode.POST: ("n_count", "m_count"),
    Opcode.STORE: ("length", "count1", "count2"),
}

#: Those that may be zero if the first bit of the body is set: output-stationary, or a profile record.
COUNTS_EXCEPT: dict[Opcode, tuple[str, ...]] = {
    Opcode.EXECUTE: ("k_total", "run", "run_count"),
    Opcode.STORE: COUNTS[Opcode.STORE],
}


#: Kinds of array (``array.kind`` of a configuration).
KINDS = ("systolic", "row-stationary")


def _with_flags(body: type[data.Struct], *names: str) -> type[data.Struct]:
    """Body of which the first reserved bits are named: another type, since Verilog tells the names."""
    fields: dict[str, Any] = {}
    for name, field in data.Layout.cast(body):
        if name == "reserved":
            fields |= dict.fromkeys(names, 1)
            field = data.Field(field.shape.width - len(names), field.offset)
        fields[str(name)] = field.shape
    space = {"__annotations__": fields, "__doc__": body.__doc__, "__module__": __name__}
    make: Any = type(data.Struct)
    made: type[data.Struct] = make(f"RowStationary{body.__name__}", (data.Struct,), space)
    return made


_ROW_STATIONARY = BODIES | {
    Opcode.EXECUTE: PassBody,
    Opcode.POST: _with_flags(PostBody, "scale_mstep"),
    Opcode.STORE: _with_flags(StoreBody, "coded", "relu"),
}


def bodies(kind: str) -> dict[Opcode, type[data.Struct]]:
    """Layout of the body of each command for a kind of array."""
    return BODIES if kind == "systolic" else _ROW_STATIONARY


def counts(kind: str) -> tuple[dict[Opcode, tuple[str, ...]], dict[Opcode, tuple[str, ...]]]:
    """:data:`COUNTS` and :data:`COUNTS_EXCEPT` for a kind of array."""
    if kind == "systolic":
        return COUNTS, COUNTS_EXCEPT
    # Counts of a pass are less one.
    return COUNTS | {Opcode.EXECUTE: ()}, COUNTS_EXCEPT | {Opcode.EXECUTE: ()}


def _pack(layout: Any, fields: Mapping[str, int], context: str) -> int:
    bits = 0
    known = {name for name, _ in layout}
    for name, value in fields.items():
        if name not in known:
            raise ValueError(f"{context} has no field {name!r}")
        field = layout[name]
        value = int(getattr(value, "value", value))
        width, is_signed = _width(field.shape)
        lower = -(1 << width - 1) if is_signed else 0
        upper = (1 << width - 1 if is_signed else 1 << width) - 1
        if not lower <= value <= upper:
            raise ValueError(f"{context} field {name} must be in {lower}..{upper}, not {value}")
        bits |= (value & (1 << width) - 1) << field.offset
    return bits


def _width(shape: Any) -> tuple[int, bool]:
    cast = Shape.cast(shape)
    return cast.width, cast.signed


def _unpack(layout: Any, bits: int) -> dict[str, Any]:
    fields = {}
    for name, field in layout:
        width, is_signed = _width(field.shape)
        value = bits >> field.offset & (1 << width) - 1
        if is_signed and value >> width - 1:
            value -= 1 << width
        is_enum = isinstance(field.shape, type) and issubclass(field.shape, enum.Enum)
        fields[name] = field.shape(value) if is_enum else value
    return fields


def _layout(shape: type[data.Struct]) -> Any:
    return data.Layout.cast(shape)


def encode(opcode: Opcode, waits: Mapping[str, int], body: Mapping[str, int], following: int = 15,
           kind: str = "systolic") -> bytes:
    """Encode one command.

    Parameters
    ----------
    opcode : Opcode
        Queue of the command.
    waits : mapping
        Commands of the queues ``load``, ``execute``, ``post`` and ``store`` that must have
        completed first; each is taken modulo 2**16, an absent one is zero.
    body : mapping
        Fields of the body by name; an absent one is zero.
    following : int
        Commands that follow in the program, END included; 15 or more are all the same.
    kind : str
        Kind of array, one of :data:`KINDS`.

    Returns
    -------
    bytes
        :data:`COMMAND_BYTES` bytes.

    Raises
    ------
    ValueError
        If a field is unknown or a value does not fit its field.
    """
    header = {f"wait_{queue}": count & 0xFFFF for queue, count in waits.items()}
    header |= {"opcode": opcode.value, "version": FORMAT_VERSION, "near_end": 15 - min(following, 15)}
    bits = _pack(HEADER, header, "command header")
    if opcode in BODIES:
        bits |= _pack(_layout(bodies(kind)[opcode]), body, f"{opcode.name} command") << HEADER_BITS
    return bits.to_bytes(COMMAND_BYTES, "little")


def decode(command: bytes, kind: str = "systolic") -> tuple[Opcode, dict[str, int], dict[str, Any]]:
    """Decode one command into its opcode, waits and body fields, the inverse of :func:`encode`."""
    bits = int.from_bytes(command, "little")
    header = _unpack(HEADER, bits)
    opcode = header["opcode"]
    waits = {name.removeprefix("wait_"): header[name] for name in header if name.startswith("wait_")}
    body = {}
    if opcode in BODIES:
        body = _unpack(_layout(bodies(kind)[opcode]), bits >> HEADER_BITS)
    return opcode, waits, body
