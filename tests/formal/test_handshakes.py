"""The core handshakes, proved by induction for ever, or, where none closes, for some cycles from the start."""

import pytest
from amaranth.hdl import Assert, Assume, Cat, Elaboratable, Module, Mux, Signal, signed, unsigned
from command_sets import COMMAND_SETS
from prover import Held, prove

from pearray.hdl.blocks import rules
from pearray.hdl.blocks.fifo import StreamFIFO
from pearray.hdl.shell.commands import Opcode
from pearray.hdl.shell.config import Array, Memory, Post
from pearray.hdl.shell.queues import slot_name
from pearray.hdl.shell.reader import Reader
from pearray.hdl.shell.tokens import TokenGates
from pearray.hdl.shell.writer import Writer
from pearray.hdl.systolic.config import Accumulators, Scratchpads, SystolicConfig

CONFIG = SystolicConfig(
    name="formal", array=Array(rows=2, cols=2),
    scratchpads=Scratchpads(activation_bytes=64, weight_bytes=64, output_bytes=64),
    accumulators=Accumulators(depth=4), post=Post(), memory=Memory(data_width=32))

#: Width of the counts of completed commands.
COUNT_BITS = 4


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


class Ghost(Elaboratable):
    """What really has completed, and what commands in the slots really wait for, in numbers that do not wrap.

    They would grow without bound; eight bits are enough here, since only their differences are looked at, which
    the assumptions keep to four. The gates' slots hold the waits modulo the range of their counts.

    Parameters
    ----------
    gates : TokenGates
        Gates with counts of :data:`COUNT_BITS` bits.
    commands : CommandSet
        Commands of the kind of array.

    Members
    -------
    waits : list of list of Signal
        What the command in the slot of each queue waits for, by queue; free.
    ahead : list of list of Signal
        How far what counts for each queue is ahead of that.
    """

    BITS = 8

    def __init__(self, gates, commands):
        self._gates, self._commands = gates, commands
        count = range(len(commands.queues))
        self.waits = [[Signal(self.BITS, name=f"wait_{index}_{other}") for other in count] for index in count]
        self.ahead = [[Signal(signed(self.BITS), name=f"ahead_{index}_{other}") for other in count] for index in count]

    def elaborate(self, platform):
        """Build the true counts and hold the gates' own to them."""
        m = Module()
        gates = self._gates
        queues = self._commands.queues
        pulses = {f"done_{index}": gates.done[index] for index in range(len(queues))}
        pulses["posted"] = gates.released
        kept = {f"done_{index}": count for index, count in enumerate(gates.completed)} | {"posted": gates.posted}
        frees = self._commands.frees
        pulses |= {name: getattr(gates, name) for name in frees}
        kept |= gates.freed
        counts = {name: Signal(self.BITS, name=name) for name in pulses}
        for name, pulse in pulses.items():
            with m.If(pulse):
                m.d.sync += counts[name].eq(counts[name] + 1)
            m.d.comb += Assert(counts[name][:COUNT_BITS] == kept[name], "a count was lost")
        body = Signal(self._commands.load)
        m.d.comb += body.eq(gates.slot_load[self._commands.header_bits:])
        half = 1 << COUNT_BITS - 1
        for index, opcode in enumerate(queues):
            for other in range(len(queues)):
                count = counts[f"done_{other}"]
                if (opcode, queues[other]) == (Opcode.EXECUTE, Opcode.POST):
                    count = counts["posted"]
                if (opcode, queues[other]) == (Opcode.LOAD, Opcode.EXECUTE):
                    # The buffer for all destinations that no other buffer is for comes first.
                    for name, destination in sorted(frees.items(), key=lambda item: item[1] is not None):
                        count = counts[name] if destination is None else Mux(
                            body.destination == destination, counts[name], count)
                ahead = self.ahead[index][other]
                m.d.comb += [ahead.eq(count - self.waits[index][other]),
                             Assume(~gates.valid[index] | (ahead >= -half) & (ahead < half))]
        return m


@pytest.mark.parametrize("kind", COMMAND_SETS)
def test_tokens(tmp_path, kind):
    """A command would start before those it waits for have completed, stay when they have, or be withdrawn. For ever.

    Counts wrap every 16 commands. This holds while no count is half of that away from what a command in its slot waits
    for. That programs keep to this is what the validator checks, and ``tests/hdl/shell/test_waits.py`` that it is
    enough.
    """
    m = Module()
    commands = COMMAND_SETS[kind]
    m.submodules.dut = dut = TokenGates(commands, COUNT_BITS)
    m.submodules.ghost = ghost = Ghost(dut, commands)
    free = [dut.released, *(getattr(dut, name) for name in commands.frees)]
    rest = []
    for index, opcode in enumerate(commands.queues):
        name = opcode.name.lower()
        slot, stream = getattr(dut, slot_name(opcode)), getattr(dut, name)
        others = Signal.like(slot, name=f"others_{name}")
        rest.append(others)
        m.d.comb += slot.eq(others)
        for other, wait in enumerate(ghost.waits[index]):
            m.d.comb += slot[32 + 16 * other:48 + 16 * other].eq(wait[:COUNT_BITS])
        # A slot keeps its command until it is taken. The destination of a load, the first field of its body, says which
        # count of passes it waits for.
        m.submodules[f"{name}_slot"] = Held(dut.valid[index], dut.take[index], slot[:commands.header_bits + 3],
                                            *ghost.waits[index])
        opened = stream.valid | dut.finished if opcode is Opcode.LOAD else stream.valid
        met = Cat(ahead >= 0 for ahead in ghost.ahead[index]).all()
        rules.never(m, f"{name}_command", opened & ~dut.valid[index], "came out of nothing")
        rules.never(m, f"{name}_early", opened & ~met, "started before what it waits for")
        due = Signal(name=f"due_{name}")
        m.d.sync += due.eq(dut.valid[index] & met & ~dut.take[index])
        rules.never(m, f"{name}_late", due & ~opened, "has all it waits for, but may not start")
    ready = [getattr(dut, opcode.name.lower()).ready for opcode in commands.queues]
    waits = [wait for each in ghost.waits for wait in each]
    prove(m, inputs(dut.valid, dut.done, *free, *rest, *waits, *ready), tmp_path)


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
    # Memory answers only bursts whose address it has.
    bursts = Signal(5)
    m.d.sync += bursts.eq(bursts + begun - ended)
    m.d.comb += [
        Assume(~bus.rvalid | (bursts != 0)),
        Assert(~dut.idle | ~bus.arvalid & (bursts == 0), "a burst is under way"),
    ]
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
    # Memory acknowledges only bursts whose address and last beat it has.
    addresses, bursts = Signal(5), Signal(5)
    acknowledged = bus.bvalid & bus.bready
    m.d.sync += [
        addresses.eq(addresses + (bus.awvalid & bus.awready) - acknowledged),
        bursts.eq(bursts + (bus.wvalid & bus.wready & bus.wlast) - acknowledged),
    ]
    m.d.comb += [
        Assume(~bus.bvalid | (addresses != 0) & (bursts != 0)),
        Assert(~dut.idle | ~bus.awvalid & ~bus.wvalid & (addresses == 0) & (bursts == 0), "a burst is under way"),
    ]
    prove(m, inputs(dut.request.valid, dut.request.payload, dut.data.valid, dut.data.payload, dut.drain, bus.awready,
                    bus.wready, bus.bvalid, bus.bresp), tmp_path, steps=8)


def test_a_false_rule_is_refuted(tmp_path):
    """A prover that accepts anything would make all of the above worthless."""
    m = Module()
    m.submodules.dut = dut = StreamFIFO(unsigned(1), 4)
    rules.never(m, "full", Cat(dut.o.valid & ~dut.i.ready), "the queue is full")
    with pytest.raises(AssertionError, match=r"proof did fail|model found"):
        prove(m, inputs(dut.i.valid, dut.i.payload, dut.o.ready), tmp_path)
