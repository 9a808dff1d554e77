"""Reduction of values to one, by a tree of registers."""

from collections.abc import Callable, Sequence

from amaranth.hdl import Module, Signal, ValueLike

__all__ = ["tree"]


def tree(m: Module, name: str, values: Sequence, combine: Callable[[ValueLike, ValueLike], ValueLike]):
    """Combine values two by two, a level a cycle.

    Parameters
    ----------
    m : Module
        Module that gets the registers.
    name : str
        Name of the registers, followed by level and number.
    values : sequence of value-like
        A power of two of values.
    combine : callable
        Makes one value of two; the order of operands must not matter, nor how they are grouped.

    Returns
    -------
    value-like
        What all values make, log2(values) cycles later; of one value, that itself.
    """
    level = 0
    while len(values) > 1:
        pairs = [combine(*pair) for pair in zip(values[::2], values[1::2], strict=True)]
        values = [Signal(pair.shape(), name=f"{name}_{level}_{index}", reset_less=True)
                  for index, pair in enumerate(pairs)]
        m.d.sync += [value.eq(pair) for value, pair in zip(values, pairs, strict=True)]
        level += 1
    return values[0]
