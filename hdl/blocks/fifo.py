"""A small queue in distributed RAM."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..errors import PearrayError
from . import rules

__all__ = ["StreamFIFO"]


class StreamFIFO(wiring.Component):
    """Queue of a stream, in distributed RAM.

    An item leaves one cycle after it entered at the earliest; throughput is one item a cycle. The
    output is read from the memory combinationally, so depths above 32 are for block RAM instead.
    A full queue refuses an item even in a cycle in which one leaves.

    Parameters
    ----------
    shape : shape-like
        Shape of an item.
    depth : int
        Items held, a power of two of at least two.

    Members
    -------
    i : In(stream.Signature(shape))
        Items to queue.
    o : Out(stream.Signature(shape))
        Oldest item.

    Raises
    ------
    PearrayError
        If the depth is not a power of two of at least two.
    """

    def __init__(self, shape, depth):
        if type(depth) is not int or depth < 2 or depth & depth - 1:
            raise PearrayError(f"depth must be a power of two of at least 2, not {depth!r}")
        self._shape = shape
        self._depth = depth
        super().__init__({
            "i": In(stream.Signature(shape)),
            "o": Out(stream.Signature(shape)),
        })

    @property
    def depth(self) -> int:
        """Items held."""
        return self._depth

    def elaborate(self, platform):
        """Build the memory, its pointers and the flags."""
        m = Module()

        m.submodules.storage = storage = Memory(shape=self._shape, depth=self._depth, init=[])
        write = storage.write_port()
        read = storage.read_port(domain="comb")

        put_at = Signal(range(self._depth))
        get_at = Signal(range(self._depth))
        put_next = Signal.like(put_at)
        get_next = Signal.like(get_at)
        full = Signal()
        some = Signal()
        put = Signal()
        get = Signal()
        m.d.comb += [
            self.i.ready.eq(~full),
            self.o.valid.eq(some),
            put.eq(self.i.valid & ~full),
            get.eq(some & self.o.ready),
            put_next.eq(put_at + 1),
            get_next.eq(get_at + 1),
            write.en.eq(put),
            write.addr.eq(put_at),
            write.data.eq(self.i.payload),
            read.addr.eq(get_at),
            self.o.payload.eq(read.data),
        ]
        with m.If(put):
            m.d.sync += put_at.eq(put_next)
        with m.If(get):
            m.d.sync += get_at.eq(get_next)
        with m.If(put & ~get):
            m.d.sync += [some.eq(1), full.eq(put_next == get_at)]
        with m.Elif(get & ~put):
            m.d.sync += [full.eq(0), some.eq(get_next != put_at)]

        rules.queue(m, "queue", put, get, some, full, put_at, get_at, self._depth)
        return m
