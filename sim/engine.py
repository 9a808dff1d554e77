"""One job, three engines: what runs on the generated hardware, and what comes back."""

import importlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ..hdl.errors import PearrayError, check_choice
from ..hdl.shell.config import Config
from ..hdl.shell.ledger import Cause
from ..memory import DEFAULT_MEMORY, MemoryTiming
from .design import ACCELERATOR, Design
from .trace import Trace
from .watchdog import Limits, limits

__all__ = ["ENGINES", "TRACED", "Disturbance", "Job", "Outcome", "Progress", "require_trace", "run"]

#: Engines by name, and the module that holds each.
ENGINES = {
    "verilator": ".verilator",
    "cocotb": ".cocotb_engine",
    "amaranth": ".amaranth_engine",
}

#: Those that keep traces.
TRACED = ("verilator", "amaranth")

#: Called now and then with the cycles simulated so far.
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Job:
    """A program in memory, and the results wanted back.

    Parameters
    ----------
    config : Config
        Accelerator that runs it.
    segments : sequence of (int, bytes)
        Memory image: addresses and contents, which must not overlap. Bytes outside are undefined,
        and read as 0xA5.
    program_address : int
        Address of the first command, a multiple of 64.
    read : sequence of (int, int)
        Addresses and lengths in bytes of the regions to read back.
    memory : MemoryTiming
        Memory behind the accelerator.
    trace : bool
        Whether to keep a trace, which the engines :data:`TRACED` can.
    """

    config: Config
    segments: Sequence[tuple[int, bytes]]
    program_address: int
    read: Sequence[tuple[int, int]]
    memory: MemoryTiming = DEFAULT_MEMORY
    trace: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.program_address < 1 << 32 or self.program_address % 64:
            raise PearrayError("program_address must be a multiple of 64 below 2**32, not "
                               f"{self.program_address:#x}")
        end = 0
        for address, data in sorted(self.segments, key=lambda segment: segment[0]):
            _check_range("segment", address, len(data))
            if data and address < end:
                raise PearrayError(f"segments must not overlap, but the one at {address:#x} begins "
                                   f"below {end:#x}")
            end = max(end, address + len(data))
        for address, length in self.read:
            _check_range("read region", address, length)


def _check_range(name: str, address: int, length: int) -> None:
    if address < 0 or length < 0 or address + length > 1 << 32:
        raise PearrayError(f"{name} must lie within 32 bits of address, not {length} bytes at {address:#x}")


@dataclass(frozen=True, kw_only=True)
class Disturbance:
    """What a test does to the memory to see how the accelerator bears it.

    Parameters
    ----------
    stall : float
        Probability that a channel stalls in a cycle, drawn anew for each channel.
    seed : int
        Seed of the stalls.
    read_error, write_error : int or None
        Address whose reads or writes are answered with an error.
    decode_error : bool
        Answer with DECERR rather than SLVERR.
    hang : int or None
        Address whose bursts are never answered.
    """

    stall: float = 0.0
    seed: int = 0
    read_error: int | None = None
    write_error: int | None = None
    decode_error: bool = False
    hang: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.stall < 1:
            raise PearrayError(f"stall must be a probability below 1, not {self.stall!r}")


@dataclass
class Outcome:
    """What came back from the hardware.

    Parameters
    ----------
    regions : list of bytes
        The regions that the job asked for.
    cycles : int
        From the start write to the done flag, counted by the hardware.
    counters : dict
        Every performance counter by name, counted by the hardware.
    ledger : list of Counter
        Cycles by cause, from the start to the first profile record, from there to the next, and so on to the end.
        Empty if the design has no ledger.
    trace : Trace or None
        What happened when, if the job wanted it.
    build_s, sim_s : float
        Seconds spent on Verilog and compilation (next to nothing if both were cached), and on the
        simulated run alone.
    verilog_sha256 : str
        Hash of the Verilog that ran, or of what would have been emitted for the amaranth engine.
    """

    regions: list[bytes]
    cycles: int
    counters: dict[str, int] = field(default_factory=dict)
    ledger: list[Counter[Cause]] = field(default_factory=list)
    trace: Trace | None = None
    build_s: float = 0.0
    sim_s: float = 0.0
    verilog_sha256: str = ""


class _Engine(Protocol):
    def execute(self, job: Job, design: Design, disturbance: Disturbance, bounds: Limits,
                progress: Progress | None) -> Outcome: ...


def require_trace(engine: str) -> None:
    """Raise an error unless an engine keeps traces."""
    if engine not in TRACED:
        raise PearrayError(f"engine {engine} keeps no trace: use engine {' or '.join(TRACED)}")


def run(job: Job, engine: str = "verilator", progress: Progress | None = None, max_cycles: int | None = None,
        *, disturbance: Disturbance | None = None, design: Design = ACCELERATOR) -> Outcome:
    """Run one job on the hardware of its configuration.

    Parameters
    ----------
    job : Job
        What to run.
    engine : str
        ``"verilator"``, ``"cocotb"`` or ``"amaranth"``.
    progress : callable, optional
        Called a few times a second with the cycles simulated so far.
    max_cycles : int, optional
        Cycles after which a run counts as stuck; by default far more than the program can need.
    disturbance : Disturbance, optional
        Stalls and errors of the memory; by default none. The engines cocotb and verilator know
        all of them, amaranth none.
    design : Design
        Hardware to run on, for tests of the engines themselves.

    The rules of the hardware (:mod:`pearray.hdl.blocks.rules`) are checked by the engines amaranth and cocotb, and
    by verilator if the environment has ``PEARRAY_RULES=1``.

    Returns
    -------
    Outcome

    Raises
    ------
    PearrayError
        If the engine is unknown, lacks a tool or cannot do what is asked for, or if the hardware reports an error or
        gets stuck.
    """
    check_choice("engine", engine, ENGINES)
    if job.trace:
        require_trace(engine)
    disturbance = disturbance or Disturbance()
    bounds = limits(job.config, job.memory, job.segments, job.program_address, disturbance.stall)
    if max_cycles is not None:
        bounds = Limits(max_cycles, min(max_cycles, bounds.quiet), bounds.timeout)
    module: _Engine = importlib.import_module(ENGINES[engine], __package__)  # type: ignore[assignment]
    return module.execute(job, design, disturbance, bounds, progress)
