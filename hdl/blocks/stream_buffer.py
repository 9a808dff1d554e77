"""What puts a pipeline that can't stall between streams: a register, a buffer, and credits."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from ..errors import PearrayError

__all__ = ["Credits", "OperandStore", "StreamBuffer", "StreamRegister"]


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
    bursts : tuple of int
        Numbers of items that someone wants to take in consecutive cycles.

    Members
    -------
    i, o : In(stream.Signature(shape)), Out(stream.Signature(shape))
        Input and output.
    enough : Out(len(bursts))
        Bit i: ``bursts[i]`` items can be taken in consecutive cycles from now on.

    Raises
    ------
    PearrayError
        If the depth isn't a power of two of at least four.
    """

    def __init__(self, shape, depth, bursts=()):
        _check_depth(depth)
        self._shape = shape
        self._depth = depth
        self._bursts = bursts
        super().__init__({
            "i": In(stream.Signature(shape)),
            "o": Out(stream.Signature(shape)),
            "enough": Out(len(bursts)),
        })

    def elaborate(self, platform):
        """Build the memory, its pointers and the output register."""
        m = Module()

        # A row is read in a later cycle than it is written, so no collision ever needs an answer.
        m.submodules.storage = storage = Memory(shape=self._shape, depth=self._depth, init=[],
                                                attrs=_attributes(self._depth))
        write = storage.write_port()
        read = storage.read_port()
        m.submodules.output = output = StreamRegister(self._shape)

        held = Signal(range(self._depth + 1))
        stored = Signal(range(self._depth + 1))     # in the memory
        filled = Signal()                           # some is, from a register: much depends on it
        fetched = Signal()                          # the memory's output holds an item
        put = Signal()
        fetch = Signal()
        take = Signal()
        m.d.comb += [
            self.i.ready.eq(~held[-1]),
            put.eq(self.i.valid & ~held[-1]),
            fetch.eq(filled & (~fetched | output.i.ready)),
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
            filled.eq(put | (stored > 1) | filled & ~fetch),
            fetched.eq(fetch | fetched & ~output.i.ready),
        ]
        # Signals that come late choose between sums of registers, rather than being added.
        for count, more, less in ((held, put, take), (stored, put, fetch)):
            with m.If(more & ~less):
                m.d.sync += count.eq(count + 1)
            with m.If(less & ~more):
                m.d.sync += count.eq(count - 1)
        with m.If(put):
            m.d.sync += write.addr.eq(write.addr + 1)
        with m.If(fetch):
            m.d.sync += read.addr.eq(read.addr + 1)

        # What was put three cycles ago has reached the output, if nothing stands before it. Whether
        # there is enough is known before it's known whether an item is taken, which comes late.
        if self._bursts:
            level = Signal(range(self._depth + 1))
            arriving = Signal(2)
            available = Signal(range(self._depth + 2))
            m.d.comb += available.eq(level + arriving[-1])
            m.d.sync += [arriving.eq(Cat(put, arriving)), level.eq(available - take)]
            for bit, burst in enumerate(self._bursts):
                m.d.sync += self.enough[bit].eq(Mux(take, available > burst, available >= burst))

        return m


class OperandStore(Component):
    """Payloads of a stream whose control bits go through a :class:`StreamBuffer` of the same depth.

    Wide payloads are so moved by registered signals, not by the decision whether an item may go. An
    item is popped one cycle after its control bits were taken, and stands at the output from the
    next cycle on, until another is popped.

    Parameters
    ----------
    shape : shape-like
        Shape of a payload.
    depth : int
        Payloads held, a power of two of at least four.

    Members
    -------
    put, i : In(1), In(shape)
        Payload to store.
    pop, o : In(1), Out(shape)
        Oldest payload, a cycle later.
    """

    def __init__(self, shape, depth):
        _check_depth(depth)
        self._shape = shape
        self._depth = depth
        super().__init__({"put": In(1), "i": In(shape), "pop": In(1), "o": Out(shape)})

    def elaborate(self, platform):
        """Build the memory and its pointers."""
        m = Module()

        m.submodules.storage = storage = Memory(shape=self._shape, depth=self._depth, init=[],
                                                attrs=_attributes(self._depth))
        write = storage.write_port()
        read = storage.read_port()
        # Written a cycle late, when the row that it takes has been read.
        put = Signal()
        payload = Signal(self._shape, reset_less=True)
        m.d.sync += [
            put.eq(self.put),
            payload.eq(self.i),
            write.addr.eq(write.addr + put),
            read.addr.eq(read.addr + self.pop),
        ]
        m.d.comb += [
            write.en.eq(put),
            write.data.eq(payload),
            read.en.eq(self.pop),
            self.o.eq(read.data),
        ]

        return m


def _check_depth(depth):
    if type(depth) is not int or depth < 4 or depth & depth - 1:
        raise PearrayError(f"depth must be a power of two of at least 4, not {depth!r}")


def _attributes(depth):
    """Attributes of a memory: shallow ones are faster in LUTs, and never read what is being written."""
    return {"no_rw_check": 1} | ({"ram_style": "distributed"} if depth <= 64 else {})


class Credits(Component):
    """Free places of a buffer, counted where items set out for it.

    Parameters
    ----------
    total : int
        Places of the buffer.
    most : int
        Places that one take may want. A take of more than one is followed by ``most`` - 1 cycles
        without any.

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
        At least one, or ``most``, places are free. Both know of takes two cycles late, and therefore
        keep two places in reserve.
    """

    def __init__(self, total, most):
        if total < most + 2:
            raise PearrayError(f"total must be at least {most + 2}, not {total!r}")
        self._total = total
        self._most = most
        super().__init__({"take": In(range(most + 1)), "give": In(1), "one": Out(1), "many": Out(1)})

    def elaborate(self, platform):
        """Build the counter."""
        m = Module()

        free = Signal(range(self._total + 1), init=self._total)
        taken = Signal.like(self.take)
        m.d.sync += [
            taken.eq(self.take),
            free.eq(free - taken + self.give),
            self.one.eq(free >= 3),
            self.many.eq(free >= self._most + 2),
        ]

        return m
