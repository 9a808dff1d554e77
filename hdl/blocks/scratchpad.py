"""Banked on-chip memory."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In

from ..errors import check_count
from .banks import BankRead, BankWrite

__all__ = ["Scratchpad"]


class Scratchpad(wiring.Component):
    """Memory of several banks, each with one write and one read port.

    A line written in one cycle can be read (its ``line`` given) from the next cycle on. Reading
    takes :attr:`BankRead.LATENCY` cycles, one read a cycle; while ``read.en`` is low the data of
    the last read stay. What a bank returns for the line that is written in the same cycle is
    undefined: schedules only do so where the data are not used.

    Parameters
    ----------
    banks : int
        Number of banks.
    lines : int
        Lines of each bank, at least two.
    width : int
        Bits of a line of one bank.

    Members
    -------
    write : In(BankWrite(banks, lines, width))
        Write port.
    read : In(BankRead(banks, lines, width))
        Read port.

    Raises
    ------
    PearrayError
        If a parameter is out of range.
    """

    def __init__(self, banks: int, lines: int, width: int):
        for name, value, least in (("banks", banks, 1), ("lines", lines, 2), ("width", width, 1)):
            check_count(name, value, least)
        self._banks = banks
        self._lines = lines
        self._width = width
        super().__init__({
            "write": In(BankWrite(banks, lines, width)),
            "read": In(BankRead(banks, lines, width)),
        })

    def elaborate(self, platform):
        """Build the banks and their output registers."""
        m = Module()

        for bank in range(self._banks):
            # Without this attribute Yosys adds logic that returns the old data on a collision.
            memory = Memory(shape=unsigned(self._width), depth=self._lines, init=[],
                            attrs={"no_rw_check": 1})
            m.submodules[f"bank_{bank}"] = memory
            write = memory.write_port(granularity=None if self._width % 8 else 8)
            read = memory.read_port()
            output = Signal(self._width, name=f"output_{bank}", reset_less=True)
            m.d.comb += [
                write.en.eq(self.write.en.word_select(bank, len(write.en))),
                write.addr.eq(self.write.line[bank]),
                write.data.eq(self.write.data[bank]),
                read.en.eq(self.read.en),
                read.addr.eq(self.read.line[bank]),
                self.read.data[bank].eq(output),
            ]
            m.d.sync += output.eq(read.data)

        return m
