"""Verification environment inside the simulator: bus models, stalls, errors, scoreboard, coverage."""

import random
from collections import Counter

from cocotb import start_soon
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, First, RisingEdge, with_timeout
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiRam, AxiResp

from pearray.hdl.shell.registers import REGISTERS, Cause

__all__ = ["CHANNELS", "Coverage", "Environment"]

PERIOD = 10
OFFSETS = {register.name: register.offset for register in REGISTERS}
DONE, ERROR = 1 << 1, 1 << 2

#: Channels of both ports: the signal that shows that the accelerator waits, and the one it waits for.
#: (It takes a register's address and data together, so there each waits for the other.)
CHANNELS = {
    "m_axi_ar": ("m_axi_arvalid", "m_axi_arready"), "m_axi_r": ("m_axi_rready", "m_axi_rvalid"),
    "m_axi_aw": ("m_axi_awvalid", "m_axi_awready"), "m_axi_w": ("m_axi_wvalid", "m_axi_wready"),
    "m_axi_b": ("m_axi_bready", "m_axi_bvalid"),
    "s_axi_ar": ("s_axi_arready", "s_axi_arvalid"), "s_axi_r": ("s_axi_rvalid", "s_axi_rready"),
    "s_axi_aw": ("s_axi_wvalid", "s_axi_awvalid"), "s_axi_w": ("s_axi_awvalid", "s_axi_wvalid"),
    "s_axi_b": ("s_axi_bvalid", "s_axi_bready"),
}


class Coverage:
    """Things that a regression must have met, counted over all tests of a simulation."""

    def __init__(self, bins):
        self.counts = Counter(dict.fromkeys(bins, 0))

    def hit(self, name):
        """Count one; a name that nobody declared is a mistake of the test."""
        assert name in self.counts, f"undeclared bin {name!r}"
        self.counts[name] += 1

    def missing(self):
        """Bins that were never met."""
        return [name for name, count in self.counts.items() if not count]


class Environment:
    """The accelerator between a host and a memory, both of which can misbehave.

    Parameters
    ----------
    dut : handle
        Top level.
    seed : int
        Seed of the stalls.
    coverage : Coverage
        Where stalls of each channel are counted.
    """

    def __init__(self, dut, seed, coverage):
        self.dut = dut
        self.random = random.Random(seed)
        self.coverage = coverage
        #: Addresses whose reads or writes are answered with an error, and whether with DECERR.
        self.read_error = self.write_error = None
        self.decode_error = False
        #: Bursts in flight, each way, and how many were when the interrupt rose.
        self.in_flight = self.left = (0, 0)
        self.ram = AxiRam(AxiBus.from_prefix(dut, "m_axi"), dut.clk, dut.rst, size=1 << 32)
        self.host = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axi"), dut.clk, dut.rst)
        self._disturb(self.ram.read_if, "_read", self.ram.read_if.r_channel, "rresp")
        self._disturb(self.ram.write_if, "_write", self.ram.write_if.b_channel, "bresp")

    def _disturb(self, half, name, channel, response):
        access, send = getattr(half, name), channel.send

        async def disturbed(address, data):
            length = data if isinstance(data, int) else len(data)
            target = self.read_error if name == "_read" else self.write_error
            if target is not None and address <= target < address + length:
                raise ValueError("error injected")  # The bus model answers with SLVERR.
            return await access(address, data)

        async def answer(item):
            if self.decode_error and getattr(item, response) == AxiResp.SLVERR:
                setattr(item, response, AxiResp.DECERR)
            await send(item)

        setattr(half, name, disturbed)
        channel.send = answer

    async def start(self):
        """Start the clock, reset, and watch the channels."""
        Clock(self.dut.clk, PERIOD, unit="ns").start()
        await self.reset()
        for channel, (waiting, awaited) in CHANNELS.items():
            start_soon(self._watch(channel, getattr(self.dut, waiting), getattr(self.dut, awaited)))
        start_soon(self._count())

    async def reset(self):
        """Reset the accelerator and the bus models."""
        self.dut.rst.value = 1
        await ClockCycles(self.dut.clk, 4)
        self.in_flight = 0, 0
        self.dut.rst.value = 0
        await ClockCycles(self.dut.clk, 2)

    async def _watch(self, channel, waiting, awaited):
        """Count that the other side made the accelerator wait in this channel."""
        while True:
            await RisingEdge(self.dut.clk)
            if waiting.value and not awaited.value:
                self.coverage.hit(f"stall {channel}")
                await ClockCycles(self.dut.clk, 50)

    async def _count(self):
        """Count bursts in flight at the pins."""
        dut, ended = self.dut, False
        while True:
            await RisingEdge(dut.clk)
            reads, writes = self.in_flight
            reads += bool(dut.m_axi_arvalid.value and dut.m_axi_arready.value)
            reads -= bool(dut.m_axi_rvalid.value and dut.m_axi_rready.value and dut.m_axi_rlast.value)
            writes += bool(dut.m_axi_awvalid.value and dut.m_axi_awready.value)
            writes -= bool(dut.m_axi_bvalid.value and dut.m_axi_bready.value)
            self.in_flight = reads, writes
            if dut.irq.value and not ended:
                self.left = self.in_flight
            ended = bool(dut.irq.value)

    def stall(self, probability):
        """Make every channel that the bus models drive pause, each with this probability in a cycle."""
        memory = (self.ram.read_if.ar_channel, self.ram.read_if.r_channel, self.ram.write_if.aw_channel,
                  self.ram.write_if.w_channel, self.ram.write_if.b_channel)
        lite = (self.host.read_if.ar_channel, self.host.read_if.r_channel, self.host.write_if.aw_channel,
                self.host.write_if.w_channel, self.host.write_if.b_channel)
        for channel in (*memory, *lite):
            channel.set_pause_generator(self._pauses(probability) if probability else None)
            channel.pause = False

    def _pauses(self, probability):
        generator = random.Random(self.random.random())
        while True:
            yield generator.random() < probability

    def load(self, case):
        """Put a case into memory, with noise where its results go."""
        for placed in case.compiled.outputs.values():
            self.ram.write(placed.address, self.random.randbytes(placed.nbytes))
        for address, data in case.segments:
            self.ram.write(address, data)

    async def write(self, name, value):
        """Write a register."""
        response = await with_timeout(self.host.write(OFFSETS[name], value.to_bytes(4, "little")), 100, "us")
        assert response.resp == AxiResp.OKAY

    async def read(self, name):
        """Read a register."""
        response = await with_timeout(self.host.read(OFFSETS[name], 4), 100, "us")
        assert response.resp == AxiResp.OKAY
        return int.from_bytes(response.data, "little")

    async def begin(self, case):
        """Start a program."""
        await self.write("program_address", case.compiled.program_address)
        await self.write("interrupt_enable", 1)
        await self.write("control", 1)

    async def end(self, cycles=200_000):
        """Wait for the interrupt; return the status. A run that failed leaves nothing in flight."""
        status = 0
        for _ in range(cycles // 1000):
            status = await self.read("status")
            if status & DONE:
                break
            await First(RisingEdge(self.dut.irq), ClockCycles(self.dut.clk, 1000))
        assert status & DONE, f"not done within {cycles} cycles, status {status:#x}"
        assert not status & ERROR or self.left == (0, 0), f"reads and writes in flight at the end: {self.left}"
        return status

    async def check(self, case):
        """Run a case that must succeed, and compare."""
        self.load(case)
        await self.begin(case)
        status = await self.end()
        assert status == DONE, f"{case.operator}: {Cause(status >> 8 & 0xFF)}"
        case.compare(lambda address, length: bytes(self.ram.read(address, length)))
