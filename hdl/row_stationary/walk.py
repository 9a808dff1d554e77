"""Nested loops, the addresses they walk, and their indices."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..errors import PearrayError

__all__ = ["Walk", "place_layout", "walk_layout"]


def walk_layout(address_bits: int, count_bits: tuple[int, ...]) -> data.StructLayout:
    """Layout of a walk: ``base``, and ``count_i`` (turns less one) and ``step_i`` of each loop, innermost first."""
    fields: dict[str, int] = {"base": address_bits}
    for loop, bits in enumerate(count_bits):
        fields |= {f"count_{loop}": bits, f"step_{loop}": address_bits}
    return data.StructLayout(fields)


def place_layout(address_bits: int, count_bits: tuple[int, ...]) -> data.StructLayout:
    """Layout of a place on a walk: its ``address``, ``index_i`` in each loop, and whether it is the ``last``."""
    fields: dict[str, int] = {"address": address_bits, "last": 1}
    return data.StructLayout(fields | {f"index_{loop}": bits for loop, bits in enumerate(count_bits)})


class Walk(wiring.Component):
    """Walks the places of nested loops, one a cycle, one walk after another without an idle cycle.

    Address ``base + sum(index_i * step_i)``, modulo 2**address_bits, without multipliers: each loop keeps the
    address at which its present turn began.

    Parameters
    ----------
    address_bits : int
        Width of an address.
    count_bits : tuple of int
        Widths of the loops' counts, innermost first.

    Members
    -------
    i : In(stream.Signature(walk_layout(address_bits, count_bits)))
        Walks.
    o : Out(stream.Signature(place_layout(address_bits, count_bits)))
        Places.

    Raises
    ------
    PearrayError
        If there is no loop.
    """

    def __init__(self, address_bits: int, count_bits: tuple[int, ...]):
        if not count_bits:
            raise PearrayError("count_bits must name at least one loop, not ()")
        self._loops = len(count_bits)
        super().__init__({
            "i": In(stream.Signature(walk_layout(address_bits, count_bits))),
            "o": Out(stream.Signature(place_layout(address_bits, count_bits))),
        })

    def elaborate(self, platform):
        """Build the counters and the addresses of turns."""
        m = Module()

        place = self.o.payload
        walk = Signal.like(self.i.payload)
        last = Signal(self._loops)
        step = Signal()
        take = Signal()
        address = Signal.like(place.address)
        turns = [Signal.like(place.address, name=f"turn_{loop}") for loop in range(self._loops)]
        indices = [Signal.like(place[f"index_{loop}"], name=f"index_{loop}") for loop in range(self._loops)]
        m.d.comb += [
            step.eq(self.o.valid & self.o.ready),
            take.eq(~self.o.valid | step & last.all()),
            self.i.ready.eq(take),
            place.address.eq(address),
            place.last.eq(last.all()),
        ]
        for loop, index in enumerate(indices):
            m.d.comb += [place[f"index_{loop}"].eq(index), last[loop].eq(index == walk[f"count_{loop}"])]
            inner = last[:loop].all()
            after = turns[loop] + walk[f"step_{loop}"]
            with m.If(step & inner):
                m.d.sync += index.eq(Mux(last[loop], 0, index + 1))
            with m.If(step & inner & ~last[loop]):
                m.d.sync += address.eq(after)
                m.d.sync += [turn.eq(after) for turn in turns[:loop + 1]]
        with m.If(take):
            m.d.sync += [self.o.valid.eq(self.i.valid), walk.eq(self.i.payload), address.eq(self.i.payload.base)]
            m.d.sync += [turn.eq(self.i.payload.base) for turn in turns]
            m.d.sync += [index.eq(0) for index in indices]

        return m
