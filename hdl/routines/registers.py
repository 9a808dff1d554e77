"""Registers of a lane: as many words as there are registers, in each slot."""

from amaranth.hdl import Cat, Module, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..blocks.pipeline import delay
from ..blocks.word_memory import word_memory
from .instructions import REGISTERS, SLOTS

__all__ = ["Operands", "RegisterWrite", "Registers"]


class Operands(data.Struct):
    """Registers that an instruction reads, and the slot."""

    a: unsigned(4)
    b: unsigned(4)
    c: unsigned(4)
    slot: unsigned(4)


class RegisterWrite(data.Struct):
    """Register that an instruction writes, if any, and the slot."""

    en: unsigned(1)
    dst: unsigned(4)
    slot: unsigned(4)


class Registers(wiring.Component):
    """Words of which two are read in each cycle, and one is written, and for a third whether any of its bits is set.

    They are read :attr:`LATENCY` cycles after their numbers are given, which must not be in the cycle of a write to
    the same.

    Members
    -------
    operands : :py:`In(Operands)`
        What to read.
    a, b : :py:`Out(32)`
        Words r[a] and r[b] of the slot.
    c_is_set : :py:`Out(1)`
        Whether a bit of r[c] is set.
    write : :py:`In(RegisterWrite)`
        What to write.
    value : :py:`In(32)`
        The word.
    is_set : :py:`In(1)`
        Whether any of its bits is set.
    """

    #: Cycles from numbers to words: memory and register.
    LATENCY = 2

    def __init__(self):
        super().__init__({
            "operands": In(Operands), "a": Out(32), "b": Out(32), "c_is_set": Out(1), "write": In(RegisterWrite),
            "value": In(32), "is_set": In(1)})

    def elaborate(self, platform):
        """Build two memories of words, which hold the same, and one of a bit a word."""
        m = Module()

        depth, slot = REGISTERS * SLOTS, self.operands.slot
        place = Cat(self.write.dst, self.write.slot)
        for name, number, port in (("a", self.operands.a, self.a), ("b", self.operands.b, self.b)):
            write, word = word_memory(m, name, 32, depth, Cat(number, slot), self.LATENCY)
            m.d.comb += [port.eq(word), write.en.eq(self.write.en), write.addr.eq(place), write.data.eq(self.value)]
        m.submodules.bits = bits = Memory(shape=unsigned(1), depth=depth, init=[], attrs={"no_rw_check": 1})
        write, read = bits.write_port(), bits.read_port()
        m.d.comb += [
            read.addr.eq(Cat(self.operands.c, slot)),
            self.c_is_set.eq(delay(m, read.data, self.LATENCY - 1, "c_is_set", reset_less=True)),
            write.en.eq(self.write.en),
            write.addr.eq(place),
            write.data.eq(self.is_set),
        ]

        return m
