"""Rotation of lanes, which puts the banks of a memory in the order of addresses and back."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..errors import PearrayError

__all__ = ["Rotator"]


class Rotator(wiring.Component):
    """Pipelined rotation of lanes by a variable amount.

    ``o[lane] = i[(lane + amount) % lanes]``: lane ``amount`` of the input leaves on lane 0. With
    ``reverse`` set it turns the other way, ``o[(lane + amount) % lanes] = i[lane]``, which undoes
    the former. Latency is :attr:`latency` cycles, throughput one rotation a cycle; there is
    neither flow control nor reset of the data.

    Parameters
    ----------
    lanes : int
        Number of lanes, a power of two.
    width : int
        Bits of a lane.
    reverse : bool
        Turn the other way.

    Members
    -------
    i : In(ArrayLayout(width, lanes))
        Lanes to rotate.
    amount : In(max(log2(lanes), 1))
        Distance, given in the same cycle as ``i``. Ignored with one lane.
    o : Out(ArrayLayout(width, lanes))
        Rotated lanes.

    Raises
    ------
    PearrayError
        If ``lanes`` is not a power of two or ``width`` is not positive.
    """

    #: Levels of two-way multiplexers between registers: one four-way multiplexer.
    LEVELS = 2

    def __init__(self, lanes: int, width: int, *, reverse: bool = False):
        if type(lanes) is not int or lanes < 1 or lanes & lanes - 1:
            raise PearrayError(f"lanes must be a power of two, not {lanes!r}")
        if type(width) is not int or width < 1:
            raise PearrayError(f"width must be a positive integer, not {width!r}")
        self._lanes = lanes
        self._width = width
        self._reverse = reverse
        layout = data.ArrayLayout(width, lanes)
        super().__init__({
            "i": In(layout),
            "amount": In(max(ceil_log2(lanes), 1)),
            "o": Out(layout),
        })

    @property
    def lanes(self) -> int:
        """Number of lanes."""
        return self._lanes

    @property
    def latency(self) -> int:
        """Cycles from ``i`` to ``o``, at least one."""
        return self.latency_of(self._lanes)

    @classmethod
    def latency_of(cls, lanes: int) -> int:
        """Latency in cycles of a rotator of this many lanes."""
        return max(-(-ceil_log2(lanes) // cls.LEVELS), 1)

    def elaborate(self, platform):
        """Build the stages: each turns by up to four distances."""
        m = Module()

        levels = ceil_log2(self._lanes)
        lanes = [self.i[lane] for lane in range(self._lanes)]
        amount = self.amount
        for stage in range(self.latency):
            low = stage * self.LEVELS
            high = min(low + self.LEVELS, levels)
            choice = amount[low:high]
            turned = []
            for lane in range(self._lanes):
                register = Signal(self._width, name=f"stage{stage}_lane{lane}", reset_less=True)
                with m.Switch(choice):
                    for value in range(1 << high - low):
                        distance = -(value << low) if self._reverse else value << low
                        with m.Case(value):
                            m.d.sync += register.eq(lanes[(lane + distance) % self._lanes])
                turned.append(register)
            lanes = turned
            if stage + 1 < self.latency:
                later = Signal(self.amount.shape(), name=f"amount{stage}", reset_less=True)
                m.d.sync += later.eq(amount)
                amount = later
        m.d.comb += [self.o[lane].eq(value) for lane, value in enumerate(lanes)]

        return m
