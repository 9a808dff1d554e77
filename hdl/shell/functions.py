"""Functions of the vector engine that a configuration may choose, and what each adds to a POST.

Without a function a configuration has nothing of it: no logic, no field of a command. A kind of array says which it can
have (:attr:`.config.Config.FUNCTIONS`), and ``[post]`` of a configuration which it has.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from amaranth.lib import data
from amaranth.utils import ceil_log2

from .commands import PostBody, variant

__all__ = ["FUNCTIONS", "NORM_STATES", "REDUCE_BITS", "Function", "post_body"]

#: Width of the number of rows that are compared with a first one.
REDUCE_BITS = 8

#: Rows whose sums and roots are kept.
NORM_STATES = 64


@dataclass(frozen=True, kw_only=True)
class Function:
    """A function of the vector engine.

    Parameters
    ----------
    doc : str
        What the fields do.
    flags : tuple of str
        Bits of a POST that it has.
    fields : mapping of str to int
        Unsigned fields behind those that all POSTs have, and their bits.
    bytes_only, floats_only : bool
        Whether it is there with operands of 8 bits only, or with floats only; others but these are for integers.
    needs : str
        Key of another function that it needs; "" for none.
    """

    doc: str
    flags: tuple[str, ...] = ()
    fields: Mapping[str, int] = field(default_factory=dict)
    bytes_only: bool = False
    floats_only: bool = False
    needs: str = ""


#: Functions by their key in ``[post]``.
FUNCTIONS = {
    "pairs": Function(flags=("pair",), bytes_only=True, doc="""
With ``pair`` set, what takes the place of a sum is the sum of two words, which wraps:
    entry ``sum[7:0]`` of the first table of pairs, and entry ``sum[15:8]`` of the second. All columns have the same
    tables. Then ``bias``, ``per_channel``, ``scale_nstep`` and ``table`` must be zero, but for rows that are
    normalised.

    A LOAD to ``PAIR`` writes both tables: entry e of the first is word e * W there, that of the second the word behind
    it, where W is the number of words in a beat, and at least 2. The others are not kept."""),
    "products": Function(flags=("product",), bytes_only=True, doc="""
With ``product`` set, what takes the place of a sum is a product of two bytes without a sign,
    ``(sum[7:0] - bias_base[7:0]) * ((-sum[15:8] mod 256) - bias_base[15:8]) + addend``, where ``addend`` is a number of
    20 bits in two's complement: ``bias_nstep``, and above it ``bias_mstep[3:0]``. Then ``bias``, ``per_channel``,
    ``scale_nstep`` and ``table`` must be zero, and the sum must fit 20 bits in two's complement."""),
    "averages": Function(flags=("average", "resume", "search"), bytes_only=True, needs="pairs", doc="""
With ``average`` or ``search`` set, post-processing keeps a state of 32 bits for each output of a tile, at most 256
    groups of them, whose tile is walked ``n_count`` times. With ``average`` set, each of the first tiles adds one more
    term to every state: the float32 number whose bits are entry ``sum[7:0]`` of the first table, rounded to nearest,
    halves to even. States begin at zero, or, with ``resume`` set, with what the ``average`` before them left. Without
    ``average`` there is one such tile, and its sums are the states.

    With ``search`` set, eight further tiles, of which no sums are read, find for each state the greatest entry of the
    second table, from entry 1 to 255, that is not above it; entries rise, and are float32 numbers with ``average``,
    int32 without. Its number, or 0 if there is none, takes the place of the sum. A negative float32 number stands in
    the table with all bits but the sign turned over. Without ``search`` nothing is written to the output scratchpad.

    Then ``pair``, ``bias``, ``bias_nstep``, ``per_channel``, ``scale_nstep``, ``table`` and ``out_nstep`` must be
    zero."""),
    "transposed": Function(flags=("transposed",), fields={"lane_lines": 16, "last_group": 4}, doc="""
With ``transposed`` set, columns of a row are pixels of one channel. Only groups s of at most
    ``last_group`` are made. ``bias_base``, its steps, ``scale_base`` and ``scale_nstep`` count entries, not lines: all
    columns of row m of tile n get entry ``bias_base + n * bias_nstep + m * bias_mstep`` of the biases and
    ``scale_base + n * scale_nstep`` of the scales, whatever ``per_channel`` says. Column j is written to byte
    ``out_base + n * out_nstep + m * out_mstep + j * (lane_lines * B + size)``, where B is the number of banks of the
    output scratchpad, a beat's bytes or ``lanes`` times those of a sum, whichever is more. Addresses are multiples of
    ``size`` then. ``rounding`` must not be ``Rounding.NONE``, and ``pair`` must be zero."""),
    "maxima": Function(fields={"reduce": REDUCE_BITS, "reduce_unsigned": 1}, doc="""
With ``reduce`` set, ``reduce`` + 1 rows make one: rows m that follow one another from a multiple of
    ``reduce`` + 1 on are a window, of which each column's greatest output, after clamp and table, is written when its
    last row has come. Outputs are compared as signed values, or as unsigned ones if ``reduce_unsigned`` is set;
    ``out_mstep`` is the step from window to window. Then ``rounding`` must not be ``NONE``, ``m_count`` must be a
    multiple of ``reduce`` + 1, and ``transposed``, ``average`` and ``search`` must be zero."""),
    # They are more than the reserved bits hold when all functions are there.
    "softmax": Function(fields=dict.fromkeys(("softmax", "opens", "slope", "two_bytes", "low_byte", "normalise"), 1),
                        bytes_only=True, doc="""
    With ``softmax`` set, rows are scores of a block of C keys, and numerators of softmax are written, bytes
    without a sign. Other fields have another meaning then: ``acc_nstep`` is ``last`` and ``bias_nstep`` is ``begin``,
    in two's complement; ``scale_nstep`` is ``shift_base`` and ``out_nstep`` is ``state_base``; ``low[15:0]`` and
    ``high[15:0]`` are the lower and upper half of a positive float32 number ``factor``, 2**-40 to 2**60. For row m and
    column j, where ``rshift(x, s)`` is ``x / 2**s`` rounded to nearest, halves upwards,

    1. ``total`` is the sum, with its bias if ``bias`` is set, and ``t = rint(float32(total) * scale)``, clipped to
       +-(2**24 - 1): a score to the base 2 with 8 fraction bits. The scale is that of the lane in line ``scale_base``.
    2. The key is hidden if ``j >= last + slope * m``, ``j < begin + slope * m`` or ``total < -2**29``.
    3. ``m_block`` is the greatest ``(t + 255) >> 8`` of keys that are not hidden, -2**17 if all are.
    4. With ``e = m_block * 256 - t``, ``k = e >> 8`` and ``T = round(65280 * 2**(-(e mod 256) / 256))``, the numerator
       is ``n8 = ((T >> k) + 8 * i + 4) >> 8``, where the five bits of i are those of ``j mod 32`` in reverse order, or
       with ``two_bytes`` set ``n16 = rshift(T, k)``, and 0 for a key that is hidden. What is written is ``n8``, or the
       upper byte of ``n16``, or with ``low_byte`` set its lower byte.
    5. Row ``p = state_base + m`` of the states has a maximum and a sum of 40 bits, taken as -2**17 and 0 if ``opens``
       is set. Its new maximum is the greater of it and ``m_block``; ``d`` and ``dp`` are that less the old one and less
       ``m_block``, at most 31. Its new sum is ``rshift(sum, d) + rshift(added << 4, dp)``, where ``added`` is the
       sum of all ``n16``, or of all ``n8 << 8``.
    6. Shift ``shift_base + m`` is ``d - dp``, for EXECUTEs. Quotient ``p`` is ``factor`` divided by the new sum: the 24
       leading bits of the quotient of the significand of ``factor`` and the 24 leading bits of the sum, the rest of
       both cut off; 0 if the sum is 0.

    With ``low_byte`` set, neither states nor shifts nor quotients change. There are as many of each as rows in a bank
    of the accumulators. ``rounding`` must be ``ONNX``, ``n_count`` 1, and ``zero_point``, ``per_channel``, ``table``,
    ``pair``, ``product``, ``average``, ``search``, ``transposed``, ``reduce`` and ``normalise`` zero; ``low_byte``
    needs ``two_bytes``.

    With ``normalise`` set, quotient ``scale_base + m`` is the scale of all columns of row m. ``rounding`` must be
    ``ONNX``, and ``per_channel``, ``scale_nstep``, ``pair``, ``product``, ``average``, ``search`` and ``transposed``
    zero."""),
    "row_softmax": Function(fields={"row_pass": 2}, bytes_only=True, needs="pairs", doc="""
With ``row_pass`` set, sums are bytes, of either type, of rows of a softmax, over which three commands go. Row r is
    ``acc_nstep`` rows of sums, from row ``acc_base + r * acc_nstep`` on, of which ``m_count`` is a multiple. Of the
    last of them the first ``bias_nstep`` columns count, of the others the first ``bias_mstep``; at least one of each.
    What is found of row r is kept as state ``scale_nstep + r``, of which there are 256.

    1. With ``row_pass`` 1 the state's greatest byte becomes that of the row.
    2. With 2 its total becomes the sum of ``(term + 2**11) >> 12`` of all bytes that count, where ``term`` is the sum
       of two words, as with ``pair``: entry ``(greatest - sum) mod 256`` of the first table of pairs, and entry
       ``sum[15:8]`` of the second. Terms are 0 to 2**31 - 1, and totals 2**16 to 2**32 - 1. With h zeros before the
       first one of the 32 bits of the total, the state's multiplier becomes the reciprocal of ``total * 2**h``, as
       gemmlowp computes that of a number between 1 and 2 by three steps of Newton's method, with 31 bits behind the
       point; and its right shift ``35 - h``. Where that is more than 31, they become 0 and 31.
    3. With 3 the same terms take the place of the sums, and multiplier and shift that of an entry of scales.

    Only the third writes outputs. Its ``rounding`` must be ``TFLITE_DOUBLE``. ``n_count`` must be 1, and ``bias``,
    ``per_channel``, ``table``, ``pair``, ``product``, ``average``, ``search``, ``transposed``, ``reduce``,
    ``softmax``, ``normalise``, ``moments`` and ``normed`` zero."""),
    "float_softmax": Function(fields={"float_row": 1}, bytes_only=True, needs="row_softmax", doc="""
With ``float_row`` set, terms are the bits of float32 numbers that are not negative, and the second and the third
    command over rows of a softmax are others. The first is as without it.

    In the second, ``m_count`` is the number of rows, and ``n_count`` that of groups of a row, ``acc_nstep`` times
    ``C / lanes``: groups are walked one after another, each for all rows, from row of sums ``acc_base`` on. The
    state's total becomes the sum of the terms of all bytes that count, in the order of their rows of sums and columns,
    each addition rounded to nearest, halves to even.

    In the third, what takes the place of a sum is ``term * inverse / total``, rounded to the nearest integer, halves
    to even, where ``inverse`` is ``bias_base[8:0]`` and no term is greater than the total; subnormal terms count as
    zero. Then ``rounding`` must be ``ONNX``; the scale is 1."""),
    "norms": Function(fields={"moments": 1, "normed": 1, "row_opens": 1, "row_closes": 1, "centred": 1,
                              "state_row": ceil_log2(NORM_STATES),
                              "behind": ceil_log2(NORM_STATES) + 1},
                      bytes_only=True, doc="""
    With ``moments`` or ``normed`` set, sums are elements of rows, -255 to 255, and tile n is row n, or a part of it:
    its rows of sums m and their columns follow one another. Row n has state ``state_row + n`` of 64. Such a command
    begins when at most ``behind`` rows that were closed have yet to get their roots.

    With ``moments`` set, nothing is written. The elements of row n, and their squares, are added to s1 and s2, which
    are zero before if ``row_opens`` is set. If ``row_closes`` is set, the row gets its state: t, which is s1 if
    ``centred`` is set, otherwise 0, and a float32 number r, ``2**(bias_nstep + 8)`` times the inverse square root of
    ``2**16 * (D * s2 - t**2) + addend``, cut to 24 bits: with l the 25 or 26 leading bits of that number, whose other
    bits are even in number, ``isqrt(2**72 // l)``; 0 for 0. D is ``scale_nstep``, at least the elements of a row and
    at most 2**15, and ``addend`` has 62 bits: ``low[1:0]``, and below it ``out_mstep``, ``out_nstep`` and ``out_base``.
    Rows that are not opened, or not closed, come one to a command. All of this must be the same as long as rows have
    yet to get their roots.

    With ``normed`` set, what takes the place of a sum x is ``clip(rint(float32(D * x - t) * r), -2**15, 2**15 - 1)``,
    D being that of the latest command with ``moments``, times a gain: bits 15..0, in two's complement, of what is a
    bias otherwise, in line ``bias_base + m * bias_mstep + s``. If ``bias`` is set, bits 31..0 of what is a scale
    otherwise, in line ``scale_base + m * C / lanes + s``, are added. The float32 scale of all columns is
    ``bias_nstep``, and above it ``scale_nstep``, which are no steps then. ``rounding`` must be ``ONNX``, and
    ``per_channel`` be set.

    With ``pair`` set as well, where there is ``post.pairs``, an element is ``clip(word >> 20, -128, 127)`` of the sum
    of two words that is looked up.

    ``bias`` and ``per_channel`` must be zero with ``moments``, and with both ``table``, ``product``, ``average``,
    ``search``, ``transposed``, ``reduce``, ``softmax`` and ``normalise``."""),
    "routines": Function(flags=("routine",), fields={"index": 32}, floats_only=True, doc="""
With ``routine`` set, no sums are read: the command runs ``scale_nstep`` instructions, from number ``scale_base`` on,
    one after another, and all of them ``n_count`` times, in each lane and each of its first ``m_count`` slots, of
    which there are 16. What instructions are stands in the module below. They read elements of the vector memory, from
    byte ``bias_base * lanes * 4`` on, and write such to the output scratchpad, from ``out_base`` on, a multiple of
    ``lanes * 4``. ``scale_nstep`` is at least 1, and all other fields but ``index`` must be zero.

    A LOAD to ``VECTOR`` writes the vector memory, of ``scratchpads.vector_bytes`` bytes, at any alignment that one to
    a scratchpad of operands may have. A LOAD to ``ROUTINE`` writes instructions, number k to byte ``8 * k``;
    ``dram``, ``address``, steps and lengths are multiples of 8 then."""),
}


def post_body(functions: Collection[str]) -> type[data.Struct]:
    """Body of the POSTs of a configuration that has some functions."""
    chosen = [function for key, function in FUNCTIONS.items() if key in functions]
    if not chosen:
        return PostBody
    return variant(PostBody, "\n\n    ".join(function.doc.strip() for function in chosen),
                   *(flag for function in chosen for flag in function.flags),
                   added={name: bits for function in chosen for name, bits in function.fields.items()})
