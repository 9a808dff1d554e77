"""Global buffer: banks that several readers and writers share."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..blocks.banks import BankWrite
from ..blocks.fifo import StreamFIFO
from ..blocks.pipeline import delay
from ..errors import PearrayError

__all__ = ["GlobalBuffer", "LineReader", "ReadLines", "WideRead", "buffer_ways", "line_write_layout"]


def buffer_ways(beat_bytes: int) -> int:
    """Return the ways of a buffer of 64-bit lines that a beat of memory, at any alignment, is one access of."""
    return 2 * max(1, beat_bytes // 8)


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


class WideRead(wiring.Signature):
    """Port that reads a line of each way, and never waits: way w of the buffer gives line ``line[w] * ways + w``.

    Parameters
    ----------
    ways : int
        Ways of the buffer.
    lines : int
        Lines of a way.
    width : int
        Bits of a line.
    """

    #: Cycles from ``line`` to ``data``.
    LATENCY = ReadLines.LATENCY

    def __init__(self, ways: int, lines: int, width: int):
        super().__init__({
            "en": Out(ways),
            "line": Out(data.ArrayLayout(range(lines), ways)),
            "data": In(data.ArrayLayout(width, ways)),
        })


def line_write_layout(lines: int, width: int) -> data.StructLayout:
    """Layout of a write: ``address`` of the line, ``data``, and an enable for each byte."""
    return data.StructLayout({"address": range(lines), "data": width, "mask": width // 8})


class _Answers:
    """What each memory says to each client, in lists by client: that it takes an access, and the line that it read."""

    def __init__(self, ways: int, readers: int, writers: int):
        self.write_ready: list[list[Value]] = [[] for _ in range(writers)]
        self.read_ready: list[list[Value]] = [[] for _ in range(readers)]
        self.lines: list[list[Value]] = [[] for _ in range(readers)]
        #: By way, the line that it read for the wide port.
        self.wide_lines: list[list[Value]] = [[] for _ in range(ways)]


class GlobalBuffer(wiring.Component):
    """Memory of banks that can each be read and written once a cycle, by different clients.

    Bank b holds lines ``b * bank_lines`` and up, line a of them in way ``a % ways``, a memory of its own. Clients
    that want the same memory in the same cycle wait for one another: the first of them goes first. What is read in
    the cycle in which it is written is undefined; it can be read from the next cycle on.

    Parameters
    ----------
    banks, bank_lines : int
        Banks, and lines of a bank (a power of two of at least twice the ways).
    width : int
        Bits of a line, a multiple of 8.
    readers, writers : int
        Clients that access one line at a time, and may have to wait.
    ways : int
        Lines that loads write, and the wide port reads, in one access (a power of two).
    wide : bool
        Whether there is a wide port.

    Members
    -------
    load : In(BankWrite(ways, banks * bank_lines / ways, width))
        Writes of loads, which go before all others: line ``line[w] * ways + w`` for each way w.
    wide : In(WideRead(ways, banks * bank_lines / ways, width))
        Reads that go before all others.
    read : In(ReadLines(banks * bank_lines, width)).array(readers)
        Readers, in order of precedence.
    write : In(stream.Signature(line_write_layout(...))).array(writers)
        Writers, in order of precedence: without loads the first one never waits.

    Raises
    ------
    PearrayError
        If a parameter is out of range.
    """

    def __init__(self, banks: int, bank_lines: int, width: int, readers: int, writers: int, *, ways: int = 1,
                 wide: bool = False):
        if banks < 1 or bank_lines < 2 or bank_lines & bank_lines - 1 or width < 8 or width % 8:
            raise PearrayError("a global buffer must have at least one bank, a power of two of lines and whole bytes, "
                               f"not {banks} x {bank_lines} x {width} bits")
        if ways < 1 or ways & ways - 1 or 2 * ways > bank_lines:
            raise PearrayError(f"ways must be a power of two of at most half the {bank_lines} lines of a bank, "
                               f"not {ways!r}")
        self._banks = banks
        self._bank_lines = bank_lines
        self._width = width
        self._ways = ways
        lines = banks * bank_lines
        members = {
            "load": In(BankWrite(ways, lines // ways, width)),
            "read": In(ReadLines(lines, width)).array(readers),
            "write": In(stream.Signature(line_write_layout(lines, width))).array(writers),
        }
        if wide:
            members["wide"] = In(WideRead(ways, lines // ways, width))
        self._wide = wide
        super().__init__(members)

    def elaborate(self, platform):
        """Build the memories with their arbiters, and bring their lines together."""
        m = Module()

        answers = _Answers(self._ways, len(self.read), len(self.write))
        for bank, way in [(bank, way) for bank in range(self._banks) for way in range(self._ways)]:
            name = f"{bank}_{way}" if self._ways > 1 else f"{bank}"
            memory = Memory(shape=unsigned(self._width), depth=self._bank_lines // self._ways, init=[],
                            attrs={"no_rw_check": 1})
            m.submodules[f"bank_{name}"] = memory
            write = memory.write_port(granularity=8)
            read = memory.read_port()
            line = Signal(self._width, name=f"line_{name}", reset_less=True)
            m.d.sync += line.eq(read.data)
            self._write(m, write, name, bank, way, answers)
            self._read(m, read, line, name, bank, way, answers)

        for port, ready in zip(self.write, answers.write_ready, strict=True):
            m.d.comb += port.ready.eq(Cat(ready).any())
        for port, ready, parts in zip(self.read, answers.read_ready, answers.lines, strict=True):
            m.d.comb += [port.address.ready.eq(Cat(ready).any()), port.line.eq(_any_of(parts))]
        if self._wide:
            m.d.comb += [value.eq(_any_of(parts))
                         for value, parts in zip(self.wide.data, answers.wide_lines, strict=True)]

        return m

    def _place(self, address):
        """Return the way in which a line is, and its place there."""
        way_bits = ceil_log2(self._ways)
        return address[:way_bits], address[way_bits:]

    def _in_bank(self, place, bank):
        """Return whether a place of a way is in a bank."""
        return place[ceil_log2(self._bank_lines // self._ways):] == bank

    def _write(self, m, write, name, bank, way, answers):
        """Write what a load, or else the first of the clients, has for a memory."""
        mask = self.load.en.word_select(way, self._width // 8)
        load = Signal(name=f"load_{name}")
        m.d.comb += load.eq(mask.any() & self._in_bank(self.load.line[way], bank))
        with m.If(load):
            m.d.comb += [write.addr.eq(self.load.line[way]), write.data.eq(self.load.data[way]), write.en.eq(mask)]
        free = ~load
        for client, port in enumerate(self.write):
            of_way, place = self._place(port.payload.address)
            here = Signal(name=f"write_{name}_{client}")
            m.d.comb += here.eq(port.valid & (of_way == way) & self._in_bank(place, bank))
            with m.If(here & free):
                m.d.comb += [write.addr.eq(place), write.data.eq(port.payload.data),
                             write.en.eq(port.payload.mask)]
            answers.write_ready[client].append(here & free)
            free &= ~here

    def _read(self, m, read, line, name, bank, way, answers):
        """Read what the wide port, or else the first of the clients, wants of a memory."""
        free = Const(1)
        if self._wide:
            wide = Signal(name=f"wide_{name}")
            m.d.comb += wide.eq(self.wide.en[way] & self._in_bank(self.wide.line[way], bank))
            with m.If(wide):
                m.d.comb += [read.addr.eq(self.wide.line[way]), read.en.eq(1)]
            answers.wide_lines[way].append(_taken(m, line, wide, f"wide_{name}"))
            free = ~wide
        for client, port in enumerate(self.read):
            of_way, place = self._place(port.address.payload)
            here = Signal(name=f"read_{name}_{client}")
            m.d.comb += here.eq(port.address.valid & (of_way == way) & self._in_bank(place, bank))
            with m.If(here & free):
                m.d.comb += [read.addr.eq(place), read.en.eq(1)]
            answers.lines[client].append(_taken(m, line, here & free, f"read_{name}_{client}"))
            answers.read_ready[client].append(here & free)
            free &= ~here


def _taken(m, line, chosen, name):
    """Give the line that was read for this client, when it comes, else zero."""
    return Mux(delay(m, chosen, ReadLines.LATENCY, f"{name}_taken"), line, 0)


def _any_of(values):
    """Combine values of which at most one is not zero, in a tree: a long chain is too deep for Amaranth."""
    if len(values) == 1:
        return values[0]
    half = len(values) // 2
    return _any_of(values[:half]) | _any_of(values[half:])


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

    HELD = 4

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

        m.submodules.queue = queue = StreamFIFO(self._result, self.HELD)
        taken = Signal(range(self.HELD + 1))
        put = Signal()
        get = Signal()
        m.d.comb += [
            self.port.address.valid.eq(self.i.valid & (taken != self.HELD)),
            self.port.address.payload.eq(self.i.payload.address),
            self.i.ready.eq(self.port.address.ready & (taken != self.HELD)),
            put.eq(self.i.valid & self.i.ready),
            get.eq(self.o.valid & self.o.ready),
            queue.i.valid.eq(delay(m, put, ReadLines.LATENCY, name="put_delayed")),
            queue.i.payload.along.eq(delay(m, self.i.payload.along, ReadLines.LATENCY, name="along_delayed")),
            queue.i.payload.line.eq(self.port.line),
        ]
        m.d.sync += taken.eq(taken + put - get)
        wiring.connect(m, queue.o, wiring.flipped(self.o))

        return m
