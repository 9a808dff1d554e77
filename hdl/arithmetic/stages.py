"""What pipelines of arithmetic share: registers behind some of their parts, names, shifts that lose no bit."""

from typing import ClassVar

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring

__all__ = ["Staged", "Stages", "named", "shifted_right"]


class Stages:
    """Parts of a pipeline, with registers behind as many as its latency says, as evenly as they can stand.

    Parameters
    ----------
    m : Module
        Module that gets the registers.
    latency : int
        Registers in line.
    parts : int
        Parts, each of which is ended once.
    """

    def __init__(self, m: Module, latency: int, parts: int):
        self._m, self._latency, self._parts = m, latency, parts
        self._part = 0

    def end(self, *values: Value) -> list[Value]:
        """End a part: its values behind registers, or as they are."""
        part, self._part = self._part, self._part + 1
        if (part + 1) * self._latency // self._parts == part * self._latency // self._parts:
            return list(values)
        registers = [Signal(value.shape(), name=f"part_{part}_{index}", reset_less=True)
                     for index, value in enumerate(values)]
        self._m.d.sync += [register.eq(value) for register, value in zip(registers, values, strict=True)]
        return list(registers)


class Staged(wiring.Component):
    """Base of pipelines with a latency that can be chosen.

    Parameters
    ----------
    what : str
        What it computes, for messages.
    latency : int
        Registers in line, at most :attr:`MOST`.
    members : dict
        Members of the signature.

    Raises
    ------
    ValueError
        If there is no such latency.
    """

    #: Parts behind each of which there may be a register.
    MOST: ClassVar[int]

    def __init__(self, what: str, latency: int, members: dict[str, wiring.Member]):
        if not 0 <= latency <= self.MOST:
            raise ValueError(f"latency of {what} must be in 0..{self.MOST}, not {latency}")
        self._latency = latency
        super().__init__(members)

    @property
    def latency(self) -> int:
        """Cycles from what comes in to what is made of it."""
        return self._latency

    def stages(self, m: Module) -> Stages:
        """Begin its parts, of which there are :attr:`MOST`."""
        return Stages(m, self._latency, self.MOST)


def named(m: Module, name: str, value: Value) -> Signal:
    """Give a value that is used often a signal."""
    signal = Signal(value.shape(), name=name)
    m.d.comb += signal.eq(value)
    return signal


def shifted_right(value: Value, bits: int) -> Value:
    """Return a value without its lowest bits, the lowest of what is left set if any of them was (a sticky bit)."""
    return Cat(value[:bits + 1].any(), value[bits + 1:])
