"""Ports of banked memories."""

from amaranth.lib import data
from amaranth.lib.wiring import In, Out, Signature

__all__ = ["BankRead", "BankWrite"]


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
