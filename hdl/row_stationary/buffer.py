"""Global buffer: banks that several readers and writers share."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..errors import PearrayError
from ..fifo import StreamFIFO
from ..pipeline import delay

__all__ = ["GlobalBuffer", "LineReader", "ReadLines", "line_write_layout"]


class ReadLines(wiring.Signature):
    """Port that reads lines: when a line's address is taken, the line follows :attr:`LATENCY` cycles later.

    Parameters
    ----------
    lines : int
        Lines of the buffer.
    width : int
        Bits of a line.
    """

    #: Cycles from the address to the line: the memory and its output register.
    LATENCY = 2

    def __init__(self, lines: int, width: int):
        super().__init__({"address": Out(stream.Signature(range(lines))), "line": In(width)})


def line_write_layout(lines: int, width: int) -> data.StructLayout:
    """Layout of a write: ``address`` of the line, ``data``, and an enable for each byte."""
    return data.StructLayout({"address": range(lines), "data": width, "mask": width // 8})


class GlobalBuffer(wiring.Component):
    """Memory of banks that can each be read and written once a cycle, by different clients.

    Bank b holds lines ``b * bank_lines`` and up. Clients that want the same bank in the same cycle wait for one
    another: the first of them goes first. What is read in the cycle in which it is written is undefined.

    Parameters
    ----------
    banks, bank_lines : int
        Banks, and lines of a bank (a power of two of at least 2).
    width : int
        Bits of a line, a multiple of 8.
    readers, writers : int
        Clients.

    Members
    -------
    read : In(ReadLines(banks * bank_lines, width)).array(readers)
        Readers, in order of precedence.
    write : In(stream.Signature(line_write_layout(...))).array(writers)
        Writers, in order of precedence: the first one never waits.

    Raises
    ------
    PearrayError
        If a parameter is out of range.
    """

    def __init__(self, banks: int, bank_lines: int, width: int, readers: int, writers: int):
        if banks < 1 or bank_lines < 2 or bank_lines & bank_lines - 1 or width < 8 or width % 8:
            raise PearrayError("a global buffer must have at least one bank, a power of two of lines and whole bytes, "
                               f"not {banks} x {bank_lines} x {width} bits")
        self._banks = banks
        self._bank_lines = bank_lines
        self._width = width
        self._readers = readers
        lines = banks * bank_lines
        super().__init__({
            "read": In(ReadLines(lines, width)).array(readers),
            "write": In(stream.Signature(line_write_layout(lines, width))).array(writers),
        })

    def elaborate(self, platform):
        """Build the banks and their arbiters."""
        m = Module()

        low = ceil_log2(self._bank_lines)
        write_ready = [[] for _ in self.write]
        read_ready = [[] for _ in self.read]
        lines = [[] for _ in self.read]
        for bank in range(self._banks):
            memory = Memory(shape=unsigned(self._width), depth=self._bank_lines, init=[], attrs={"no_rw_check": 1})
            m.submodules[f"bank_{bank}"] = memory
            write = memory.write_port(granularity=8)
            read = memory.read_port()
            line = Signal(self._width, name=f"line_{bank}", reset_less=True)
            m.d.sync += line.eq(read.data)
            free = 1
            for client, port in enumerate(self.write):
                here = Signal(name=f"write_{bank}_{client}")
                m.d.comb += here.eq(port.valid & (port.payload.address[low:] == bank))
                with m.If(here & free):
                    m.d.comb += [write.addr.eq(port.payload.address[:low]), write.data.eq(port.payload.data),
                                 write.en.eq(port.payload.mask)]
                write_ready[client].append(here & free)
                free &= ~here
            free = 1
            for client, port in enumerate(self.read):
                here = Signal(name=f"read_{bank}_{client}")
                m.d.comb += here.eq(port.address.valid & (port.address.payload[low:] == bank))
                with m.If(here & free):
                    m.d.comb += [read.addr.eq(port.address.payload[:low]), read.en.eq(1)]
                chosen = Signal(2, name=f"chosen_{bank}_{client}")
                m.d.sync += chosen.eq(Cat(here & free, chosen))
                read_ready[client].append(here & free)
                lines[client].append(Mux(chosen[1], line, 0))
                free &= ~here
        for port, ready in zip(self.write, write_ready, strict=True):
            m.d.comb += port.ready.eq(Cat(ready).any())
        for port, ready, parts in zip(self.read, read_ready, lines, strict=True):
            m.d.comb += port.address.ready.eq(Cat(ready).any())
            value = Const(0, self._width)
            for part in parts:
                value |= part
            m.d.comb += port.line.eq(value)

        return m


class LineReader(wiring.Component):
    """Turns a stream of addresses into a stream of lines, one a cycle, with what comes along.

    Parameters
    ----------
    lines, width : int
        See :class:`ReadLines`.
    along : shape-like
        Shape of what goes with an address and comes with its line.

    Members
    -------
    i : In(stream.Signature(StructLayout({"address": range(lines), "along": along})))
        Addresses.
    port : Out(ReadLines(lines, width))
        Port of the buffer.
    o : Out(stream.Signature(StructLayout({"line": width, "along": along})))
        Lines.
    """

    _HELD = 4

    def __init__(self, lines: int, width: int, along):
        self._result = data.StructLayout({"line": width, "along": along})
        super().__init__({
            "i": In(stream.Signature(data.StructLayout({"address": range(lines), "along": along}))),
            "port": Out(ReadLines(lines, width)),
            "o": Out(stream.Signature(self._result)),
        })

    def elaborate(self, platform):
        """Build the queue of lines, and count its places."""
        m = Module()

        m.submodules.queue = queue = StreamFIFO(self._result, self._HELD)
        taken = Signal(range(self._HELD + 1))
        put = Signal()
        get = Signal()
        m.d.comb += [
            self.port.address.valid.eq(self.i.valid & (taken != self._HELD)),
            self.port.address.payload.eq(self.i.payload.address),
            self.i.ready.eq(self.port.address.ready & (taken != self._HELD)),
            put.eq(self.i.valid & self.i.ready),
            get.eq(self.o.valid & self.o.ready),
            queue.i.valid.eq(delay(m, put, ReadLines.LATENCY, name="put_delayed")),
            queue.i.payload.along.eq(delay(m, self.i.payload.along, ReadLines.LATENCY, name="along_delayed")),
            queue.i.payload.line.eq(self.port.line),
        ]
        m.d.sync += taken.eq(taken + put - get)
        wiring.connect(m, queue.o, wiring.flipped(self.o))

        return m
