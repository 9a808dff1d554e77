"""Ports through which post-processing reads sums, and tells by how much rows of them are shifted."""

from amaranth.hdl import signed
from amaranth.lib import data
from amaranth.lib.wiring import In, Out, Signature

from ..shell.config import Config

__all__ = ["AccumulatorRead", "ShiftWrite"]


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
    """Write port of the memory that says by how much rows of sums are shifted when the array adds to them.

    Parameters
    ----------
    rows : int
        Rows of sums.
    """

    def __init__(self, rows: int):
        super().__init__({
            "en": Out(1),
            "row": Out(range(rows)),
            # Bits to the right: of what was accumulated if positive, of what comes from the array if negative.
            "amount": Out(signed(6)),
        })
