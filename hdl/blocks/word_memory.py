"""Memory of words that is written at one place and read at another in each cycle."""

from typing import Any

from amaranth.hdl import Module, unsigned
from amaranth.lib.memory import Memory

from .pipeline import delay

__all__ = ["word_memory"]


def word_memory(m: Module, name: str, width: int, depth: int, place, cycles: int = 2):
    """Add a memory in block RAM that begins with zeros, and of which no word is read in the cycle of its write.

    Parameters
    ----------
    m : Module
        Module that gets the memory.
    name : str
        Beginning of its name.
    width, depth : int
        Bits of a word, and words.
    place : value-like
        Place that is read.
    cycles : int
        Cycles from a place to its word, at least one.

    Returns
    -------
    WritePort
        Write port.
    Value
        The word at the place, so many cycles later.
    """
    attributes: Any = {"no_rw_check": 1, "ram_style": "block"}
    memory: Any = Memory(shape=unsigned(width), depth=depth, init=[], attrs=attributes)
    m.submodules[f"{name}_memory"] = memory
    write, read = memory.write_port(), memory.read_port()
    m.d.comb += read.addr.eq(place)
    return write, delay(m, read.data, cycles - 1, f"{name}_read", reset_less=True)
