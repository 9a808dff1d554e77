"""Commands of dot-product units: EXECUTE sums the products of many pixels."""

from amaranth.hdl import signed, unsigned
from amaranth.lib import data, enum

from pearray.hdl.shell.commands import ADDRESS_BITS, DESTINATION_BITS, RECORD, CommandSet, LoadBody, Parameter, variant

__all__ = ["COMMANDS", "LOOPS", "Destination", "DotBody"]

#: Loops of an EXECUTE, the innermost first: three over the lines of a sum, three over pixels, one over tiles.
LOOPS = ("t0", "t1", "t2", "m0", "m1", "m2", "n")


class Destination(enum.IntEnum, shape=DESTINATION_BITS):
    """Memory that a load writes: a scratchpad of operands, or one of post-processing's."""

    ACTIVATION = 0
    WEIGHT = 1
    BIAS = Parameter.BIAS.value
    SCALE = Parameter.SCALE.value
    TABLE = Parameter.TABLE.value


class DotBody(data.Struct):
    """Sum products for pixels and tiles of N output channels. Counts are less one.

    For each tile n, each pixel (m2, m1, m0) and each line (t2, t1, t0) of its sum, n outermost and t0 innermost, the
    K operands of line ``a_base + n * a_n + m2 * a_m2 + m1 * a_m1 + m0 * a_m0 + t2 * a_t2 + t1 * a_t1 + t0 * a_t0`` of
    the activation scratchpad meet line ``w_base + n * w_n + t``, where t numbers the lines of a sum from zero, of the
    weight scratchpad: operand ``k * N + u`` of it is what unit u multiplies operand k with. The sum over all lines is
    that of output channel u of the tile; it goes to row ``acc_base + n * acc_n + m``, where m numbers the pixels, of a
    bank of accumulators. Addresses are modulo the size of the memory.

    With ``maximum`` the greatest of the lines' sums counts instead of the sum of them. Unless ``first`` is set the
    row's content counts as well. Before they meet, activations lose ``a_zero_point`` and weights ``w_zero_point``;
    both, and their zero points, are signed unless ``a_unsigned`` or ``w_unsigned`` is set. No two sums of a command go
    to the same row. The command completes when its last row can be read.
    """

    first: unsigned(1)
    maximum: unsigned(1)
    bank: unsigned(1)
    a_unsigned: unsigned(1)
    w_unsigned: unsigned(1)
    a_zero_point: signed(9)
    w_zero_point: signed(9)
    a_base: unsigned(ADDRESS_BITS)
    w_base: unsigned(ADDRESS_BITS)
    acc_base: unsigned(16)
    count_t0: unsigned(16)
    count_t1: unsigned(8)
    count_t2: unsigned(8)
    count_m0: unsigned(16)
    count_m1: unsigned(16)
    count_m2: unsigned(16)
    count_n: unsigned(16)
    a_t0: unsigned(ADDRESS_BITS)
    a_t1: unsigned(ADDRESS_BITS)
    a_t2: unsigned(ADDRESS_BITS)
    a_m0: unsigned(ADDRESS_BITS)
    a_m1: unsigned(ADDRESS_BITS)
    a_m2: unsigned(ADDRESS_BITS)
    a_n: unsigned(ADDRESS_BITS)
    w_n: unsigned(ADDRESS_BITS)
    acc_n: unsigned(16)


#: ``active`` counts cycles in which the units were given operands.
COMMANDS = CommandSet(
    destination=Destination,
    activations=(Destination.ACTIVATION,),
    load=variant(LoadBody, "Destinations are scratchpads.", destination=Destination),
    execute=DotBody,
    record=(*RECORD, "active"),
)
