"""What puts a pipeline that can't stall between streams: a register, a buffer, and credits."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from .errors import PearrayError

__all__ = ["Credits", "StreamBuffer", "StreamRegister"]


class StreamRegister(Component):
    """Register stage of a stream: latency one cycle, throughput one item a cycle.

    Parameters
    ----------
    shape : shape-like
        Shape of an item.

    Members
    -------
    i, o : In(stream.Signature(shape)), Out(stream.Signature(shape))
        Input and output.
    """

    def __init__(self, shape):
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform):
        """Build the register."""
        m = Module()

        m.d.comb += self.i.ready.eq(~self.o.valid | self.o.ready)
        with m.If(self.i.ready):
            m.d.sync += [self.o.valid.eq(self.i.valid), self.o.payload.eq(self.i.payload)]

        return m


class StreamBuffer(Component):
    """Queue of a stream in a memory with synchronous reads, so that deep ones become block RAM.

    An item leaves three cycles after it entered at the earliest; throughput is one item a cycle. The
    output comes from a register.

    Parameters
    ----------
    shape : shape-like
        Shape of an item.
    depth : int
        Items held, a power of two of at least four.

    Members
    -------
    i, o : In(stream.Signature(shape)), Out(stream.Signature(shape))
        Input and output.
    level : Out(range(depth + 1))
        Items that can be taken in as many consecutive cycles from now on.

    Raises
    ------
    PearrayError
        If the depth isn't a power of two of at least four.
    """

    def __init__(self, shape, depth):
        if type(depth) is not int or depth < 4 or depth & depth - 1:
            raise PearrayError(f"depth must be a power of two of at least 4, not {depth!r}")
        self._shape = shape
        self._depth = depth
        super().__init__({
            "i": In(stream.Signature(shape)),
            "o": Out(stream.Signature(shape)),
            "level": Out(range(depth + 1)),
        })

    def elaborate(self, platform):
        """Build the memory, its pointers and the output register."""
        m = Module()

        # A row is read in a later cycle than it is written, so no collision ever needs an answer.
        m.submodules.storage = storage = Memory(shape=self._shape, depth=self._depth, init=[],
                                                attrs={"no_rw_check": 1})
        write = storage.write_port()
        read = storage.read_port()
        m.submodules.output = output = StreamRegister(self._shape)

        held = Signal(range(self._depth + 1))
        arriving = Signal(2)
        full = Signal()
        stored = Signal(range(self._depth + 1))     # in the memory
        fetched = Signal()                          # the memory's output holds an item
        put = Signal()
        fetch = Signal()
        take = Signal()
        m.d.comb += [
            full.eq(held[-1]),
            self.i.ready.eq(~full),
            put.eq(self.i.valid & ~full),
            fetch.eq((stored != 0) & (~fetched | output.i.ready)),
            take.eq(self.o.valid & self.o.ready),
            write.en.eq(put),
            write.data.eq(self.i.payload),
            read.en.eq(fetch),
            output.i.valid.eq(fetched),
            output.i.payload.eq(read.data),
            self.o.valid.eq(output.o.valid),
            self.o.payload.eq(output.o.payload),
            output.o.ready.eq(self.o.ready),
        ]
        m.d.sync += [
            write.addr.eq(write.addr + put),
            read.addr.eq(read.addr + fetch),
            stored.eq(stored + put - fetch),
            fetched.eq(fetch | fetched & ~output.i.ready),
            held.eq(held + put - take),
            arriving.eq(Cat(put, arriving)),
            self.level.eq(self.level + arriving[-1] - take),
        ]

        return m


class Credits(Component):
    """Free places of a buffer, counted where items set out for it.

    Parameters
    ----------
    total : int
        Places of the buffer.
    most : int
        Places that one take may want. The cycle after a take of more than one is without any.

    Raises
    ------
    PearrayError
        If the buffer is too small for the reserve.

    Members
    -------
    take : In(range(most + 1))
        Places taken in this cycle.
    give : In(1)
        A place became free in this cycle.
    one, many : Out(1)
        At least one, or ``most``, places are free. Known a cycle late, so one place is kept in reserve.
    """

    def __init__(self, total, most):
        if total < most + 1:
            raise PearrayError(f"total must be at least {most + 1}, not {total!r}")
        self._total = total
        self._most = most
        super().__init__({"take": In(range(most + 1)), "give": In(1), "one": Out(1), "many": Out(1)})

    def elaborate(self, platform):
        """Build the counter."""
        m = Module()

        free = Signal(range(self._total + 1), init=self._total)
        m.d.sync += [
            free.eq(free - self.take + self.give),
            self.one.eq(free >= 2),
            self.many.eq(free >= self._most + 1),
        ]

        return m
