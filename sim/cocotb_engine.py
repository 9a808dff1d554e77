"""Engine ``cocotb``: the same Verilog under cocotb, with the bus models of cocotbext-axi."""

import importlib
import importlib.metadata
import json
import logging
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..hdl.errors import PearrayError
from . import cache, rules, tools
from .design import Design, Emitted, emitted
from .engine import Disturbance, Job, Outcome, Progress
from .host import Ending, Report, conclude, plan
from .trace import by_cause
from .watchdog import Limits

__all__ = ["build", "execute", "simulate"]

# Cocotb would have Verilator keep every signal of the design: only the ports of its top are used.
_BUILD_ARGUMENTS = ["-Wno-WIDTHEXPAND", "-Wno-fatal", "--no-public-flat-rw", "--public-depth", "1"]
# Python takes most of the time of a run, so that a model is compiled as one file, and without optimisation.
_MAKE_OPTIONS = {"VM_PARALLEL_BUILDS": "0", "OPT_FAST": "-O0", "PYTHON3": sys.executable}
_TIMESCALE = ("1ns", "1ps")
#: Time of a cycle as Verilator prints it, which is in units of the precision.
_PERIOD = 10_000


@contextmanager
def _environment(**changes: str) -> Iterator[None]:
    """Change this process's environment for a while, from which cocotb's runner makes that of its tools."""
    before = dict(os.environ)
    os.environ.update(tools.verilator_environment() | changes)
    os.environ.pop("MAKELEVEL", None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def build(verilog: Emitted) -> Path:
    """Compile a design for cocotb, or find it in the cache.

    Returns
    -------
    Path
        Folder for ``build_dir`` of cocotb's runner.

    Raises
    ------
    PearrayError
        If a tool is missing or fails.
    """
    tools.require_cocotb()
    libraries = Path(importlib.import_module("cocotb_tools.config").libs_dir)
    versions = [importlib.metadata.version("cocotb"), tools.verilator_version(), tools.compiler_version()]
    key = cache.digest(verilog.text, verilog.rules, verilog.top, *_BUILD_ARGUMENTS, str(libraries), *versions)

    def compile_model(folder: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="pearray-", dir=folder) as name:
            work = Path(name)
            source, beside = work / f"{verilog.top}.v", work / "rules.sv"
            source.write_text(verilog.text)
            beside.write_text(verilog.rules)
            _prepare_runtime(work / "build", versions)
            flags = " ".join(f"{name}={value}"
                             for name, value in (tools.make_variables() | _MAKE_OPTIONS).items())
            with _environment(MAKEFLAGS=flags, **_object_cache()):
                try:
                    _runner().build(sources=[source, beside], hdl_toplevel=verilog.top, build_dir=work / "build",
                                    build_args=_BUILD_ARGUMENTS, timescale=_TIMESCALE, log_file=work / "log")
                except (RuntimeError, SystemExit) as error:
                    message = f"cocotb could not build the generated Verilog: {_last(work / 'log')}"
                    raise PearrayError(message) from error
            shutil.copy2(work / "build" / verilog.top, folder / verilog.top)
            cache.entry("runtime", _runtime_key(versions), lambda place: _keep_runtime(work / "build", place))

    place, _ = cache.entry("cocotb", key, compile_model)
    return place


def _runtime_key(versions: list[str]) -> str:
    return cache.digest("cocotb", *versions)


def _keep_runtime(build: Path, place: Path) -> None:
    for path in build.glob("verilated*.o"):
        shutil.copyfile(path, place / path.name)


def _prepare_runtime(build: Path, versions: list[str]) -> None:
    """Put Verilator's run-time library, compiled once for all models, where make would put it."""
    build.mkdir()
    place = cache.find("runtime", _runtime_key(versions))
    if place is None:
        return
    # Make rebuilds objects older than the makefile, which is yet to be written.
    later = time.time() + 24 * 3600
    for path in place.glob("*.o"):
        shutil.copyfile(path, build / path.name)
        os.utime(build / path.name, (later, later))


def _object_cache() -> dict[str, str]:
    return {"OBJCACHE": "ccache"} if shutil.which("ccache") else {}


def _runner() -> Any:
    runner = importlib.import_module("cocotb_tools.runner").get_runner("verilator")
    runner.log.setLevel(logging.CRITICAL)
    return runner


def _last(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    errors = [line for line in lines if "rror" in line] or lines
    return errors[-1].strip() if errors else "no message"


def simulate(place: Path, top: str, test_module: str, work: Path,
             variables: dict[str, str]) -> tuple[int, int]:
    """Run a cocotb test module on a compiled design.

    Parameters
    ----------
    place : Path
        What :func:`build` returned.
    top : str
        Top-level module.
    test_module : str
        Importable name of the module.
    work : Path
        Folder for logs and results.
    variables : dict
        Environment variables for the test module.

    Returns
    -------
    int
        Tests that ran.
    int
        Tests that failed.

    Raises
    ------
    PearrayError
        If no test ran.
    """
    results = work / "results.xml"
    # Other people's deprecations must not fail a run, whatever the caller's own rules.
    extra = {"PYTHONWARNINGS": "ignore::DeprecationWarning", "COCOTB_LOG_LEVEL": "WARNING"} | variables
    with _environment():
        try:
            _runner().test(hdl_toplevel=top, hdl_toplevel_lang="verilog", test_module=test_module,
                           build_dir=place, test_dir=work, results_xml=str(results), extra_env=extra,
                           log_file=work / "log")
        except (RuntimeError, SystemExit):
            pass  # The results tell more.
    tests, failures = 0, 0
    try:
        tests, failures = importlib.import_module("cocotb_tools.check_results").get_results(results)
    except RuntimeError:
        pass
    if tests == 0:
        raise PearrayError(f"cocotb ran no test of {test_module}: {_last(work / 'log')}")
    return tests, failures


def execute(job: Job, design: Design, disturbance: Disturbance, bounds: Limits,
            progress: Progress | None) -> Outcome:
    """Run a job; see :func:`pearray.sim.engine.run`."""
    tools.require_cocotb()
    begin = time.perf_counter()
    verilog = emitted(job.config, design)
    place = build(verilog)
    built = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="pearray-") as name:
        folder = Path(name)
        _write_job(folder, job, design, disturbance, bounds)
        with _watched(folder / "progress", progress):
            _, failures = simulate(place, verilog.top, f"{__package__}.cocotb_run", folder,
                                   {"PEARRAY_JOB": str(folder)})
        if failures:
            broken = rules.broken(verilog.rules, (folder / "log").read_text(errors="replace"))
            if broken is not None:
                raise PearrayError(f"the accelerator broke a rule in cycle {broken[0] // _PERIOD}: {broken[1]}")
            raise PearrayError(f"the simulation failed: {_last(folder / 'log')}")
        answer = json.loads((folder / "outcome.json").read_text())
        data = (folder / "regions").read_bytes()
    answer["ending"] = Ending(answer["ending"])
    seconds = answer.pop("seconds")
    answer["ledger"] = [by_cause(counts) for counts in answer["ledger"]]
    counters = conclude(job, design, Report(**answer))
    regions, start = [], 0
    for _, length in job.read:
        regions.append(data[start:start + length])
        start += length
    return Outcome(regions, counters["cycles"], counters, answer["ledger"], None, built - begin, seconds,
                   verilog.sha256)


def _write_job(folder: Path, job: Job, design: Design, disturbance: Disturbance, bounds: Limits) -> None:
    segments, start = [], 0
    with (folder / "image").open("wb") as file:
        for address, data in job.segments:
            file.write(data)
            segments.append((address, start, len(data)))
            start += len(data)
    (folder / "job.json").write_text(json.dumps({
        "segments": segments,
        "regions": list(job.read),
        "plan": asdict(plan(job, design, bounds)),
        "disturbance": asdict(disturbance),
        "max_cycles": bounds.total,
    }))


@contextmanager
def _watched(path: Path, progress: Progress | None) -> Iterator[None]:
    """Report the cycles that the simulator writes to a file."""
    if progress is None:
        yield
        return
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.25):
            text = path.read_text() if path.exists() else ""
            if text.isdigit():
                progress(int(text))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
