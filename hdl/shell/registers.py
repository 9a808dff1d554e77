"""Register map, and the AXI4-Lite port behind which it lies."""

from collections.abc import Sequence
from typing import NamedTuple

from amaranth import *
from amaranth.lib import enum, wiring
from amaranth.lib.wiring import In, Out

from ..blocks.axi import AXI4Lite
from ..errors import PearrayError
from .commands import FORMAT_VERSION
from .config import Config

__all__ = [
    "CAPABILITIES_OFFSET", "CONTROL_START", "COUNTERS_OFFSET", "REGISTERS", "STATUS_BUSY", "STATUS_CAUSE",
    "STATUS_DONE", "STATUS_ERROR", "TIMEOUT_RESET", "Cause", "Register", "Registers", "capabilities", "register_map",
]

IDENTITY = 0x50454152
TIMEOUT_RESET = 1 << 20

CAPABILITIES_OFFSET = 0x040
COUNTERS_OFFSET = 0x100

#: Bits of the control and status registers.
CONTROL_START = 0
STATUS_BUSY = 0
STATUS_DONE = 1
STATUS_ERROR = 2
STATUS_CAUSE = 8


class Cause(enum.Enum, shape=8):
    """Why a program ended with an error."""

    NONE = 0
    READ_SLVERR = 1
    READ_DECERR = 2
    WRITE_SLVERR = 3
    WRITE_DECERR = 4
    #: Unknown version or opcode, a length or count of zero, or a program at no multiple of 64.
    BAD_COMMAND = 5
    #: Nothing moved for as long as the timeout says.
    TIMEOUT = 6


class Register(NamedTuple):
    """One 32-bit register: its name, byte offset, access ("ro" or "rw") and meaning."""

    name: str
    offset: int
    access: str
    doc: str


#: Control and status registers, the same for every configuration.
REGISTERS = (
    Register("id", 0x000, "ro", "0x50454152, 'PEAR'"),
    Register("version", 0x004, "ro", "version of the program format"),
    Register("control", 0x008, "rw", "bit 0: start the program; ignored while busy; reads as zero"),
    Register("status", 0x00C, "ro", "bit 0: busy, bit 1: done, bit 2: error, bits 15..8: cause of the error"),
    Register("program_address", 0x010, "rw", "address of the program, a multiple of 64"),
    Register("error_address", 0x014, "ro", "address of the burst or command that failed"),
    Register("timeout", 0x018, "rw", "cycles without progress after which a run fails; 0: never"),
    Register("interrupt_enable", 0x01C, "rw", "bit 0: raise the interrupt while done"),
)


def capabilities(config: Config) -> dict[str, tuple[int, str]]:
    """List what was generated: value and meaning of each register of the capability block, by name.

    What all kinds of array have stands at the same place, ``kind`` above all; :attr:`.config.Config.capabilities`
    fill the places between and those behind.
    """
    pads, post = config.scratchpads, config.has_post
    own = list(config.capabilities.items())
    shared = {
        "rows": (config.array.rows, "rows of the array"),
        "cols": (config.array.cols, "columns of the array"),
        "operand_bits": (config.array.operand_bits, "bits of an operand"),
        "accumulator_bits": (config.accumulator_bits, "bits of a finished sum"),
        "data_width": (config.memory.data_width, "bits of a beat of the memory port"),
    }
    behind = {
        "lanes": (config.post.lanes if post else 0, "post-processing lanes"),
        "channels": (pads.channels if post else 0, "output channels whose bias and scale are held"),
        "kind": (config.NUMBER, f"kind of array; {config.NUMBER}: {config.KIND}"),
    }
    output = {"output_bytes": (pads.output_bytes if post else 0, "bytes of the output scratchpad")}
    return shared | dict(own[:2]) | output | dict(own[2:3]) | behind | dict(own[3:])


def register_map(config: Config, counters: Sequence[str]) -> tuple[Register, ...]:
    """List every register of an accelerator, in the order of their offsets.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.
    counters : sequence of str
        Names of its counters, in order.
    """
    block = [
        Register(name, CAPABILITIES_OFFSET + 4 * index, "ro", doc)
        for index, (name, (_, doc)) in enumerate(capabilities(config).items())
    ]
    counts = [
        Register(f"counter_{name}", COUNTERS_OFFSET + 4 * index, "ro",
                 f"{name.replace('_', ' ')} since the start of the program")
        for index, name in enumerate(counters)
    ]
    return (*REGISTERS, *block, *counts)


class Registers(wiring.Component):
    """AXI4-Lite slave with the register map.

    A write is taken when both its address and its data are there. A read takes three cycles, that
    of a counter until the counters' sweep has passed.
    Reserved offsets read as zero and ignore writes; no access answers with an error.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.
    counters : int
        Number of counters, at most 64.

    Members
    -------
    bus : In(AXI4Lite())
        Port of the host.
    start : Out(1)
        High for one cycle when the host starts the program while ``busy`` is low.
    clear : Out(1)
        The same, and in reset: what is counted anew then needs no other reset.
    program_address, timeout : Out(32)
        Registers of this name.
    busy, done, error : In(1)
        Status bits.
    cause : In(Cause)
        Cause of the error.
    error_address : In(32)
        Address of the error.
    counter : Out(6)
        Counter to read.
    counter_request : Out(1)
        High until ``counter_valid``.
    counter_value : In(32)
        Its value.
    counter_valid : In(1)
        The value is there.
    irq : Out(1)
        Interrupt: done, if enabled.

    Raises
    ------
    PearrayError
        If there are more counters than the map has room for.
    """

    def __init__(self, config: Config, counters: int):
        if not 0 <= counters <= 64:
            raise PearrayError(f"counters must be at most 64, not {counters!r}")
        self._config = config
        self._counters = counters
        super().__init__({
            "bus": In(AXI4Lite()),
            "start": Out(1),
            "clear": Out(1, init=1),
            "program_address": Out(32),
            "timeout": Out(32, init=TIMEOUT_RESET),
            "busy": In(1),
            "done": In(1),
            "error": In(1),
            "cause": In(Cause),
            "error_address": In(32),
            "counter": Out(6),
            "counter_request": Out(1),
            "counter_value": In(32),
            "counter_valid": In(1),
            "irq": Out(1),
        })

    def elaborate(self, platform):
        """Build the two ways through the port."""
        m = Module()
        interrupt_enable = Signal()
        m.d.sync += self.irq.eq(self.done & interrupt_enable)
        self._write(m, interrupt_enable)
        self._read(m, interrupt_enable)
        return m

    def _write(self, m, interrupt_enable):
        bus = self.bus
        offsets = {register.name: register.offset for register in REGISTERS}
        take = Signal()
        m.d.comb += [
            take.eq(bus.awvalid & bus.wvalid & ~bus.bvalid),
            bus.awready.eq(take),
            bus.wready.eq(take),
        ]
        m.d.sync += [self.start.eq(0), self.clear.eq(0)]
        with m.If(bus.bready):
            m.d.sync += bus.bvalid.eq(0)
        with m.If(take):
            m.d.sync += bus.bvalid.eq(1)
            with m.Switch(bus.awaddr[2:]):
                with m.Case(offsets["control"] >> 2):
                    starts = bus.wdata[CONTROL_START] & bus.wstrb[0] & ~self.busy
                    m.d.sync += [self.start.eq(starts), self.clear.eq(starts)]
                for name, register in (("program_address", self.program_address), ("timeout", self.timeout)):
                    with m.Case(offsets[name] >> 2):
                        for byte in range(4):
                            with m.If(bus.wstrb[byte]):
                                m.d.sync += register.word_select(byte, 8).eq(bus.wdata.word_select(byte, 8))
                with m.Case(offsets["interrupt_enable"] >> 2), m.If(bus.wstrb[0]):
                    m.d.sync += interrupt_enable.eq(bus.wdata[0])

    def _read(self, m, interrupt_enable):
        bus = self.bus
        status = Signal(32)
        m.d.comb += [
            status[STATUS_BUSY].eq(self.busy),
            status[STATUS_DONE].eq(self.done),
            status[STATUS_ERROR].eq(self.error),
            status[STATUS_CAUSE:STATUS_CAUSE + 8].eq(self.cause),
        ]
        values = {
            "id": IDENTITY, "version": FORMAT_VERSION, "status": status, "timeout": self.timeout,
            "program_address": self.program_address, "error_address": self.error_address,
            "interrupt_enable": interrupt_enable,
        }
        words = {register.offset >> 2: values[register.name]
                 for register in REGISTERS if register.name in values}

        address = Signal.like(bus.araddr)
        word = address[2:]
        is_counter = Signal()
        constant = Signal(32)
        m.d.comb += [
            self.counter.eq(word[:6]),
            is_counter.eq((word[6:] == COUNTERS_OFFSET >> 8) & (word[:6] < self._counters)),
        ]
        # Decoded by four bits, so that a bit of all constants is one LUT.
        with m.Switch(word[:4]):
            for index, (value, _) in enumerate(capabilities(self._config).values()):
                with m.Case(index):
                    m.d.comb += constant.eq(value)
        with m.FSM(name="read"):
            with m.State("idle"):
                m.d.comb += bus.arready.eq(1)
                m.d.sync += address.eq(bus.araddr)
                with m.If(bus.arvalid):
                    m.next = "look"
            with m.State("look"):
                m.d.sync += bus.rdata.eq(0)
                with m.If(word[3:] == 0), m.Switch(word[:3]):
                    for offset, value in words.items():
                        with m.Case(offset):
                            m.d.sync += bus.rdata.eq(value)
                with m.If(word[4:] == CAPABILITIES_OFFSET >> 6):
                    m.d.sync += bus.rdata.eq(constant)
                with m.If(is_counter):
                    m.next = "count"
                with m.Else():
                    m.d.sync += bus.rvalid.eq(1)
                    m.next = "answer"
            with m.State("count"):
                m.d.comb += self.counter_request.eq(1)
                with m.If(self.counter_valid):
                    m.d.sync += [bus.rdata.eq(self.counter_value), bus.rvalid.eq(1)]
                    m.next = "answer"
            with m.State("answer"), m.If(bus.rready):
                m.d.sync += bus.rvalid.eq(0)
                m.next = "idle"
