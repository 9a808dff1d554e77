"""What the host does with the accelerator's registers, the same in every engine."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

from ..hdl.errors import PearrayError
from ..hdl.shell.ledger import Cause
from .design import Design
from .trace import Trace
from .watchdog import Limits, waiting

if TYPE_CHECKING:
    from .engine import Job

__all__ = ["Ending", "HostPlan", "Report", "conclude", "plan"]

_START = 1
_DONE, _ERROR = 1 << 1, 1 << 2


class Ending(IntEnum):
    """Why a simulation ended."""

    FINISHED = 0
    TOO_LONG = 1
    QUIET = 2
    PROTOCOL = 3


@dataclass(frozen=True)
class HostPlan:
    """Register accesses of one job.

    Parameters
    ----------
    writes : list of (int, int)
        Addresses and values; the last one starts the program.
    status : int
        Address of the register to watch.
    finished : int
        Bits of that register any of which ends the wait.
    reads : list of int
        Addresses to read afterwards.
    """

    writes: list[tuple[int, int]]
    status: int
    finished: int
    reads: list[int]


@dataclass
class Report:
    """What an engine saw.

    Parameters
    ----------
    ending : Ending
        Why the simulation ended.
    simulated : int
        Cycles simulated.
    status : int
        Last value seen of the status register.
    values : list of int
        Values of the registers that the plan reads; fewer if they did not answer.
    message : str
        Broken rule, of the bus or of the design, if one ended the simulation.
    started : bool
        Whether every register write was answered.
    bus_error : bool
        Whether a register access was answered with an error.
    reads, writes : list of (int, int)
        Addresses and beats of the bursts that were in flight when the accelerator said that it is done, or when it
        was stopped.
    ledger : list of Counter
        Cycles by cause, between the marks of the trace port.
    trace : Trace or None
        What happened when, if it was kept.
    """

    ending: Ending
    simulated: int
    status: int = 0
    values: list[int] = field(default_factory=list)
    message: str = ""
    started: bool = True
    bus_error: bool = False
    reads: Sequence[tuple[int, int]] = ()
    writes: Sequence[tuple[int, int]] = ()
    ledger: list[Counter[Cause]] = field(default_factory=list)
    trace: Trace | None = None


def plan(job: "Job", design: Design, bounds: Limits) -> HostPlan:
    """List the register accesses of a job."""
    registers = design.registers
    values = {"program_address": job.program_address, "timeout": bounds.timeout, "interrupt_enable": 1,
              "control": _START}
    reads = [registers["error_address"]]
    for words in design.counters(job.config).values():
        reads += words
    writes = [(registers[name], value) for name, value in values.items()]
    return HostPlan(writes, registers["status"], _DONE, reads)


def conclude(job: "Job", design: Design, report: Report) -> dict[str, int]:
    """Turn a report into the performance counters.

    Returns
    -------
    dict
        Counters by name.

    Raises
    ------
    PearrayError
        If the accelerator reported an error or did not finish.
    """
    counters = {}
    error_address, *values = report.values or [0]
    for name, words in design.counters(job.config).items():
        taken, values = values[:len(words)], values[len(words):]
        if len(taken) == len(words):
            counters[name] = sum(value << 32 * index for index, value in enumerate(taken))
    if report.ending is Ending.PROTOCOL:
        raise PearrayError(f"the accelerator broke a rule in cycle {report.simulated}: {report.message}")
    if report.bus_error:
        raise PearrayError("the accelerator answered a register access with an error")
    if not report.started:
        raise PearrayError(f"the accelerator's registers did not answer within {report.simulated} cycles")
    if report.ending is not Ending.FINISHED:
        raise PearrayError(_stuck(job, report, counters))
    if report.status & _ERROR:
        cause = report.status >> 8 & 0xFF
        text = design.causes.get(cause, "unknown")
        # None is in flight, unless memory hung.
        parts = [f"the accelerator stopped with error {cause} ({text}) at address {error_address:#010x}",
                 *_in_flight(report)]
        if text == "timeout":
            parts = [f"the accelerator is stuck: it made no progress (error {cause}, {text})",
                     *_waiting(job, report, counters)]
        raise PearrayError("; ".join(parts))
    return counters


def _stuck(job: "Job", report: Report, counters: dict[str, int]) -> str:
    why = "made no memory access for a long time" if report.ending is Ending.QUIET else "did not finish"
    parts = [f"the accelerator is stuck: it {why} and was stopped after {report.simulated} cycles",
             *_waiting(job, report, counters)]
    if not report.values:
        parts.append("its registers do not answer")
    return "; ".join(parts)


def _waiting(job: "Job", report: Report, counters: dict[str, int]) -> list[str]:
    commands = job.config.commands
    names = [opcode.name.lower() for opcode in commands.queues]
    completed = {name: counters[f"{name}_commands"] for name in names if f"{name}_commands" in counters}
    return waiting(job.segments, job.program_address, completed, commands) + _in_flight(report)


def _in_flight(report: Report) -> list[str]:
    parts = []
    for kind, bursts in (("read", report.reads), ("write", report.writes)):
        if bursts:
            address, beats = bursts[0]
            parts.append(f"{len(bursts)} {kind} bursts are in flight, the oldest of {beats} beats "
                         f"at {address:#010x}")
    return parts
