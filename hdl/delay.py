"""Registers in a row, for values that travel beside a pipeline."""

from amaranth.hdl import Module, Signal, ValueLike

__all__ = ["delayed", "taps"]


def taps(m: Module, value: ValueLike, cycles: int, name: str, *, reset: bool = False) -> list[Signal]:
    """Return a value now and after each of ``cycles`` registers.

    Parameters
    ----------
    m : Module
        Module that gets the registers.
    value : value
        Value at cycle 0.
    cycles : int
        Number of registers.
    name : str
        Register ``i`` is called ``{name}_{i}``.
    reset : bool
        Whether the registers are cleared by reset. Data guarded by a valid bit need not be.

    Returns
    -------
    list of cycles + 1 signals
        Entry ``i`` is the value ``i`` cycles later.
    """
    first = Signal.like(value, name=f"{name}_0", init=None, reset_less=False)
    m.d.comb += first.eq(value)
    chain = [first]
    for cycle in range(1, cycles + 1):
        register = Signal(first.shape(), name=f"{name}_{cycle}", reset_less=not reset)
        m.d.sync += register.eq(chain[-1])
        chain.append(register)
    return chain


def delayed(m: Module, value: ValueLike, cycles: int, name: str, *, reset: bool = False) -> Signal:
    """Return a value ``cycles`` registers later; see :func:`taps`."""
    return taps(m, value, cycles, name, reset=reset)[-1]
