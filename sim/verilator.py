"""Engine ``verilator``: the compiled model, driven natively with a memory model in C++."""

import os
import re
import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from ..hdl.errors import PearrayError
from ..hdl.kinds import kind
from ..hdl.shell.config import Config
from . import cache, rules, tools
from .design import Design, Emitted, emitted
from .engine import Disturbance, Job, Outcome, Progress
from .host import Ending, HostPlan, Report, conclude, plan
from .loops import rewrite
from .replicas import replicas
from .resting import resting
from .sampled import SAMPLED, sampled
from .trace import Burst, Trace, by_cause
from .watchdog import Limits

__all__ = ["AS_EMITTED", "CHECK", "build", "changed", "execute"]

#: Environment variable that, set to 1, compiles the design's rules (:mod:`pearray.hdl.blocks.rules`) in. They cost a
#: tenth of the speed.
CHECK = "PEARRAY_RULES"

#: Environment variable that, set to 1, compiles the Verilog as it was emitted, without the changes that make its
#: simulation fast: what the two compute must not differ. It is compiled quickly, and runs many times slower.
AS_EMITTED = "PEARRAY_AS_EMITTED"

_FORMAT = 2
_NEVER = (1 << 64) - 1
_HARNESS = [Path(__file__).with_name(name)
            for name in ("harness.cpp", "axi_host.h", "axi_memory.h", "loops.py", "sampled.py", "replicas.py",
                         "rows.py", "resting.py", "netlist.py", "branchless.py", "truths.py")]
_JOBS = 2
_MAKEFILE = "gathered.mk"
#: Text of functions up to which a model is compiled in one piece.
_SMALL_BYTES = 3_000_000

_VERILATOR_FLAGS = [
    "--cc", "--exe", "-O3", "--x-assign", "fast", "--x-initial", "fast", "--prefix", "Vtop", "--no-timing",
    # Yosys relies on implicit extension; other lint is the business of the tests of emission.
    "-Wno-WIDTHEXPAND", "-Wno-fatal",
]
# Evaluating the model is what takes time: its loops want vector instructions, the rest no more than -O1. Its functions
# are long and store to a thousand members, of which the compiler would otherwise compare each access with hundreds.
_MAKE_OPTIONS = {"OPT_FAST": "-O1 -ftree-vectorize -ftree-vrp -fvect-cost-model=dynamic "
                             "--param=sccvn-max-alias-queries-per-access=8 --param=dse-max-alias-queries-per-store=8",
                 "OPT_SLOW": "-O0", "OPT_GLOBAL": "-O2"}
# What is compiled to compare a few runs with is not worth more.
_QUICK_OPTIONS = {"OPT_FAST": "-O0"}


def build(config: Config, verilog: Emitted, *, with_rules: bool = False,
          as_emitted: bool = False) -> tuple[Path, bool]:
    """Compile a design and the harness, or find them in the cache.

    Parameters
    ----------
    config : Config
        Configuration of the design.
    verilog : Emitted
        The design and its rules.
    with_rules : bool
        Check the rules.
    as_emitted : bool
        Change nothing in the text before it is compiled, and compile quickly.

    Returns
    -------
    Path
        The executable.
    bool
        Whether it had to be compiled.

    Raises
    ------
    PearrayError
        If a tool is missing or fails.
    """
    flags = [*_VERILATOR_FLAGS, f"-DPEARRAY_BEAT_BYTES={config.beat_bytes}"]
    options = _options(as_emitted)
    key = cache.digest(verilog.text, verilog.rules, verilog.top, cache.sources_digest(_HARNESS), *flags,
                       str(options), str(with_rules), str(as_emitted), tools.verilator_version(),
                       tools.compiler_version(), tools.processor())
    place, built = cache.entry("verilator", key,
                               lambda folder: _compile(folder, config, verilog, with_rules, as_emitted))
    return place / "model", built


def _options(as_emitted: bool) -> dict[str, str]:
    """Variables with the compiler's options."""
    if as_emitted:
        return _MAKE_OPTIONS | _QUICK_OPTIONS
    return _MAKE_OPTIONS | {"OPT_FAST": " ".join([_MAKE_OPTIONS["OPT_FAST"], *tools.native_options()])}


def changed(config: Config, verilog: Emitted, *, with_rules: bool = False) -> tuple[str, int]:
    """Text of a design that simulates faster, with :data:`SAMPLED` around it, and how many clocks may rest.

    With rules, modules that have some stay as they are, and none rests.
    """
    # Rules look into the modules that state them.
    watched = set(re.findall(r"^bind (\w+) ", verilog.rules, re.MULTILINE)) if with_rules else set()
    text = rewrite(verilog.text, watched)
    if row := kind(config.KIND).row_module:
        text = replicas(text, row, watched)
    text, clocks = (text, 0) if with_rules else resting(text, verilog.rules, verilog.top)
    return sampled(text, verilog.top), clocks


def _compile(folder: Path, config: Config, verilog: Emitted, with_rules: bool, as_emitted: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="pearray-", dir=folder) as name:
        work = Path(name)
        source, beside = work / f"{verilog.top}.v", work / "rules.sv"
        text, clocks = (verilog.text, 0) if as_emitted else changed(config, verilog, with_rules=with_rules)
        source.write_text(text)
        beside.write_text(verilog.rules if with_rules else "")
        environment = tools.verilator_environment()
        _call([str(tools.verilator_root() / "bin" / "verilator_bin"), *_VERILATOR_FLAGS,
               "--top-module", verilog.top if as_emitted else SAMPLED, "--Mdir", str(work / "model"), "-o", "model",
               "-CFLAGS", f"-DVL_TIME_CONTEXT -DVL_USER_STOP -DPEARRAY_BEAT_BYTES={config.beat_bytes}",
               "-CFLAGS", f"-DPEARRAY_AS_EMITTED={int(as_emitted)} -DPEARRAY_RESTING={clocks}",
               "-CFLAGS", f"-I{Path(__file__).parent}",
               "-LDFLAGS", "-pthread", str(source), str(beside), str(_HARNESS[0])], environment, "Verilator")
        _gather(work / "model")
        variables = tools.make_variables() | _MAKE_OPTIONS
        _reuse_runtime(work / "model", variables, environment)
        _make(work / "model", variables | _options(as_emitted), environment, "gathered")
        shutil.copy2(work / "model" / "gathered", folder / "model")


def _gather(work: Path) -> None:
    """Write sources that include the files which Verilator has written, and a makefile for them.

    Its own makefile precompiles a header twice, which takes longer than compiling a small model, and every file
    reads that again.
    """
    files = sorted(file.name for file in work.glob("Vtop*.cpp"))
    fast = [name for name in files if "__Slow" not in name]
    # The parts of a large model are compiled at the same time; those of a small one wait for its headers.
    count = _JOBS if sum((work / name).stat().st_size for name in fast) > _SMALL_BYTES else 1
    sources = {f"fast{index}": fast[index::count] for index in range(count)}
    sources["fast0"].append(str(_HARNESS[0]))
    sources["slow"] = [name for name in files if name not in fast]
    for name, included in sources.items():
        (work / f"{name}.cpp").write_text("".join(f'#include "{file}"\n' for file in included))
    compiled = "$(CXX) $(CXXFLAGS) $(CPPFLAGS) -c -o $@ $<"
    (work / _MAKEFILE).write_text("\n".join([
        "include Vtop.mk",
        f"fast%.o: fast%.cpp\n\t{compiled} $(OPT_FAST)",
        f"slow.o: slow.cpp\n\t{compiled} $(OPT_SLOW)",
        f"gathered: {' '.join(f'{name}.o' for name in sources)} $(VK_GLOBAL_OBJS)\n"
        "\t$(LINK) $(LDFLAGS) $^ $(LDLIBS) -o $@", ""]))


def _reuse_runtime(work: Path, variables: dict[str, str], environment: dict[str, str]) -> None:
    """Put Verilator's run-time library, compiled once for all models, where make would put it."""
    names = ("verilated.o", "verilated_threads.o")
    key = cache.digest(*names, "VL_USER_STOP", str(sorted(variables.items())), tools.verilator_version(),
                       tools.compiler_version())

    def compile_runtime(folder: Path) -> None:
        _make(work, variables, environment, *names)
        for name in names:
            shutil.copyfile(work / name, folder / name)

    place, built = cache.entry("runtime", key, compile_runtime)
    if not built:
        for name in names:
            shutil.copyfile(place / name, work / name)


def _make(work: Path, variables: dict[str, str], environment: dict[str, str], *targets: str) -> None:
    assignments = [f"{name}={value}" for name, value in variables.items()]
    _call([tools.make(), "-C", str(work), "-f", _MAKEFILE, "-j", str(_JOBS), *assignments, *targets],
          environment, "the C++ compiler")


def _call(command: list[str], environment: dict[str, str], who: str) -> None:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False,
                          stdin=subprocess.DEVNULL)
    if done.returncode:
        errors = [line for line in (done.stderr + done.stdout).splitlines() if "rror" in line]
        detail = errors[0] if errors else f"exit code {done.returncode}"
        raise PearrayError(f"{who} failed on the generated Verilog: {detail.strip()}")


def execute(job: Job, design: Design, disturbance: Disturbance, bounds: Limits,
            progress: Progress | None) -> Outcome:
    """Run a job; see :func:`pearray.sim.engine.run`."""
    begin = time.perf_counter()
    verilog = emitted(job.config, design)
    model, _ = build(job.config, verilog, with_rules=os.environ.get(CHECK) == "1",
                     as_emitted=os.environ.get(AS_EMITTED) == "1")
    built = time.perf_counter()
    host = plan(job, design, bounds)
    with tempfile.TemporaryDirectory(prefix="pearray-") as name:
        question, answer = Path(name) / "job", Path(name) / "outcome"
        with question.open("wb") as file:
            _write_job(file, job, host, disturbance, bounds)
        _simulate([str(model), str(question), str(answer)], progress)
        with answer.open("rb") as file:
            report, nanoseconds, regions = _read_outcome(file, job)
    report.message = rules.explain(verilog.rules, report.message)
    counters = conclude(job, design, report)
    return Outcome(regions, counters["cycles"], counters, report.ledger, report.trace, built - begin, nanoseconds / 1e9,
                   verilog.sha256)


def _write_job(file: IO[bytes], job: Job, host: HostPlan, disturbance: Disturbance, bounds: Limits) -> None:
    def numbers(*values: int) -> None:
        file.write(struct.pack(f"<{len(values)}Q", *values))

    def address(value: int | None) -> int:
        return _NEVER if value is None else value

    memory = job.memory
    numbers(_FORMAT, bounds.total, bounds.quiet, job.trace)
    numbers(memory.read_latency, memory.write_latency, memory.outstanding,
            round(memory.beats_per_cycle * (1 << 32)), round(disturbance.stall * (1 << 32)), disturbance.seed)
    numbers(address(disturbance.read_error), address(disturbance.write_error), address(disturbance.hang),
            3 if disturbance.decode_error else 2)
    numbers(host.status, host.finished)
    numbers(len(host.writes), *(number for write in host.writes for number in write))
    numbers(len(host.reads), *host.reads)
    numbers(len(job.read), *(number for region in job.read for number in region))
    numbers(len(job.segments))
    for start, data in job.segments:
        numbers(start, len(data))
        file.write(data)


def _simulate(command: list[str], progress: Progress | None) -> None:
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          stdin=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            lines = []
            for line in process.stdout:
                if not line.strip().isdigit():
                    lines.append(line.strip())
                elif progress is not None:
                    progress(int(line))
            lines += process.stderr.read().splitlines()
            process.wait()
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        detail = next((line for line in lines if line), f"exit code {process.returncode}")
        raise PearrayError(f"the simulation failed: {detail}")


def _read_outcome(file: IO[bytes], job: Job) -> tuple[Report, int, list[bytes]]:
    def number() -> int:
        return int.from_bytes(file.read(8), "little")

    def sequence(read: Callable[[], Any]) -> list:
        return [read() for _ in range(number())]

    if number() != _FORMAT:
        raise PearrayError("the simulation's outcome has another format: empty the cache folder")
    ending, simulated, nanoseconds = Ending(number()), number(), number()
    started, bus_error, status = bool(number()), bool(number()), number()
    number(), number()
    message = file.read(number()).decode()
    report = Report(ending, simulated, status, sequence(number), message, started, bus_error,
                    sequence(lambda: (number(), number())), sequence(lambda: (number(), number())))
    intervals = sequence(lambda: by_cause([number() for _ in range(16)]))
    report.ledger = intervals if any(intervals) else []
    trace = Trace(sequence(lambda: (number(), number())), sequence(lambda: Burst(number(), number(), number())))
    report.trace = trace if job.trace else None
    return report, nanoseconds, [file.read(length) for _, length in job.read]
