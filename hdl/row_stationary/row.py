"""Row of processing elements, and its part of the multicast networks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Member, Out
from amaranth.utils import ceil_log2

from ..arithmetic.arithmetic import Arithmetic
from ..blocks.unit import Unit, add
from ..errors import check_count
from .beats import beat_layout
from .config import RowStationaryConfig
from .mac import pass_shape_layout
from .pe import PEEvents, RowStationaryPE

__all__ = ["ArrayShape", "PERow", "array_shape", "event_counts_layout", "tag_bits"]


@dataclass(frozen=True, kw_only=True)
class ArrayShape:
    """Parameters of a row-stationary array.

    Parameters
    ----------
    rows, cols : int
        Processing elements.
    arithmetic : Arithmetic
        What words and sums are.
    ifmap_words, filter_words, psum_words : int
        Words of a PE's scratchpads.
    filter_lanes, psum_lanes : int
        Words of a beat on the filter and psum networks.
    row_tag_bits, col_tag_bits : int
        Widths of the two parts of a tag.
    filter_queue : int
        Beats of filters that wait in a PE for room in its scratchpad.

    Raises
    ------
    PearrayError
        If a number is not at least 1; of beats that wait, at least 0.
    """

    rows: int
    cols: int
    arithmetic: Arithmetic
    ifmap_words: int
    filter_words: int
    psum_words: int
    filter_lanes: int
    psum_lanes: int
    row_tag_bits: int
    col_tag_bits: int
    filter_queue: int = 0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name != "arithmetic":
                check_count(name, value, 0 if name == "filter_queue" else 1)

    @property
    def pe(self) -> tuple[Any, ...]:
        """Arguments of :class:`.pe.RowStationaryPE`."""
        return (self.arithmetic, self.ifmap_words, self.filter_words, self.psum_words, self.filter_lanes,
                self.psum_lanes, self.filter_queue)

    @property
    def word(self) -> Shape:
        """Shape of a word."""
        return self.arithmetic.word

    @property
    def psum(self) -> Shape:
        """Shape of a sum."""
        return self.arithmetic.accumulator

    @property
    def tag(self) -> data.StructLayout:
        """Layout of a tag, two numbers that a datum carries and destinations compare with their own."""
        return data.StructLayout({"row": self.row_tag_bits, "col": self.col_tag_bits})

    @property
    def setup(self) -> data.StructLayout:
        """Layout of what a PE keeps for a layer: ``active``, its place in a chain, and its tags."""
        return data.StructLayout({"active": 1, "bottom": 1, "top": 1,
                                  "ifmap": self.tag, "filters": self.tag, "psums": self.tag})

    @property
    def shift(self) -> range:
        """Lowest bits that a product's window may have."""
        return self.arithmetic.windows()

    @property
    def networks(self) -> Mapping[str, Any]:
        """Shape of a datum on each network to the PEs."""
        return {"shape": pass_shape_layout(self.ifmap_words, self.filter_words),
                "ifmap": self.word,
                "filters": beat_layout(self.word, self.filter_lanes),
                "psums": beat_layout(self.psum, self.psum_lanes)}

    def datum(self, network: str) -> data.StructLayout:
        """Layout of a datum and its tag; pass shapes have no tag, and go to all active PEs."""
        fields = {"data": self.networks[network]}
        return data.StructLayout(fields if network == "shape" else {"tag": self.tag} | fields)


def event_counts_layout(pes: int) -> data.StructLayout:
    """Layout of the number of PEs in which each event happens; see :class:`.pe.PEEvents`."""
    return data.StructLayout({str(name): range(pes + 1) for name, _ in data.Layout.cast(PEEvents)})


class PERow(Unit):
    """Row of PEs on the four networks to them and the one from them (JSSC 2017, section V-B).

    A datum is offered to all rows at once. The row says whether all its PEs whose tags match can take it; when
    the matching PEs of all rows can, the datum is delivered, to all of them in one cycle.

    Parameters
    ----------
    shape : ArrayShape
        Parameters of the array.

    Members
    -------
    setup_in, setup, setup_move : In(shape.setup), Out(shape.setup), In(1)
        Setups move right by a PE when `setup_move` is set; the row's last one leaves.
    {network}_offer, {network}_ready, {network}_deliver : In(shape.datum(network)), Out(1), In(1)
        For each network to the PEs: a datum, whether the row's PEs that match can take it, and that they shall.
    want, some, beat, take : In(shape.tag), Out(1), Out(beat_layout), In(1)
        The network from the PEs: a tag, whether the PE at the top of a chain with this psum tag has a beat,
        the beat (zeros if not), and that it is taken.
    below, above : In(stream).array(cols), Out(stream).array(cols)
        Sums from the row below and to the row above.
    shift, maximum : In
        Lowest bit of a product's window; whether sums are maxima.
    idle : Out(1)
        All PEs are idle.
    events : Out(event_counts_layout(cols))
        Number of PEs in which something happened in the cycle before.
    """

    unit_name = "pe_row"

    def __init__(self, shape: ArrayShape):
        self._shape = shape
        sums = stream.Signature(shape.psum)
        members: dict[str, Member] = {
            "setup_in": In(shape.setup),
            "setup": Out(shape.setup),
            "setup_move": In(1),
            "want": In(shape.tag),
            "some": Out(1),
            "beat": Out(shape.networks["psums"]),
            "take": In(1),
            "below": In(sums).array(shape.cols),
            "above": Out(sums).array(shape.cols),
            "shift": In(shape.shift),
            "maximum": In(1),
            "idle": Out(1),
            "events": Out(event_counts_layout(shape.cols)),
        }
        for name in shape.networks:
            members |= {f"{name}_offer": In(shape.datum(name)), f"{name}_ready": Out(1), f"{name}_deliver": In(1)}
        super().__init__(members)

    def elaborate(self, platform):
        """Build the PEs, their setups and tag comparisons."""
        m = Module()

        pes = [RowStationaryPE(*self._shape.pe) for _ in range(self._shape.cols)]
        setups = [Signal(self._shape.setup, name=f"setup_{index}") for index in range(len(pes))]
        with m.If(self.setup_move):
            m.d.sync += [setup.eq(before) for setup, before in zip(setups, [self.setup_in, *setups[:-1]], strict=True)]
        m.d.comb += self.setup.eq(setups[-1])

        for index, (pe, setup) in enumerate(zip(pes, setups, strict=True)):
            add(m, f"pe_{index}", pe, platform)
            wiring.connect(m, wiring.flipped(self.below[index]), pe.below)
            wiring.connect(m, pe.above, wiring.flipped(self.above[index]))
            m.d.comb += [pe.bottom.eq(setup.bottom), pe.top.eq(setup.top), pe.shift.eq(self.shift),
                         pe.maximum.eq(self.maximum)]
        for name in self._shape.networks:
            self._deliver(m, name, pes, setups)
        self._collect(m, pes, setups)

        m.d.comb += self.idle.eq(Cat(pe.idle for pe in pes).all())
        m.d.sync += [self.events[name].eq(_count([pe.events[name] for pe in pes]))
                     for name, _ in self.events.shape()]
        return m

    def _deliver(self, m, name, pes, setups):
        offer = getattr(self, f"{name}_offer")
        matches = Signal(len(pes), name=f"{name}_matches")
        for match, pe, setup in zip(matches, pes, setups, strict=True):
            port = getattr(pe, name)
            if name == "shape":
                m.d.comb += match.eq(setup.active)
            elif name == "psums":
                m.d.comb += match.eq(setup.active & setup.bottom & (setup.psums == offer.tag))
            else:
                m.d.comb += match.eq(setup.active & (setup[name] == offer.tag))
            m.d.comb += [
                port.payload.eq(offer.data),
                port.valid.eq(match & getattr(self, f"{name}_deliver")),
            ]
        ready = Cat(getattr(pe, name).ready for pe in pes)
        m.d.comb += getattr(self, f"{name}_ready").eq((~matches | ready).all())

    def _collect(self, m, pes, setups):
        beat = Const(0, Shape.cast(self.beat.shape()))
        some = Signal(len(pes))
        for one, pe, setup in zip(some, pes, setups, strict=True):
            match = Signal()
            m.d.comb += [
                match.eq(setup.active & setup.top & (setup.psums == self.want)),
                one.eq(match & pe.out.valid),
                pe.out.ready.eq(match & self.take),
            ]
            beat |= Mux(one, pe.out.payload.as_value(), 0)
        m.d.comb += [self.some.eq(some.any()), self.beat.eq(beat)]


def _count(bits):
    """Sum of bits, by halves."""
    if len(bits) == 1:
        return bits[0]
    middle = len(bits) // 2
    return _count(bits[:middle]) + _count(bits[middle:])


def array_shape(config: RowStationaryConfig) -> ArrayShape:
    """Parameters of the array of a configuration."""
    row_tag_bits, col_tag_bits = tag_bits(config.array.rows, config.array.cols)
    return ArrayShape(
        rows=config.array.rows, cols=config.array.cols, arithmetic=config.arithmetic,
        ifmap_words=config.pe.ifmap_words, filter_words=config.pe.filter_words, psum_words=config.pe.psum_words,
        filter_lanes=config.filter_lanes, psum_lanes=config.psum_lanes,
        row_tag_bits=row_tag_bits, col_tag_bits=col_tag_bits, filter_queue=config.pe.filter_queue)


def tag_bits(rows: int, cols: int, stride: int = 4) -> tuple[int, int]:
    """Widths of tags for all sets and diagonals that R x C PEs can hold, for strides up to `stride`."""
    return max(1, ceil_log2(rows * cols)), ceil_log2(stride * (rows * cols - 1) + rows + 1)
