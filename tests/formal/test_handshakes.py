"""The core handshakes, proved by induction for ever, or, where none closes, for some cycles from the start."""

import pytest
from amaranth.hdl import Assert, Assume, Cat, Module, Mux, Signal, unsigned
from prover import Held, prove

from pearray.hdl import rules
from pearray.hdl.commands import HEADER_BITS, KINDS, Destination, LoadBody, Opcode
from pearray.hdl.config import Accumulators, Array, Memory, Post, Scratchpads, SystolicConfig
from pearray.hdl.fifo import StreamFIFO
from pearray.hdl.queues import QUEUES, slot_name
from pearray.hdl.reader import IN_FLIGHT, Reader
from pearray.hdl.tokens import TokenGates
from pearray.hdl.writer import Writer

CONFIG = SystolicConfig(
    name="formal", array=Array(rows=2, cols=2),
    scratchpads=Scratchpads(activation_bytes=64, weight_bytes=64, output_bytes=64),
    accumulators=Accumulators(depth=4), post=Post(), memory=Memory(data_width=32))


def inputs(*signals):
    """Flatten the ports that are free."""
    return [signal if isinstance(signal, Signal) else signal.as_value() for signal in signals]


@pytest.mark.parametrize("depth", [2, 4, 16])
def test_queue_flags(tmp_path, depth):
    """A queue would over- or underflow, or withdraw what it offered. For ever."""
    m = Module()
    m.submodules.dut = dut = StreamFIFO(unsigned(1), depth)
    rules.held(m, "output", dut.o.valid, dut.o.ready)
    prove(m, inputs(dut.i.valid, dut.i.payload, dut.o.ready), tmp_path)


def test_queue_order(tmp_path):
    """An item would be lost, repeated, changed or overtaken. For 12 cycles, three times round the queue."""
    m = Module()
    m.submodules.dut = dut = StreamFIFO(unsigned(2), 4)
    # Watch one item, any of those that come.
    watched, puts, gets, item = Signal(4), Signal(4), Signal(4), Signal(2)
    kept, arbitrary = Signal(4), Signal(4)
    started = Signal()
    m.d.sync += [started.eq(1), kept.eq(watched)]
    m.d.comb += [watched.eq(arbitrary), Assume(~started | (kept == watched))]
    put, get = dut.i.valid & dut.i.ready, dut.o.valid & dut.o.ready
    m.d.sync += [puts.eq(puts + put), gets.eq(gets + get)]
    with m.If(put & (puts == watched)):
        m.d.sync += item.eq(dut.i.payload)
    with m.If(get & (gets == watched)):
        m.d.sync += Assert(dut.o.payload == item, "another item came out")
    prove(m, inputs(dut.i.valid, dut.i.payload, dut.o.ready, arbitrary), tmp_path, steps=12)


@pytest.mark.parametrize("kind", KINDS)
def test_tokens(tmp_path, kind):
    """A command would start before those it waits for have completed, or be withdrawn. For 6 cycles.

    As long as no count is 32,767 ahead of what a command waits for; the assembler keeps waits nearer than that.
    """
    m = Module()
    m.submodules.dut = dut = TokenGates(kind)
    slots = [getattr(dut, slot_name(opcode)) for opcode in QUEUES]
    for index, (opcode, slot) in enumerate(zip(QUEUES, slots, strict=True)):
        name = opcode.name.lower()
        stream = getattr(dut, name)
        # A slot keeps its command until it is taken.
        # The destination of a load, the first field of its body, says which count of passes it waits for.
        m.submodules[f"{name}_slot"] = Held(dut.valid[index], dut.take[index], slot[:HEADER_BITS + 3])
        for other, count in enumerate(dut.completed):
            if (opcode, QUEUES[other]) == (Opcode.EXECUTE, Opcode.POST):
                count = dut.posted
            if (kind, opcode, QUEUES[other]) == ("row-stationary", Opcode.LOAD, Opcode.EXECUTE):
                body = Signal(LoadBody)
                m.d.comb += body.eq(slot[HEADER_BITS:])
                count = Mux(body.destination == Destination.FILTER_BUFFER, dut.freed_filters, dut.freed_ifmaps)
            ahead = Signal(16, name=f"ahead_{index}_{other}")
            m.d.comb += [ahead.eq(count - slot[32 + 16 * other:48 + 16 * other]), Assume(ahead != 0x7FFF)]
        rules.never(m, f"{name}_command", stream.valid & ~dut.valid[index], "came out of nothing")
    ready = [getattr(dut, opcode.name.lower()).ready for opcode in QUEUES]
    free = [dut.filters_free, dut.ifmap_free] if kind == "row-stationary" else []
    prove(m, inputs(dut.valid, dut.done, *free, *slots, *ready), tmp_path, steps=6)


def test_reader_addresses(tmp_path):
    """An address would change or vanish before memory took it, whatever clients and drains do. For ever."""
    m = Module()
    m.submodules.dut = dut = Reader(CONFIG, 2)
    bus = dut.bus
    rules.held(m, "ar", bus.arvalid, bus.arready, bus.araddr, bus.arlen)
    ports = [part for request in dut.request for part in (request.valid, request.payload)]
    ports += [response.ready for response in dut.response]
    prove(m, inputs(*ports, dut.defer, dut.drain, bus.arready, bus.rvalid, bus.rlast, bus.rdata, bus.rresp), tmp_path)


def test_reader_idle(tmp_path):
    """The port would be called idle with a burst in flight, whatever clients and drains do. For 8 cycles."""
    m = Module()
    m.submodules.dut = dut = Reader(CONFIG, 2)
    bus = dut.bus
    begun, ended = bus.arvalid & bus.arready, bus.rvalid & bus.rready & bus.rlast
    rules.outstanding(m, "reads", begun, ended, IN_FLIGHT, idle=dut.idle)
    rules.never(m, "ar_idle", dut.idle & bus.arvalid, "a burst is offered while idle")
    # Memory answers only bursts whose address it has.
    bursts = Signal(5)
    m.d.sync += bursts.eq(bursts + begun - ended)
    m.d.comb += Assume(~bus.rvalid | (bursts != 0))
    ports = [part for request in dut.request for part in (request.valid, request.payload)]
    ports += [response.ready for response in dut.response]
    prove(m, inputs(*ports, dut.defer, dut.drain, bus.arready, bus.rvalid, bus.rlast, bus.rdata, bus.rresp), tmp_path,
          steps=8)


def test_writer_channels(tmp_path):
    """An address or a beat would change or vanish before memory took it, or idle be said too early. For 8 cycles."""
    m = Module()
    m.submodules.dut = dut = Writer(CONFIG)
    bus = dut.bus
    rules.held(m, "aw", bus.awvalid, bus.awready, bus.awaddr, bus.awlen)
    rules.held(m, "w", bus.wvalid, bus.wready, bus.wdata, bus.wstrb, bus.wlast)
    rules.outstanding(m, "writes", bus.awvalid & bus.awready, bus.bvalid & bus.bready, IN_FLIGHT, idle=dut.idle)
    rules.never(m, "aw_idle", dut.idle & (bus.awvalid | bus.wvalid), "a burst is offered while idle")
    # Memory acknowledges only bursts whose address and last beat it has.
    addresses, bursts = Signal(5), Signal(5)
    acknowledged = bus.bvalid & bus.bready
    m.d.sync += [
        addresses.eq(addresses + (bus.awvalid & bus.awready) - acknowledged),
        bursts.eq(bursts + (bus.wvalid & bus.wready & bus.wlast) - acknowledged),
    ]
    m.d.comb += Assume(~bus.bvalid | (addresses != 0) & (bursts != 0))
    prove(m, inputs(dut.request.valid, dut.request.payload, dut.data.valid, dut.data.payload, dut.drain, bus.awready,
                    bus.wready, bus.bvalid, bus.bresp), tmp_path, steps=8)


def test_a_false_rule_is_refuted(tmp_path):
    """A prover that accepts anything would make all of the above worthless."""
    m = Module()
    m.submodules.dut = dut = StreamFIFO(unsigned(1), 4)
    rules.never(m, "full", Cat(dut.o.valid & ~dut.i.ready), "the queue is full")
    with pytest.raises(AssertionError, match=r"proof did fail|model found"):
        prove(m, inputs(dut.i.valid, dut.i.payload, dut.o.ready), tmp_path)
