"""The accelerator: the shell, and the core of its kind of array."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .blocks import rules
from .blocks.axi import AXI4, AXI4Lite, AXI4Read, AXI4Write
from .blocks.reset import PartReset
from .kinds import kind
from .shell.commands import Opcode
from .shell.config import Config
from .shell.control import Control
from .shell.core import Happening
from .shell.counters import Counters
from .shell.fetch import Fetch
from .shell.ledger import Ledger, TracePort
from .shell.queues import CommandQueues, slot_name
from .shell.reader import IN_FLIGHT, Reader
from .shell.registers import COUNTERS_OFFSET, Register, Registers, register_map
from .shell.tokens import STALLS, TokenGates
from .shell.waits import IN_ENGINE
from .shell.writer import Writer

__all__ = ["Accelerator", "counter_names", "counter_registers", "registers"]


def counter_names(config: Config) -> list[str]:
    """Names of the counters, in the order of their registers.

    ``cycles`` counts from the cycle of the start write to the last one before done can be read,
    modulo 2**32; ``cycles_high`` counts its overflows. Then beats by direction and client,
    commands fetched, commands completed by each engine, why the execute engine had no command,
    and what the core counts (:meth:`.shell.core.Core.counters`).
    """
    return [
        "cycles", "cycles_high", "fetch_beats", "load_beats", "write_beats", "commands",
        *(f"{opcode.name.lower()}_commands" for opcode in config.commands.queues),
        *STALLS,
        *kind(config.KIND).core.counters(config),
    ]


def registers(config: Config) -> tuple[Register, ...]:
    """List every register of an accelerator, in the order of their offsets."""
    return register_map(config, counter_names(config))


def counter_registers(config: Config) -> dict[str, tuple[int, ...]]:
    """Addresses of each counter's 32-bit words, the least significant first."""
    offsets = {name: COUNTERS_OFFSET + 4 * index for index, name in enumerate(counter_names(config))}
    words = {name: (offset,) for name, offset in offsets.items() if name != "cycles_high"}
    return words | {"cycles": (offsets["cycles"], offsets["cycles_high"])}


class Accelerator(wiring.Component):
    """A whole accelerator.

    The host writes the program's address and a start bit (:mod:`~pearray.hdl.shell.registers`); the
    accelerator fetches the program (:mod:`~pearray.hdl.shell.commands`) and runs it. Engines work
    on the commands of their queues at the same time, held back by tokens only. While no program
    runs, the engines are in reset; scratchpads keep their contents. Engines and scratchpads are those of
    the kind of array (:class:`~pearray.hdl.kinds.ArrayHardware`).

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.

    Members
    -------
    m_axi : Out(AXI4(data_width))
        Memory port.
    s_axi : In(AXI4Lite())
        Registers.
    irq : Out(1)
        Interrupt: high while done, if enabled.
    trace : Out(TracePort(config.commands.queues))
        What cycles are charged to, and which commands start and end. It may be left open.
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__({
            "m_axi": Out(AXI4(config.memory.data_width)),
            "s_axi": In(AXI4Lite()),
            "irq": Out(1),
            "trace": Out(TracePort(config.commands.queues)),
        })

    @property
    def config(self) -> Config:
        """Configuration of the accelerator."""
        return self._config

    def elaborate(self, platform):
        """Connect the parts."""
        m = Module()

        config = self._config
        core = kind(config.KIND).core(config)
        counters = counter_names(config)
        m.submodules.registers = registers = Registers(config, len(counters))
        m.submodules.control = control = Control()
        m.submodules.counters = counts = Counters(counters, core.counters(config))
        m.submodules.reader = reader = Reader(config, 2)
        m.submodules.writer = writer = Writer(config)

        # Everything that works on a program starts from reset each time.
        in_run = PartReset(control.reset)
        fetch = Fetch(config)
        queues = CommandQueues(config)
        gates = TokenGates(config.commands)
        m.submodules.fetch = fetch
        m.submodules.queues = in_run(queues)
        m.submodules.gates = in_run(gates)
        names = {Opcode.LOAD: "loader", Opcode.STORE: "storer", Opcode.MOVE: "mover"}
        for opcode, engine in core.engines.items():
            m.submodules[names.get(opcode, opcode.name.lower())] = in_run(engine)
        loader, storer = core.engines[Opcode.LOAD], core.engines[Opcode.STORE]

        self._connect_ports(m, registers, reader, writer)
        self._state_rules(m, control, gates)
        self._connect_control(m, registers, control, fetch, reader, writer)
        self._connect_queues(m, control, fetch, queues, gates, core.engines)
        core.connect(m, gates)
        wiring.connect(m, fetch.request, reader.request[0])
        wiring.connect(m, reader.response[0], fetch.response)
        wiring.connect(m, loader.request, reader.request[1])
        wiring.connect(m, reader.response[1], loader.response)
        wiring.connect(m, storer.request, writer.request)
        wiring.connect(m, storer.data, writer.data)
        m.d.comb += [storer.sent.eq(writer.sent), storer.marked.eq(writer.marked)]

        cycle = self._count(m, control, registers, counts, fetch, reader, gates, storer, core)
        self._trace(m, cycle, control, fetch, queues, gates, core)
        return m

    def _connect_ports(self, m, registers, reader, writer):
        width = self._config.memory.data_width
        wiring.connect(m, registers.bus, wiring.flipped(self.s_axi))
        for signature, bus in ((AXI4Read(width), reader.bus), (AXI4Write(width), writer.bus)):
            for name, member in signature.members.items():
                inside, outside = getattr(bus, name), getattr(self.m_axi, name)
                m.d.comb += outside.eq(inside) if member.flow == Out else inside.eq(outside)
        m.d.comb += self.irq.eq(registers.irq)

    def _state_rules(self, m, control, gates):
        bus, lite = self.m_axi, self.s_axi
        for name in ("ar", "aw"):
            valid, ready, address, length, size, burst = (
                getattr(bus, name + part) for part in ("valid", "ready", "addr", "len", "size", "burst"))
            rules.held(m, f"m_axi_{name}", valid, ready, address, length, size, burst)
            rules.in_bounds(m, f"m_axi_{name}_burst", valid, address, length, size, burst, self._config.beat_bytes)
        rules.held(m, "m_axi_w", bus.wvalid, bus.wready, bus.wdata, bus.wstrb, bus.wlast)
        rules.write_bursts(m, "m_axi_w_bursts", bus.awvalid & bus.awready, bus.awlen, bus.wvalid & bus.wready,
                           bus.wlast, IN_FLIGHT)
        rules.outstanding(m, "m_axi_reads", bus.arvalid & bus.arready, bus.rvalid & bus.rready & bus.rlast, IN_FLIGHT)
        rules.outstanding(m, "m_axi_writes", bus.awvalid & bus.awready, bus.bvalid & bus.bready, IN_FLIGHT)
        rules.held(m, "s_axi_r", lite.rvalid, lite.rready, lite.rdata, lite.rresp)
        rules.held(m, "s_axi_b", lite.bvalid, lite.bready, lite.bresp)
        for index, opcode in enumerate(self._config.commands.queues):
            # With more, a count could be so far behind what is waited for that the gate would open too early.
            rules.outstanding(m, f"{opcode.name.lower()}_tokens", gates.take[index], gates.done[index], IN_ENGINE,
                              clear=~control.run)

    def _connect_control(self, m, registers, control, fetch, reader, writer):
        m.d.comb += [
            control.start.eq(registers.start),
            control.timeout.eq(registers.timeout),
            control.ports_idle.eq(reader.idle & writer.idle),
            control.read_error.eq(reader.error & ~((reader.error_client == 0) & fetch.ended)),
            control.read_response.eq(reader.error_response),
            control.read_address.eq(reader.error_address),
            control.write_error.eq(writer.error),
            control.write_response.eq(writer.error_response),
            control.write_address.eq(writer.error_address),
            control.bad_command.eq(fetch.bad),
            control.command_address.eq(fetch.bad_address),
            fetch.run.eq(control.run),
            fetch.program_address.eq(registers.program_address),
            reader.drain.eq(~control.run),
            reader.defer[0].eq(fetch.defer),
            writer.drain.eq(~control.run),
        ]
        m.d.comb += [
            getattr(registers, name).eq(getattr(control, name))
            for name in ("busy", "done", "error", "cause", "error_address")
        ]

    def _connect_queues(self, m, control, fetch, queues, gates, engines):
        for name in ("put", "queue", "beat", "data"):
            m.d.comb += getattr(queues, name).eq(getattr(fetch, name))
        m.d.comb += [
            fetch.room.eq(queues.room),
            fetch.hungry.eq(queues.hungry),
            gates.valid.eq(queues.valid),
            queues.take.eq(gates.take),
            control.finished.eq(gates.finished),
        ]
        for index, opcode in enumerate(self._config.commands.queues):
            m.d.comb += getattr(gates, slot_name(opcode)).eq(getattr(queues, slot_name(opcode)))
            if opcode in engines:
                m.d.comb += gates.done[index].eq(engines[opcode].done)
                wiring.connect(m, getattr(gates, opcode.name.lower()), engines[opcode].commands)
        if Opcode.POST in engines:
            m.d.comb += gates.released.eq(engines[Opcode.POST].released)

    def _count(self, m, control, registers, counts, fetch, reader, gates, storer, core):
        bus = self.m_axi
        # The start write comes two cycles before `run`; its cycles are counted at the end.
        busy = Signal(3)
        cycle = Signal()
        beats = Signal(data.StructLayout({"fetch": 1, "load": 1, "write": 1, "address": 1, "response": 1}))
        m.d.comb += cycle.eq(control.busy | busy[:2].any())
        m.d.sync += [
            busy.eq(Cat(control.busy, busy)),
            beats.fetch.eq(reader.response[0].valid & reader.response[0].ready),
            beats.load.eq(reader.response[1].valid & reader.response[1].ready),
            beats.write.eq(bus.wvalid & bus.wready),
            beats.address.eq(bus.arvalid & bus.arready | bus.awvalid & bus.awready),
            beats.response.eq(bus.bvalid & bus.bready),
        ]

        # Totals that a program can store are kept whole as well.
        happening = Happening(start=registers.start, fetched=fetch.command, take=gates.take, done=gates.done)
        amounts, others = core.record(m, happening)
        amounts = [cycle, beats.fetch | beats.load, beats.write, *amounts]
        totals = Signal(data.ArrayLayout(32, len(amounts)), reset_less=True)
        carry = Signal()
        m.d.sync += carry.eq(cycle & totals[0].all())
        for total, amount in zip(totals, amounts, strict=True):
            with m.If(registers.clear):
                m.d.sync += total.eq(0)
            with m.Elif(amount):
                m.d.sync += total.eq(total + (1 if len(amount) == 1 else amount))
        m.d.comb += storer.record.eq(Cat(totals, *others))

        counted, moved = core.count(m)
        # A cycle is counted one later: it comes from far, and from registers then.
        events = Cat(
            busy.any(), carry, beats.fetch, beats.load, beats.write, fetch.command, gates.done, gates.stalls, *counted)
        m.d.comb += [
            counts.events.eq(events),
            counts.clear.eq(registers.clear),
            counts.index.eq(registers.counter),
            counts.request.eq(registers.counter_request),
            registers.counter_value.eq(counts.value),
            registers.counter_valid.eq(counts.valid),
            control.progress.eq(Cat(
                beats.as_value(), gates.done, *moved, reader.bus.rvalid,
            ).any()),
        ]
        return cycle

    def _trace(self, m, cycle, control, fetch, queues, gates, core):
        """Charge each cycle that is counted to its cause."""
        order = self._config.commands.queues
        m.submodules.ledger = ledger = Ledger(order)
        state = core.state(m)
        # Queues have been reset for one cycle, and are looked at a cycle later.
        settled = Signal(2)
        m.d.sync += settled.eq(Mux(control.run, Cat(1, settled), 0))
        m.d.comb += ledger.blocked.eq(gates.blocked)
        if Opcode.POST in core.engines:
            m.d.comb += ledger.kept[order.index(Opcode.POST)].eq(~core.engines[Opcode.POST].commands.ready)
        m.d.comb += [
            *(getattr(ledger, name).eq(getattr(state, name)) for name in ("work", "weights", "activations", "fill")),
            ledger.running.eq(cycle),
            ledger.run.eq(control.run & settled[1]),
            ledger.valid.eq(gates.valid),
            ledger.load.eq(core.engines[Opcode.LOAD].progress),
            ledger.fetching.eq(fetch.response.valid),
            ledger.fetched.eq(fetch.ended),
            ledger.room.eq(queues.room),
            ledger.mark.eq(core.engines[Opcode.STORE].recorded),
            self.trace.cause.eq(ledger.cause),
            self.trace.mark.eq(ledger.marked),
            self.trace.open.eq(Cat(getattr(gates, opcode.name.lower()).valid for opcode in order)),
            self.trace.take.eq(gates.take),
            self.trace.done.eq(gates.done),
        ]
