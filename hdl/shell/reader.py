"""One AXI read channel, shared by several clients in order."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..blocks.axi import AXI4Read, Response
from ..blocks.fifo import StreamFIFO
from .config import Config

__all__ = ["IN_FLIGHT", "Reader", "beats_layout", "request_layout"]

#: Bursts in flight, each way.
IN_FLIGHT = 16


def request_layout(config: Config) -> data.StructLayout:
    """Layout of a request for a burst: address in beats, and one less than its beats."""
    return data.StructLayout({"beat": 32 - exact_log2(config.beat_bytes), "more": 8})


def beats_layout(config: Config) -> data.StructLayout:
    """Layout of a beat that was read."""
    return data.StructLayout({"data": config.memory.data_width, "last": 1})


class Reader(wiring.Component):
    """Read arbiter: sends the clients' bursts to memory and gives each client its beats, in order.

    A request appears on the bus in the next cycle if the bus is free. Up to :data:`IN_FLIGHT`
    bursts are in flight. Clients that request at the same time take turns, but for those that
    defer to the others. A beat goes from the
    bus to its client combinationally; clients register it.

    While ``drain`` is high requests are refused; bursts in flight are completed and their beats
    dropped, also after ``drain`` has fallen. An address that has been offered to the bus stays
    until it is taken, as AXI demands.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.
    clients : int
        Number of clients.

    Members
    -------
    request : In(stream.Signature(request_layout(config))).array(clients)
        Bursts to read. They must not cross a 4 KB boundary.
    defer : In(clients)
        Clients whose requests wait as long as others request; may change with a request pending.
    response : Out(stream.Signature(beats_layout(config))).array(clients)
        Beats of each client's bursts.
    drain : In(1)
        Refuse requests and drop what is in flight.
    idle : Out(1)
        Nothing is in flight.
    error : Out(1)
        High for one cycle for each beat of an undropped burst with an error response.
    error_response : Out(Response)
        The response.
    error_address : Out(32)
        Address of the burst.
    error_client : Out(range(max(clients, 2)))
        Client of the burst.
    bus : Out(AXI4Read(data_width))
        Read channels of the memory port.
    """

    def __init__(self, config: Config, clients: int):
        self._config = config
        self._clients = clients
        super().__init__({
            "request": In(stream.Signature(request_layout(config))).array(clients),
            "defer": In(clients),
            "response": Out(stream.Signature(beats_layout(config))).array(clients),
            "drain": In(1),
            "idle": Out(1),
            "error": Out(1),
            "error_response": Out(Response),
            "error_address": Out(32),
            "error_client": Out(range(max(clients, 2))),
            "bus": Out(AXI4Read(config.memory.data_width)),
        })

    def elaborate(self, platform):
        """Build the arbiter, the record of bursts in flight, and the way back."""
        m = Module()

        draining = Signal()
        in_flight = Signal(range(IN_FLIGHT + 1))
        m.d.comb += self.idle.eq((in_flight == 0) & ~draining)
        with m.If(in_flight == 0):
            m.d.sync += draining.eq(0)
        with m.Elif(self.drain):
            m.d.sync += draining.eq(1)

        # One entry for each burst from when its address is offered until it is the oldest one.
        entry = data.StructLayout({"client": len(self.error_client), "beat": len(self.request[0].p.beat)})
        m.submodules.bursts = bursts = StreamFIFO(entry, IN_FLIGHT)

        self._request(m, bursts, draining, in_flight)
        self._respond(m, bursts, draining, in_flight)

        return m

    def _choose(self, m, turn):
        """Choose the client whose turn it is, else one that does not defer, else any."""
        chosen = Signal(len(self.error_client))
        pressing = Signal(self._clients)
        for client in reversed(range(self._clients)):
            m.d.comb += pressing[client].eq(self.request[client].valid & ~self.defer[client])
            with m.If(self.request[client].valid):
                m.d.comb += chosen.eq(client)
        for client in reversed(range(self._clients)):
            with m.If(pressing[client]):
                m.d.comb += chosen.eq(client)
        with m.Switch(turn):
            for client in range(self._clients):
                with m.Case(client), m.If(pressing[client]):
                    m.d.comb += chosen.eq(client)
        return chosen

    def _request(self, m, bursts, draining, in_flight):
        """Address channel: offer the chosen client's burst, and keep a record of it."""
        bus = self.bus
        lane_bits = exact_log2(self._config.beat_bytes)
        turn = Signal(len(self.error_client))
        chosen = self._choose(m, turn)
        any_request = Signal()
        payload = Signal(request_layout(self._config))
        take = Signal()
        m.d.comb += [
            any_request.eq(Cat(request.valid for request in self.request).any()),
            take.eq((~bus.arvalid | bus.arready) & ~in_flight[exact_log2(IN_FLIGHT)] & ~self.drain & ~draining),
            bursts.i.valid.eq(take & any_request),
            bursts.i.p.client.eq(chosen),
            bursts.i.p.beat.eq(payload.beat),
            bus.arid.eq(0),
            bus.arsize.eq(lane_bits),
            bus.arburst.eq(1),
            bus.arprot.eq(0),
            bus.arcache.eq(3),
        ]
        with m.Switch(chosen):
            for client, request in enumerate(self.request):
                with m.Case(client):
                    m.d.comb += [payload.eq(request.p), request.ready.eq(take)]
        with m.If(take & any_request):
            m.d.sync += [
                bus.arvalid.eq(1),
                bus.araddr.eq(payload.beat << lane_bits),
                bus.arlen.eq(payload.more),
                turn.eq(Mux(chosen == self._clients - 1, 0, chosen + 1)),
            ]
        with m.Elif(bus.arready):
            m.d.sync += bus.arvalid.eq(0)

    def _respond(self, m, bursts, draining, in_flight):
        """Data channel: give beats to the client of the oldest burst, or drop those that nobody waits for."""
        bus = self.bus
        # The oldest burst, in registers: its first beat comes two cycles after its entry at the earliest.
        burst = Signal(bursts.o.p.shape(), reset_less=True)
        held = Signal()
        awaits = Signal(self._clients)   # the client that waits for the burst, if any does
        drop = Signal()
        done = Signal()
        m.d.comb += [
            drop.eq(self.drain | ~awaits.any()),
            bus.rready.eq(drop | Cat(awaits[client] & response.ready
                                     for client, response in enumerate(self.response)).any()),
            done.eq(bus.rvalid & bus.rready & bus.rlast),
            bursts.o.ready.eq(done | ~held),
        ]
        with m.If(bursts.o.ready):
            m.d.sync += [burst.eq(bursts.o.p), held.eq(bursts.o.valid)]
            for client in range(self._clients):
                m.d.sync += awaits[client].eq(bursts.o.valid & (bursts.o.p.client == client))
        with m.If(self.drain | draining):
            m.d.sync += awaits.eq(0)
        for client, response in enumerate(self.response):
            m.d.comb += [
                response.p.data.eq(bus.rdata),
                response.p.last.eq(bus.rlast),
                response.valid.eq(bus.rvalid & awaits[client] & ~self.drain),
            ]
        m.d.sync += [
            in_flight.eq(in_flight + bursts.i.valid - (done & held)),
            self.error.eq(bus.rvalid & bus.rready & ~drop & bus.rresp.as_value()[1]),
            self.error_response.eq(bus.rresp),
            self.error_address.eq(burst.beat << exact_log2(self._config.beat_bytes)),
            self.error_client.eq(burst.client),
        ]
