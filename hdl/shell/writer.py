"""One AXI write channel."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..blocks.axi import AXI4Write, Response
from ..blocks.fifo import StreamFIFO
from .config import Config
from .reader import IN_FLIGHT

__all__ = ["DATA_DEPTH", "Writer", "lanes_layout", "write_request_layout"]

#: Beats of data that the writer holds.
DATA_DEPTH = 16


def write_request_layout(config: Config) -> data.StructLayout:
    """Layout of a burst to write: address in beats, one less than its beats, and a mark.

    The mark is given back when the burst has been acknowledged.
    """
    return data.StructLayout({"beat": 32 - exact_log2(config.beat_bytes), "more": 8, "mark": 1})


def lanes_layout(config: Config) -> data.StructLayout:
    """Layout of a beat to write and its strobes."""
    return data.StructLayout({"data": config.memory.data_width, "strobe": config.beat_bytes})


class Writer(wiring.Component):
    """Writes bursts to memory, up to :data:`IN_FLIGHT` of them in flight.

    A burst's address appears on the bus in the cycle after its request if the bus is free. Its
    data leave a queue of :data:`DATA_DEPTH` beats, one a cycle, :attr:`LATENCY` cycles after they have come, whether
    or not the address has been taken.

    While ``drain`` is high requests and data are refused; bursts in flight are completed, with
    their remaining beats' strobes low, also after ``drain`` has fallen.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.

    Members
    -------
    request : In(stream.Signature(write_request_layout(config)))
        Bursts to write. They must not cross a 4 KB boundary.
    data : In(stream.Signature(lanes_layout(config)))
        Beats of the bursts, in order.
    sent : Out(1)
        High in each cycle in which a queued beat leaves, but for those of a drained run.
    marked : Out(1)
        High for one cycle when memory has acknowledged a burst with a mark, but for those of a drained run.
    drain : In(1)
        Refuse requests, and complete what is in flight.
    idle : Out(1)
        Nothing is in flight.
    error : Out(1)
        High for one cycle for each error response while not draining.
    error_response : Out(Response)
        The response.
    error_address : Out(32)
        Address of the burst.
    bus : Out(AXI4Write(data_width))
        Write channels of the memory port.
    """

    #: Cycles from a beat to the bus.
    LATENCY = 1

    def __init__(self, config: Config):
        self._config = config
        super().__init__({
            "request": In(stream.Signature(write_request_layout(config))),
            "data": In(stream.Signature(lanes_layout(config))),
            "sent": Out(1),
            "marked": Out(1),
            "drain": In(1),
            "idle": Out(1),
            "error": Out(1),
            "error_response": Out(Response),
            "error_address": Out(32),
            "bus": Out(AXI4Write(config.memory.data_width)),
        })

    def elaborate(self, platform):
        """Build the three channels and the records of bursts in flight."""
        m = Module()

        draining = Signal()
        refuse = Signal()
        in_flight = Signal(range(IN_FLIGHT + 1))
        m.d.comb += [
            refuse.eq(self.drain | draining),
            self.idle.eq((in_flight == 0) & ~draining),
        ]
        with m.If(in_flight == 0):
            m.d.sync += draining.eq(0)
        with m.Elif(self.drain):
            m.d.sync += draining.eq(1)

        # One entry for each burst whose beats are owed, and one until it is acknowledged.
        m.submodules.owed = owed = StreamFIFO(8, IN_FLIGHT)
        entry = data.StructLayout({"mark": 1, "beat": len(self.request.p.beat)})
        m.submodules.bursts = bursts = StreamFIFO(entry, IN_FLIGHT)

        taken = self._request(m, owed, bursts, refuse)
        self._send(m, owed, draining, refuse)
        self._acknowledge(m, bursts, refuse, in_flight, taken)

        return m

    def _request(self, m, owed, bursts, refuse):
        """Address channel: offer bursts, and keep records of them; return whether one is taken."""
        bus = self.bus
        lane_bits = exact_log2(self._config.beat_bytes)
        take = Signal()
        taken = Signal()
        m.d.comb += [
            # No more bursts are owed than are in flight, so `owed` has room whenever `bursts` has.
            take.eq((~bus.awvalid | bus.awready) & bursts.i.ready & ~refuse),
            taken.eq(take & self.request.valid),
            self.request.ready.eq(take),
            bursts.i.valid.eq(taken),
            bursts.i.p.mark.eq(self.request.p.mark),
            bursts.i.p.beat.eq(self.request.p.beat),
            owed.i.valid.eq(taken),
            owed.i.payload.eq(self.request.p.more),
            bus.awid.eq(0),
            bus.awsize.eq(lane_bits),
            bus.awburst.eq(1),
            bus.awprot.eq(0),
            bus.awcache.eq(3),
        ]
        with m.If(taken):
            m.d.sync += [
                bus.awvalid.eq(1),
                bus.awaddr.eq(self.request.p.beat << lane_bits),
                bus.awlen.eq(self.request.p.more),
            ]
        with m.Elif(bus.awready):
            m.d.sync += bus.awvalid.eq(0)
        return taken

    def _send(self, m, owed, draining, refuse):
        """Data channel: send the beats of bursts that are owed.

        Data that were queued before draining began are still written; after them, beats without strobes complete
        the bursts.
        """
        bus = self.bus
        m.submodules.beats = beats = StreamFIFO(lanes_layout(self._config), DATA_DEPTH)
        moved = Signal(8)
        sent = Signal()
        m.d.comb += [
            beats.i.valid.eq(self.data.valid & ~refuse),
            beats.i.payload.eq(self.data.payload),
            self.data.ready.eq(beats.i.ready & ~refuse),
            bus.wvalid.eq(owed.o.valid & (beats.o.valid | draining)),
            bus.wdata.eq(beats.o.p.data),
            bus.wstrb.eq(Mux(beats.o.valid, beats.o.p.strobe, 0)),
            bus.wlast.eq(moved == owed.o.payload),
            # Beats that were queued before draining began are no longer the client's.
            self.sent.eq(sent & beats.o.valid & ~refuse),
            sent.eq(bus.wvalid & bus.wready),
            owed.o.ready.eq(sent & bus.wlast),
            # Beats of a burst that was never requested go nowhere.
            beats.o.ready.eq(sent | draining & ~owed.o.valid),
        ]
        with m.If(sent):
            m.d.sync += moved.eq(Mux(bus.wlast, 0, moved + 1))

    def _acknowledge(self, m, bursts, refuse, in_flight, taken):
        """Response channel: count the bursts in flight, and report marks and errors."""
        bus = self.bus
        acknowledged = Signal()
        m.d.comb += [
            bus.bready.eq(1),
            acknowledged.eq(bus.bvalid & bursts.o.valid),
            bursts.o.ready.eq(acknowledged),
        ]
        m.d.sync += [
            in_flight.eq(in_flight + taken - acknowledged),
            self.marked.eq(acknowledged & bursts.o.p.mark & ~refuse),
            self.error.eq(acknowledged & ~refuse & bus.bresp.as_value()[1]),
            self.error_response.eq(bus.bresp),
            self.error_address.eq(bursts.o.p.beat << exact_log2(self._config.beat_bytes)),
        ]
