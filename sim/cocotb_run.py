"""Inside the simulator: run one job with cocotbext-axi's bus models. Run by ``cocotb_engine.py``."""

import json
import os
import random
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, Event, First, RisingEdge, SimTimeoutError, ValueChange, with_timeout
from cocotb.utils import get_sim_time
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiRam
from cocotbext.axi.constants import AxiResp

__all__ = ["disturb", "job", "memory_of"]

PERIOD = 10
_PAGE = 4096
_FILL = 0xA5
#: Cycles that a register may take to answer.
_PATIENCE = 20_000


def memory_of(dut: Any, segments: list[tuple[int, bytes]], regions: list[tuple[int, int]]) -> AxiRam:
    """Connect a memory that holds the segments; bytes beside them and in the regions are 0xA5."""
    ram = AxiRam(AxiBus.from_prefix(dut, "m_axi"), dut.clk, dut.rst, size=1 << 32)
    for address, length in [*((address, len(data)) for address, data in segments), *regions]:
        for page in range(address // _PAGE, (address + length) // _PAGE + 1):
            if page < (1 << 32) // _PAGE:
                ram.write(page * _PAGE, bytes([_FILL]) * _PAGE)
    for address, data in segments:
        ram.write(address, data)
    return ram


def disturb(ram: AxiRam, *, stall: float = 0.0, seed: int = 0, read_error: int | None = None,
            write_error: int | None = None, decode_error: bool = False, hang: int | None = None) -> None:
    """Make a memory stall, fail and hang; see :class:`pearray.sim.engine.Disturbance`."""
    generator = random.Random(seed)
    channels = [ram.read_if.ar_channel, ram.read_if.r_channel, ram.write_if.aw_channel,
                ram.write_if.w_channel, ram.write_if.b_channel]
    if stall:
        for channel in channels:
            channel.set_pause_generator(_pauses(random.Random(generator.random()), stall))
    _disturb_half(ram.read_if, "_read", ram.read_if.r_channel, "rresp", read_error, decode_error, hang)
    _disturb_half(ram.write_if, "_write", ram.write_if.b_channel, "bresp", write_error, decode_error, hang)


def _pauses(generator: random.Random, probability: float) -> Iterator[bool]:
    while True:
        yield generator.random() < probability


def _disturb_half(half: Any, name: str, channel: Any, response: str, error: int | None, decode_error: bool,
                  hang: int | None) -> None:
    access, send = getattr(half, name), channel.send

    async def disturbed(address: int, data: Any) -> Any:
        length = data if isinstance(data, int) else len(data)
        if hang is not None and address <= hang < address + length:
            await Event().wait()
        if error is not None and address <= error < address + length:
            raise ValueError("disturbed")  # Answered with SLVERR.
        return await access(address, data)

    async def decoded(item: Any) -> None:
        if getattr(item, response) == AxiResp.SLVERR:
            setattr(item, response, AxiResp.DECERR)
        await send(item)

    setattr(half, name, disturbed)
    if decode_error:
        channel.send = decoded


class _Host:
    """Register accesses that end."""

    def __init__(self, dut: Any) -> None:
        self._master = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axi"), dut.clk, dut.rst)
        self.bus_error = False

    async def write(self, address: int, value: int) -> None:
        data = value.to_bytes(4, "little")
        answer = await with_timeout(self._master.write(address, data), _PATIENCE * PERIOD, "ns")
        self.bus_error |= answer.resp != AxiResp.OKAY

    async def read(self, address: int) -> int:
        answer = await with_timeout(self._master.read(address, 4), _PATIENCE * PERIOD, "ns")
        self.bus_error |= answer.resp != AxiResp.OKAY
        return int.from_bytes(answer.data, "little")


class _Ledger:
    """Counts of what the trace port says, between its marks; looks only when that changes."""

    def __init__(self, dut: Any) -> None:
        self._dut, self._cause, self._since = dut, 0, 0.0
        self.counts: list[list[int]] = []
        if hasattr(dut, "trace_cause"):
            self.counts.append([0] * 16)
            cocotb.start_soon(self._follow_causes())
            cocotb.start_soon(self._follow_marks())

    def settle(self) -> None:
        """Charge the cycles up to now."""
        if self.counts:
            now = get_sim_time("ns")
            self.counts[-1][self._cause] += round((now - self._since) / PERIOD)
            self._since = now

    async def _follow_causes(self) -> None:
        while True:
            await ValueChange(self._dut.trace_cause)
            self.settle()
            self._cause = int(self._dut.trace_cause.value)

    async def _follow_marks(self) -> None:
        while True:
            await RisingEdge(self._dut.trace_mark)
            self.settle()
            self.counts.append([0] * 16)


@cocotb.test()
async def job(dut: Any) -> None:
    """Run the job of folder ``PEARRAY_JOB``, and leave the outcome there."""
    folder = Path(os.environ["PEARRAY_JOB"])
    question = json.loads((folder / "job.json").read_text())
    image = (folder / "image").read_bytes()
    segments = [(address, image[start:start + length]) for address, start, length in question["segments"]]
    ram = memory_of(dut, segments, question["regions"])
    disturb(ram, **question["disturbance"])
    host = _Host(dut)
    ledger = _Ledger(dut)
    Clock(dut.clk, PERIOD, unit="ns").start()
    dut.rst.value = 1
    await ClockCycles(dut.clk, 4)
    dut.rst.value = 0
    await ClockCycles(dut.clk, 2)

    plan = question["plan"]
    outcome: dict[str, Any] = {"ending": 0, "started": False, "status": 0, "values": []}
    step, cycles, begin = 2_000, 0, time.perf_counter()
    try:
        for address, value in plan["writes"]:
            await host.write(address, value)
        outcome["started"] = True
        for number in count(1):
            if not dut.irq.value:
                await First(RisingEdge(dut.irq), ClockCycles(dut.clk, step))
            cycles = step * number
            outcome["status"] = await host.read(plan["status"])
            if outcome["status"] & plan["finished"]:
                break
            if cycles >= question["max_cycles"]:
                outcome["ending"] = 1
                break
            (folder / "progress").write_text(str(cycles))
        for address in plan["reads"]:
            outcome["values"].append(await host.read(address))
    except SimTimeoutError:
        outcome["ending"] = outcome["ending"] or 1
    ledger.settle()
    outcome |= {"ledger": ledger.counts, "bus_error": host.bus_error, "simulated": cycles,
                "seconds": time.perf_counter() - begin}
    regions = [ram.read(address, length) for address, length in question["regions"]]
    (folder / "regions").write_bytes(b"".join(regions))
    (folder / "outcome.json").write_text(json.dumps(outcome))
