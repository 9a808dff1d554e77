"""Signatures that two or more components share."""

from amaranth.lib import data
from amaranth.lib.wiring import In, Out, Signature

from .commands import ADDRESS_BITS, Destination
from .config import Config

__all__ = ["AccumulatorRead", "BankRead", "BankWrite", "LoadWrite"]


class LoadWrite(Signature):
    """Bytes from the loader to the scratchpads, one beat a cycle, never refused.

    Lane ``i`` of the beat goes to byte ``(word + wrap[i]) * beat_bytes + i`` of the memory
    ``destination`` if ``mask[i]`` is set.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.
    """

    def __init__(self, config: Config):
        lanes = config.beat_bytes
        super().__init__({
            "valid": Out(1),
            "destination": Out(Destination),
            "word": Out(ADDRESS_BITS),
            "wrap": Out(lanes),
            "mask": Out(lanes),
            "data": Out(data.ArrayLayout(8, lanes)),
        })


class BankWrite(Signature):
    """Write port of a banked memory: each byte has its own enable, each bank its own line and data.

    A bank whose width is no whole number of bytes has one enable.

    Parameters
    ----------
    banks : int
        Number of banks.
    lines : int
        Lines of each bank.
    width : int
        Bits of a line of one bank.
    """

    def __init__(self, banks: int, lines: int, width: int):
        super().__init__({
            "en": Out(banks if width % 8 else banks * width // 8),
            "line": Out(data.ArrayLayout(range(max(lines, 2)), banks)),
            "data": Out(data.ArrayLayout(width, banks)),
        })


class BankRead(Signature):
    """Read port of a banked memory: each bank has its own line; data follow two cycles later.

    Parameters
    ----------
    banks, lines, width : int
        See :class:`BankWrite`.
    """

    #: Cycles from ``line`` to ``data``: the memory and its output register.
    LATENCY = 2

    def __init__(self, banks: int, lines: int, width: int):
        super().__init__({
            "en": Out(1),
            "line": Out(data.ArrayLayout(range(max(lines, 2)), banks)),
            "data": In(data.ArrayLayout(width, banks)),
        })


class AccumulatorRead(Signature):
    """Read port of the accumulators: one row of sums, two cycles after its address.

    With the row-stationary array a row is a line of the global buffer.

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
