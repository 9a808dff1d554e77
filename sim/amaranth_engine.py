"""Engine ``amaranth``: Amaranth's own simulator, without Verilog or compiler, for small jobs."""

import time
from collections import Counter
from typing import Any

import numpy as np
from amaranth.hdl import Cat, Value

from ..hdl.errors import PearrayError
from ..hdl.shell.ledger import Cause
from .design import Design, emitted
from .engine import Disturbance, Job, Outcome, Progress
from .host import Ending, Report, conclude, plan
from .pysim import simulate
from .pysim_memory import MemoryModel, lite_read, lite_write
from .trace import BUS, Burst, Trace, packed
from .watchdog import Limits

__all__ = ["execute"]

_PAGE = 4096
_FILL = 0xA5
_LARGEST = 1 << 30


def execute(job: Job, design: Design, disturbance: Disturbance, bounds: Limits,
            progress: Progress | None) -> Outcome:
    """Run a job; see :func:`pearray.sim.engine.run`."""
    begin = time.perf_counter()
    verilog = emitted(job.config, design)
    dut: Any = design.create(job.config)
    memory = _memory(job, dut.m_axi, disturbance)
    host = plan(job, design, bounds)
    report = Report(Ending.FINISHED, 0, started=False)

    async def drive(ctx: Any) -> None:
        for address, value in host.writes:
            await lite_write(ctx, dut.s_axi, address, value)
        report.started = True
        shown = time.monotonic()
        async for _, _, irq in ctx.tick().sample(dut.irq):
            report.simulated += 1
            if irq or report.simulated >= bounds.total:
                report.reads, report.writes = memory.reads_in_flight, memory.writes_in_flight
                break
            if progress is not None and time.monotonic() - shown > 0.25:
                shown = time.monotonic()
                progress(report.simulated)
        report.status = await lite_read(ctx, dut.s_axi, host.status)
        if not report.status & host.finished:
            report.ending = Ending.TOO_LONG
        for address in host.reads:
            report.values.append(await lite_read(ctx, dut.s_axi, address))

    built = time.perf_counter()
    listeners = _listeners(dut, job, report)
    try:
        simulate(dut, drive, background=[*memory.testbenches, *listeners], timeout=bounds.total + 100_000)
    except TimeoutError:
        report.ending = Ending.TOO_LONG
    except AssertionError as violation:
        report.ending, report.message = Ending.PROTOCOL, str(violation).removeprefix("Assertion violated: ")
    seconds = time.perf_counter() - built
    counters = conclude(job, design, report)
    regions = [memory.data[address:address + length].tobytes() for address, length in job.read]
    return Outcome(regions, counters["cycles"], counters, report.ledger, report.trace, built - begin, seconds,
                   verilog.sha256)


def _listeners(dut: Any, job: Job, report: Report) -> list[Any]:
    """Testbenches that note what the trace port says, if the design has one."""
    if not hasattr(dut, "trace"):
        return []
    said = dut.trace
    report.ledger.append(Counter())
    trace = Trace()
    if job.trace:
        report.trace = trace

    async def count(ctx: Any) -> None:
        async for _, _, cause, mark in ctx.tick().sample(Value.cast(said.cause), said.mark):
            if mark:
                report.ledger.append(Counter())
            if cause:
                report.ledger[-1][Cause(cause)] += 1

    async def draw(ctx: Any) -> None:
        bus = dut.m_axi
        sample = ctx.tick().sample(
            Value.cast(said.cause), _moved(bus), said.open, said.take, said.done, bus.araddr, bus.arlen, bus.awaddr,
            bus.awlen)
        cycle = 0
        async for _, _, cause, moved, opened, taken, done, araddr, arlen, awaddr, awlen in sample:
            trace.note(cycle, packed(cause, moved, opened, taken, done))
            trace.bursts += [
                Burst(address, length + 1, write)
                for write, (name, address, length) in enumerate((("ar", araddr, arlen), ("aw", awaddr, awlen)))
                if moved >> BUS.index(name) & 1]
            cycle += 1

    return [count, draw] if job.trace else [count]


def _moved(bus: Any) -> Value:
    moved = {name: getattr(bus, f"{name}valid") & getattr(bus, f"{name}ready") for name in ("ar", "r", "aw", "w", "b")}
    moved |= {f"{name}_last": moved[name] & getattr(bus, f"{name}last") for name in ("r", "w")}
    return Cat(moved[name] for name in BUS)


def _memory(job: Job, bus: Any, disturbance: Disturbance) -> MemoryModel:
    blocks = [(address, len(data)) for address, data in job.segments] + list(job.read)
    end = max((address + length for address, length in blocks), default=0)
    size = (end // _PAGE + 1) * _PAGE
    if size > _LARGEST:
        raise PearrayError(f"engine amaranth holds {_LARGEST} bytes of memory, but the job needs {size}: "
                           "use engine verilator")
    if disturbance.hang is not None:
        raise PearrayError("engine amaranth does not know the disturbance hang: use engine verilator")
    timing = job.memory
    code = 3 if disturbance.decode_error else 2
    memory = MemoryModel(
        bus, size=size, read_latency=timing.read_latency, write_latency=timing.write_latency,
        outstanding=timing.outstanding, stall=disturbance.stall, rng=np.random.default_rng(disturbance.seed),
        read_errors=_error(disturbance.read_error, code), write_errors=_error(disturbance.write_error, code))
    for address, length in blocks:
        memory.data[address // _PAGE * _PAGE:((address + length) // _PAGE + 1) * _PAGE] = _FILL
    for address, data in job.segments:
        memory.data[address:address + len(data)] = np.frombuffer(data, np.uint8)
    return memory


def _error(address: int | None, code: int) -> dict[int, int]:
    return {} if address is None else {address: code}
