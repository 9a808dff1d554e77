"""Scratchpad that is filled like a queue and read in windows."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..errors import PearrayError

__all__ = ["RingScratchpad"]


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
        if type(depth) is not int or depth < 1:
            raise PearrayError(f"depth must be an integer of at least 1, not {depth!r}")
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

        m.submodules.storage = storage = Memory(shape=self._shape, depth=self._depth, init=[])
        write = storage.write_port()
        read = storage.read_port(domain="sync" if self._registered else "comb")

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
            oldest_next.eq(Mux(self.read & self.pop, self._after(oldest), oldest)),
        ]
        if self._registered:
            m.d.comb += read.en.eq(self.read & self.enable)
        with m.If(put):
            m.d.sync += write_at.eq(self._after(write_at))
        with m.If(self.read):
            m.d.sync += [
                oldest.eq(oldest_next),
                pointer.eq(Mux(self.rewind, oldest_next, self._after(pointer))),
            ]
        m.d.sync += [
            kept.eq(kept + put - (self.read & self.pop)),
            unread.eq(unread + put - (self.read & self.new)),
        ]

        return m

    def _after(self, address):
        if self._depth & self._depth - 1 == 0:
            return (address + 1)[:len(address)]
        return Mux(address == self._depth - 1, 0, address + 1)
