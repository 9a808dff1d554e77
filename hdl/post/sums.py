"""Ports through which post-processing reads sums, and tells by how much others are to be shifted."""

from amaranth.hdl import signed
from amaranth.lib import data
from amaranth.lib.wiring import In, Out, Signature

from ..shell.config import Config

__all__ = ["DISTANCE_BITS", "AccumulatorRead", "ShiftWrite"]

#: Bits of the distance of a shift.
DISTANCE_BITS = 5


class AccumulatorRead(Signature):
    """Read port of the accumulators: one row of sums, two cycles after its address.

    They are those of the array's accumulators, or stand wherever its kind keeps finished sums.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.
    """

    #: Cycles from ``row`` to ``data``.
    LATENCY = 2

    def __init__(self, config: Config):
        super().__init__({
            "en": Out(1),
            "bank": Out(1),
            "row": Out(range(config.sum_rows)),
            "data": In(data.ArrayLayout(config.accumulator_bits, config.sum_columns)),
        })


class ShiftWrite(Signature):
    """Write port of a memory of shifts, one for each row: ``amount`` is that of ``row`` if ``en`` is set.

    A positive amount is the distance by which sums of former blocks are shifted right, a negative one that of the
    block that is added.

    Parameters
    ----------
    rows : int
        Rows of the memory.
    """

    def __init__(self, rows: int):
        super().__init__({"en": Out(1), "row": Out(range(rows)), "amount": Out(signed(DISTANCE_BITS + 1))})
