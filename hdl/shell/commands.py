"""Program format: fixed-size commands that an accelerator fetches from memory.

A program is a sequence of 64-byte commands, little-endian, ending with one :attr:`Opcode.END`.
Each command is a header and behind it a body, whose layout depends on the kind of array: an EXECUTE
is another command for each, and what it adds to the others stands in bits that are reserved here. The header
names a queue (its opcode) and, for
each of the configuration's queues, how many of that queue's commands must have completed before this one may
start. There are four queues, and a fifth of MOVEs in configurations that have them; the header has 32 bits and 16
for each queue, so that bodies begin at bit 96 or 112. Completed commands are the tokens of this machine: a queue's
count only grows, a command takes nothing away, and counts are compared modulo 2**16: a wait has been reached if the
count less the wait, modulo 2**16, is below 2**15.

A program in which each command waits only for commands that stand before it can't deadlock,
whatever the depth of the queues: the oldest command that has not completed can always go on. For counts to be
compared rightly it is enough that no wait is for less than what stands before the command of the awaited queue, less
2**14, and that each command waits for all that stand before the one 2**14 - 1 before it in its own queue. So
zero stands for nothing to wait for only up to 2**14 commands.

The headers of a program's last commands tell in ``near_end`` how many commands follow: 15 less that
number, END included. So a program of which fetching has seen a command is not read beyond its end. Zero
tells nothing, and is always right.

Lengths and counts are at least 1. At a command in which one is zero that :attr:`CommandSet.counts` names, as at
one of unknown opcode or version, the run ends with the error ``BAD_COMMAND`` and the command's address.
Scratchpad addresses wrap at the size of their memory.

The layouts below, and those of the kinds (``commands.py`` in the room of each), are the only definition of the
format. Hardware decodes with them, the compiler encodes with them (:class:`CommandSet`), and ``docs/program.md`` is
generated from them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from amaranth.hdl import Shape, signed, unsigned
from amaranth.lib import data, enum

from ..errors import PearrayError
from .packing import Place, body_places, pack, places, some_of, unpack, variant
from .waits import WAIT_BITS, wait_field

__all__ = [
    "ADDRESS_BITS", "COMMAND_BYTES", "DESTINATION_BITS", "FORMAT_VERSION", "QUEUES", "RECORD", "ROW_WRAP", "CommandSet",
    "LoadBody", "MoveBody", "Opcode", "Parameter", "PostBody", "Rounding", "StoreBody", "header_layout", "variant",
]

FORMAT_VERSION = 4
COMMAND_BYTES = 64

#: Width of a scratchpad address or step. Arithmetic is modulo 2**20, so a negative step is its
#: two's complement.
ADDRESS_BITS = 20

#: Where rows of sums, and lines of biases and scales, wrap, so that steps may go back.
ROW_WRAP = 1 << 16

#: Width of the number of a memory that a load writes.
DESTINATION_BITS = 3

#: First words of every profile record, counts since start.
RECORD = ("cycles", "read_beats", "write_beats")


class Opcode(enum.Enum, shape=8):
    """Queue of a command, or the end of the program."""

    END = 0
    LOAD = 1
    EXECUTE = 2
    POST = 3
    STORE = 4
    MOVE = 5


#: Queues of every kind of array, in the order of their numbers. That of MOVEs, where there is one, stands behind them.
QUEUES = (Opcode.LOAD, Opcode.EXECUTE, Opcode.POST, Opcode.STORE)


class Parameter(enum.IntEnum, shape=DESTINATION_BITS):
    """Memory of post-processing that a load writes; it has the same number among the destinations of every kind."""

    BIAS = 2
    SCALE = 3
    TABLE = 4


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


def header_layout(queues: Sequence[Opcode]) -> data.StructLayout:
    """Layout of a command's header, with a wait for each of these queues."""
    return data.StructLayout({
        "opcode": some_of((Opcode.END, *queues)),
        "version": 8,
        # 15 less the commands that follow, END included; 0 if there are as many or more.
        "near_end": 4,
        "reserved": 12,
        # Commands of each queue that must have completed before this one starts, modulo 2**16 (see waits.py).
        **{f"wait_{opcode.name.lower()}": WAIT_BITS for opcode in queues},
    })


class LoadBody(data.Struct):
    """Copy ``count2`` x ``count1`` rows of ``length`` bytes from DRAM to a scratchpad, or fill them.

    Row (i2, i1) goes from ``dram + i2 * dram_step2 + i1 * dram_step1`` to
    ``address + i2 * step2 + i1 * step1``. Addresses, steps and lengths are in bytes, of any
    alignment; to BIAS, SCALE and TABLE they are multiples of 4, and with operands of two bytes
    ``dram`` and ``address`` of a row are both even or both odd. The command completes when its last
    byte can be read from the scratchpad. The destinations are those of the kind of array.
    """

    destination: unsigned(DESTINATION_BITS)
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

    Where operands are floats, sums, biases and outputs that are not rounded are float32, and others are of the
    format of operands: any ``rounding`` but ``NONE`` is to nearest, halves to even. Bounds come before it: ``low`` and
    ``high`` are numbers of the format in their low 16 bits, and there is such a bound if the field is negative.
    ``zero_point``, ``per_channel``, ``scale_nstep`` and, but with ``Rounding.NONE``, ``table`` must be zero.

    Output addresses are multiples of ``lanes * size``. The command completes when its last output
    can be read from the output scratchpad; for an EXECUTE that waits for it, so that its last sums have been read
    when that reads or writes sums.
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
    fields are then ignored. The words are counts since start, modulo 2**32: cycles, read beats, write beats, and
    what the kind of array adds (:attr:`CommandSet.record`). The command completes when memory has acknowledged its
    last byte.
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


class MoveBody(data.Struct):
    """Copy ``count2`` x ``count1`` rows of ``length`` bytes from the output scratchpad to a scratchpad of operands.

    Row (i2, i1) goes from ``address + i2 * step2 + i1 * step1`` of the output scratchpad to
    ``target + i2 * target_step2 + i1 * target_step1`` of the destination, which is one of operands. All are in bytes,
    of any alignment; with operands of two bytes ``address`` and ``target`` of a row are both even or both odd. The
    command completes when its last byte can be read from the destination.
    """

    destination: unsigned(DESTINATION_BITS)
    # Counts and lengths lie in one beat of any width.
    reserved: unsigned(13)
    count1: unsigned(16)
    count2: unsigned(16)
    length: unsigned(24)
    address: unsigned(ADDRESS_BITS)
    step1: unsigned(ADDRESS_BITS)
    step2: unsigned(ADDRESS_BITS)
    target: unsigned(ADDRESS_BITS)
    target_step1: unsigned(ADDRESS_BITS)
    target_step2: unsigned(ADDRESS_BITS)


#: Lengths and counts of the commands that all kinds share, which the hardware refuses to be zero.
_COUNTS = {
    Opcode.LOAD: ("length", "count1", "count2"),
    Opcode.POST: ("n_count", "m_count"),
    Opcode.STORE: ("length", "count1", "count2"),
    Opcode.MOVE: ("length", "count1", "count2"),
}


@dataclass(frozen=True, kw_only=True)
class CommandSet:
    """Commands of a kind of array, and what they mean to the shell.

    Parameters
    ----------
    destination : type of IntEnum
        Memories that a LOAD writes, :data:`DESTINATION_BITS` wide; with post-processing, those of
        :class:`Parameter` among them.
    activations : tuple of destination
        Those that hold activations. What goes to others counts as weights in the ledger.
    load, execute, post, store : type of Struct
        Bodies; those of LOAD, POST and STORE are variants of the shared ones (:func:`variant`).
    move : type of Struct, optional
        Body of a MOVE, a variant of the shared one; without it there is no fifth queue.
    execute_counts : tuple of str
        Counts of an EXECUTE, which the hardware refuses to be zero. It tests them by aligned groups of 16 bits.
    execute_counts_except : tuple of str
        Those that may be zero if the first bit of the body is set.
    record : tuple of str
        Names of the words of a profile record, a power of two; the first are :data:`RECORD`. All are counts since
        start, but for ``active_pes``, where there is one: the greatest number of PEs that have been active at a
        time since the record before.
    frees : mapping of str to int or None
        Buffers that an EXECUTE gives back before it completes, by the name of the signal that says so; with each
        the destination for whose LOADs this counts as completion, or None: for those to all others.

    Raises
    ------
    PearrayError
        If a body is too long to stand behind the header.
    """

    destination: type[enum.IntEnum]
    activations: tuple[enum.IntEnum, ...] = ()
    load: type[data.Struct]
    execute: type[data.Struct]
    post: type[data.Struct] = PostBody
    store: type[data.Struct] = StoreBody
    move: type[data.Struct] | None = None
    execute_counts: tuple[str, ...] = ()
    execute_counts_except: tuple[str, ...] = ()
    record: tuple[str, ...]
    frees: Mapping[str, int | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        room = COMMAND_BYTES * 8 - self.header_bits
        for opcode, body in self.bodies.items():
            bits = Shape.cast(body).width
            if bits > room:
                raise PearrayError(f"body of {opcode.name} must have at most {room} bits behind a header with "
                                   f"{len(self.queues)} waits, not {bits}")

    @cached_property
    def bodies(self) -> dict[Opcode, type[data.Struct]]:
        """Layout of the body of each command."""
        bodies = {Opcode.LOAD: self.load, Opcode.EXECUTE: self.execute, Opcode.POST: self.post,
                  Opcode.STORE: self.store}
        return bodies if self.move is None else bodies | {Opcode.MOVE: self.move}

    @cached_property
    def queues(self) -> tuple[Opcode, ...]:
        """Queues in the order of their numbers."""
        return tuple(self.bodies)

    @cached_property
    def header(self) -> data.StructLayout:
        """Layout of the header of each command."""
        return header_layout(self.queues)

    @property
    def header_bits(self) -> int:
        """First bit of a command's body."""
        return self.header.size

    @cached_property
    def counts(self) -> dict[Opcode, tuple[str, ...]]:
        """Lengths and counts of each command, which the hardware refuses to be zero."""
        counts = _COUNTS | {Opcode.EXECUTE: self.execute_counts}
        return {opcode: counts[opcode] for opcode in self.queues}

    @property
    def counts_except(self) -> dict[Opcode, tuple[str, ...]]:
        """Those that may be zero if the first bit of the body is set: that of a profile record, or the kind's own."""
        return {Opcode.EXECUTE: self.execute_counts_except, Opcode.STORE: _COUNTS[Opcode.STORE]}

    def encode(self, opcode: Opcode, waits: Mapping[str, int], body: Mapping[str, int], following: int = 15) -> bytes:
        """Encode one command.

        Parameters
        ----------
        opcode : Opcode
            Queue of the command.
        waits : mapping
            Commands of the queues, by their opcodes in lower case, that must have completed first; each is taken
            modulo 2**16. An absent one is zero, which is nothing to wait for only in a command before which at most
            2**14 of that queue stand.
        body : mapping
            Fields of the body by name; an absent one is zero.
        following : int
            Commands that follow in the program, END included; 15 or more are all the same.

        Returns
        -------
        bytes
            :data:`COMMAND_BYTES` bytes.

        Raises
        ------
        ValueError
            If the queue or a field is unknown, or a value does not fit its field.
        """
        header = {f"wait_{queue}": wait_field(count) for queue, count in waits.items()}
        header |= {"opcode": opcode.value, "version": FORMAT_VERSION, "near_end": 15 - min(following, 15)}
        bits = pack(self._header_places, header, "command header")
        if opcode is not Opcode.END:
            bits |= pack(self._body_places(opcode), body, f"{opcode.name} command") << self.header_bits
        return bits.to_bytes(COMMAND_BYTES, "little")

    def decode(self, command: bytes) -> tuple[Opcode, dict[str, int], dict[str, Any]]:
        """Decode one command into its opcode, waits and body fields, the inverse of :meth:`encode`."""
        bits = int.from_bytes(command, "little")
        header = unpack(self._header_places, bits)
        opcode = Opcode(getattr(header["opcode"], "value", header["opcode"]))
        waits = {name.removeprefix("wait_"): header[name] for name in header if name.startswith("wait_")}
        body = {}
        if opcode is not Opcode.END:
            body = unpack(self._body_places(opcode), bits >> self.header_bits)
        return opcode, waits, body

    @cached_property
    def _header_places(self) -> dict[str, Place]:
        return places(self.header)

    def _body_places(self, opcode: Opcode) -> dict[str, Place]:
        if opcode not in self.bodies:
            raise ValueError(f"{opcode.name} is no command of this configuration")
        return body_places(self.bodies[opcode])
