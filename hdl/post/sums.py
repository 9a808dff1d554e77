"""Port through which post-processing reads sums."""

from amaranth.lib import data
from amaranth.lib.wiring import In, Out, Signature

from ..shell.config import Config

__all__ = ["AccumulatorRead"]


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
