"""Performance counters in one small memory."""

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import or_

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..errors import PearrayError

__all__ = ["Counters"]


class Counters(wiring.Component):
    """Counts events in 32-bit counters: how often each happens, or how much of it in each cycle.

    Each event has a few bits of its own; a sweep over the events adds them, one a cycle, to the
    counter in memory. So a counter costs a few registers and no 32-bit adder of its own. Reading
    waits for the sweep to pass, up to twice as many cycles as there are events (rounded up to a
    power of two), and counts all events up to two cycles before the request.

    Parameters
    ----------
    names : sequence of str
        Names of the events, in the order of the counters.
    widths : mapping of str to int
        Bits of the amounts of those events that may happen more than once a cycle, by name.

    Members
    -------
    events : In(sum of widths)
        What each counter counts in a cycle, beginning with the first in the lowest bits; a bit each, unless
        ``widths`` says otherwise.
    clear : In(1)
        Set all counters to zero; events of this cycle are not counted.
    index : In(range(len(names)))
        Counter to read, held while ``request`` is high.
    request : In(1)
        Read a counter. Hold until ``valid``.
    value : Out(32)
        The counter's value.
    valid : Out(1)
        High for one cycle with each value.

    Raises
    ------
    PearrayError
        If there are no names, a name stands twice, or a width is not of an event or less than 1.
    """

    def __init__(self, names: Sequence[str], widths: Mapping[str, int] | None = None):
        names = tuple(names)
        widths = dict(widths or {})
        if not names or len(set(names)) != len(names):
            raise PearrayError(f"names must be distinct and not empty, not {names!r}")
        for name, width in widths.items():
            if name not in names or type(width) is not int or width < 1:
                raise PearrayError(f"width of {name} must be that of one of the events and at least 1, not {width!r}")
        self._names = names
        self._widths = [widths.get(name, 1) for name in names]
        super().__init__({
            "events": In(sum(self._widths)),
            "clear": In(1),
            "index": In(range(max(len(names), 2))),
            "request": In(1),
            "value": Out(32),
            "valid": Out(1),
        })

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the events, in the order of the counters."""
        return self._names

    def elaborate(self, platform):
        """Build the events' own bits, the sweep and the memory."""
        m = Module()

        # The sweep must not meet a counter again before its sum has been written.
        bits = max(ceil_log2(len(self._names)), 2)
        slots = 1 << bits
        m.submodules.sums = sums = Memory(shape=32, depth=slots, init=[], attrs={"no_rw_check": 1})
        write = sums.write_port()
        read = sums.read_port()

        slot = Signal(bits, reset_less=True)
        first_sweep = Signal(init=1, reset_less=True)
        events = Signal.like(self.events, reset_less=True)
        m.d.sync += [slot.eq(slot + 1), events.eq(self.events)]
        # Goes round with the slot, a register for each, since events are far apart.
        visited = Signal(slots, init=1, reset_less=True)
        m.d.sync += visited.eq(Mux(self.clear, 1, visited.rotate_left(1)))
        with m.If(visited[-1]):
            m.d.sync += first_sweep.eq(0)
        with m.If(self.clear):
            m.d.sync += [slot.eq(0), first_sweep.eq(1), events.eq(0)]
        small = self._own_bits(m, events, visited)

        # The event's own bits are found among eight in a cycle, and among these in the next, in which memory is read;
        # they are added in the third, and written in the fourth.
        kept = [Mux(visited[index], own, 0) for index, own in enumerate(small)]
        parts = Signal(data.ArrayLayout(small[0].shape(), -(-len(kept) // 8)), reset_less=True)
        m.d.sync += [part.eq(_any_of(kept[8 * index:8 * index + 8])) for index, part in enumerate(parts)]
        slot_1, slot_2, slot_3 = Signal(bits), Signal(bits), Signal(bits)
        first_1, first_2 = Signal(), Signal()
        requested_1, requested_2, requested_3 = Signal(), Signal(), Signal()
        increment = Signal(bits + max(self._widths))
        total = Signal(32)
        m.d.comb += [
            read.en.eq(1),
            read.addr.eq(slot_1),
            write.en.eq(1),
            write.addr.eq(slot_3),
            write.data.eq(total),
            self.value.eq(total),
            self.valid.eq(requested_3),
        ]
        wanted = Signal()
        m.d.comb += wanted.eq(self.request & (slot == self.index) & ~Cat(requested_1, requested_2, requested_3).any())
        m.d.sync += [
            slot_1.eq(slot),
            slot_2.eq(slot_1),
            slot_3.eq(slot_2),
            first_1.eq(first_sweep),
            first_2.eq(first_1),
            increment.eq(_any_of(parts)),
            total.eq(Mux(first_2, 0, read.data) + increment),
            requested_1.eq(wanted),
            requested_2.eq(requested_1),
            requested_3.eq(requested_2),
        ]

        return m

    def _own_bits(self, m, events, visited):
        """Build the registers in which each event waits for the sweep; a bit of `visited` takes those of one."""
        small = Signal(data.ArrayLayout(len(visited).bit_length() - 1 + max(self._widths), len(self._names)),
                       reset_less=True)
        place = 0
        for index, width in enumerate(self._widths):
            event = events[place:place + width]
            place += width
            with m.If(self.clear):
                m.d.sync += small[index].eq(0)
            with m.Elif(visited[index]):
                m.d.sync += small[index].eq(event)
            with m.Elif(event.any() if width > 1 else event):
                m.d.sync += small[index].eq(small[index] + (event if width > 1 else 1))
        return small


def _any_of(values):
    """The one that is not zero, if any is."""
    return reduce(or_, values)
