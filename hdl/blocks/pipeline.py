"""Delay lines."""

from amaranth.hdl import Module, Signal

__all__ = ["delay", "taps"]


def delay(m: Module, value, cycles: int, name: str, *, reset_less: bool = False):
    """Delay a value by registers.

    Parameters
    ----------
    m : Module
        Module that gets the registers.
    value : Value or ValueCastable
        What to delay; a structured value stays one.
    cycles : int
        Registers in line; with none the value itself is returned.
    name : str
        Name of the registers, followed by their numbers.
    reset_less : bool
        For data that a valid bit guards.

    Returns
    -------
    Value or ValueCastable
        The value as it was ``cycles`` cycles ago.
    """
    for cycle in range(cycles):
        later = Signal(value.shape(), name=f"{name}_{cycle + 1}", reset_less=reset_less)
        m.d.sync += later.eq(value)
        value = later
    return value


def taps(m: Module, value, cycles: int, name: str, *, reset_less: bool = False):
    """Delay a value, and return it at every stage: entry ``i`` is the value ``i`` cycles later.

    Parameters are those of :func:`delay`; the list has ``cycles + 1`` entries.
    """
    chain = [value]
    for cycle in range(cycles):
        later = Signal(value.shape(), name=f"{name}_{cycle + 1}", reset_less=reset_less)
        m.d.sync += later.eq(chain[-1])
        chain.append(later)
    return chain
