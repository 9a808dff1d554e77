"""Scratchpads: one that is filled like a queue and read in windows, and one that is a queue."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..errors import check_count

__all__ = ["QueueScratchpad", "RingScratchpad"]


def _memory(m, shape, depth, *, registered=False):
    """Memory with a port to write and one to read."""
    m.submodules.storage = storage = Memory(shape=shape, depth=depth, init=[])
    return storage.write_port(), storage.read_port(domain="sync" if registered else "comb")


def _after(address, depth):
    """Return the next address in a ring of words."""
    if depth & depth - 1 == 0:
        return (address + 1)[:len(address)]
    return Mux(address == depth - 1, 0, address + 1)


class RingScratchpad(wiring.Component):
    """Ring of words: a queue whose reader may go through the oldest words many times.

    Words enter in order as long as there is room. A pointer moves on by a word with each read, or
    back to the oldest word that is kept. Reading may give a word up, the oldest one, which makes
    room. So a filter row stays for a whole pass while the words of the next one follow behind, and
    a window slides over an ifmap row while its next words arrive.

    Parameters
    ----------
    shape : shape-like
        Shape of a word.
    depth : int
        Words held, at least 1.
    registered : bool
        Whether ``word`` is the word of the last read, from a memory's output register, instead of the
        one under the pointer.

    Members
    -------
    i : In(stream.Signature(shape))
        Words to keep.
    some : Out(1)
        There is a word that has never been read.
    read : In(1)
        Read the word under the pointer and move on. Unless `some`, only words that were read before
        may be read.
    enable : In(1)
        With `registered`: the read is wanted; without, the output stays as it is.
    new : In(1)
        With a read: the word is one that has never been read.
    pop : In(1)
        With a read: the word is given up. It must be the oldest one.
    rewind : In(1)
        With a read: the pointer goes back to the oldest word then left, instead of on.
    word : Out(shape)
        Word read.

    Raises
    ------
    PearrayError
        If the depth is not at least 1.
    """

    def __init__(self, shape, depth, *, registered=False):
        check_count("depth", depth, 1)
        self._shape = shape
        self._depth = depth
        self._registered = registered
        super().__init__({
            "i": In(stream.Signature(shape)),
            "some": Out(1),
            "read": In(1),
            "enable": In(1, init=1),
            "new": In(1),
            "pop": In(1),
            "rewind": In(1),
            "word": Out(shape),
        })

    @property
    def depth(self) -> int:
        """Words held."""
        return self._depth

    def elaborate(self, platform):
        """Build the memory, its pointers and counts."""
        m = Module()

        write, read = _memory(m, self._shape, self._depth, registered=self._registered)
        write_at = Signal(range(self._depth))
        oldest = Signal(range(self._depth))
        pointer = Signal(range(self._depth))
        kept = Signal(range(self._depth + 1))
        unread = Signal(range(self._depth + 1))
        oldest_next = Signal.like(oldest)
        put = Signal()
        m.d.comb += [
            self.i.ready.eq(kept != self._depth),
            put.eq(self.i.valid & self.i.ready),
            write.en.eq(put),
            write.addr.eq(write_at),
            write.data.eq(self.i.payload),
            read.addr.eq(pointer),
            self.word.eq(read.data),
            self.some.eq(unread != 0),
            oldest_next.eq(Mux(self.read & self.pop, _after(oldest, self._depth), oldest)),
        ]
        if self._registered:
            m.d.comb += read.en.eq(self.read & self.enable)
        with m.If(put):
            m.d.sync += write_at.eq(_after(write_at, self._depth))
        with m.If(self.read):
            m.d.sync += [
                oldest.eq(oldest_next),
                pointer.eq(Mux(self.rewind, oldest_next, _after(pointer, self._depth))),
            ]
        m.d.sync += [
            kept.eq(kept + put - (self.read & self.pop)),
            unread.eq(unread + put - (self.read & self.new)),
        ]

        return m


class QueueScratchpad(wiring.Component):
    """Queue of words that were announced, so that there is room when they come.

    Parameters
    ----------
    shape : shape-like
        Shape of a word.
    depth : int
        Words held, at least 1.

    Members
    -------
    room, reserve : Out(1), In(1)
        There is room for another word; one is going to come.
    i : In(stream.Signature(shape, always_ready=True))
        Words, each reserved before.
    some : Out(1)
        There is a word.
    take : In(1)
        The oldest word is given up.
    word : Out(shape)
        Oldest word.
    empty : Out(1)
        There is no word and none is going to come.

    Raises
    ------
    PearrayError
        If the depth is not at least 1.
    """

    def __init__(self, shape, depth):
        check_count("depth", depth, 1)
        self._shape = shape
        self._depth = depth
        super().__init__({
            "room": Out(1),
            "reserve": In(1),
            "i": In(stream.Signature(shape, always_ready=True)),
            "some": Out(1),
            "take": In(1),
            "word": Out(shape),
            "empty": Out(1),
        })

    def elaborate(self, platform):
        """Build the memory, its pointers and counts."""
        m = Module()

        write, read = _memory(m, self._shape, self._depth)
        write_at = Signal(range(self._depth))
        read_at = Signal(range(self._depth))
        reserved = Signal(range(self._depth + 1))
        held = Signal(range(self._depth + 1))
        m.d.comb += [
            write.en.eq(self.i.valid),
            write.addr.eq(write_at),
            write.data.eq(self.i.payload),
            read.addr.eq(read_at),
            self.word.eq(read.data),
            self.some.eq(held != 0),
            self.room.eq(reserved != self._depth),
            self.empty.eq(reserved == 0),
        ]
        with m.If(self.i.valid):
            m.d.sync += write_at.eq(_after(write_at, self._depth))
        with m.If(self.take):
            m.d.sync += read_at.eq(_after(read_at, self._depth))
        m.d.sync += [
            reserved.eq(reserved + self.reserve - self.take),
            held.eq(held + self.i.valid - self.take),
        ]

        return m
