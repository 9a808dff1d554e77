"""The command line."""

import gc
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .configuration import System, load_config, presets
from .hdl.errors import PearrayError, unknown
from .hdl.shell.config import Config
from .options import (
    ConfigName,
    Fallback,
    Folder,
    Json,
    On,
    Seed,
    Set,
    SetConfig,
    WorkloadName,
    console_of,
    overrides_of,
    path_of,
    seed_of,
    write_json,
)
from .train_command import train

if TYPE_CHECKING:
    import numpy as np

    from .api import Result
    from .compiler.compiled import Compiled
    from .handle import Handle
    from .parts import Parts
    from .workloads.workload import Workload

__all__ = ["app", "exit_with", "main"]

app = typer.Typer(help="Deep-learning accelerators as RTL from Python, proved against NumPy.",
                  no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
                  context_settings={"help_option_names": ["-h", "--help"]})


def main() -> None:
    """Run the command line and exit: 0 if all is well, 1 for a mismatch, 2 for bad input."""
    exit_with(app, "pearray")


def exit_with(application: typer.Typer, name: str) -> None:
    """Run a command line and exit; a user's mistake gives one line and 2, never a traceback."""
    # Designs are millions of objects, few of them garbage in circles: looking for it takes a seventh of emission.
    gc.set_threshold(100_000, 50, 100)
    sys.exit(_run(application, name))


def _run(application: typer.Typer, name: str) -> int:
    try:
        code = application(prog_name=name, standalone_mode=False)
    except PearrayError as error:
        return _complain(" ".join(str(error).split()))
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        # The parser's own errors know how to say what is wrong; everything else is a defect of ours.
        describe = getattr(error, "format_message", None)
        if describe is None:
            raise
        return _complain(" ".join(describe().split()))
    return code if isinstance(code, int) else 0


def _complain(message: str) -> int:
    # Without a command the parser has printed the help and says nothing more.
    if message:
        print(f"pearray: {message}", file=sys.stderr)
    return 2


def _config(name: str, given: list[str] | None) -> Config:
    config, workload = overrides_of(given)
    loaded = load_config(name, config).hardware
    for key in workload:
        raise unknown("configuration key", f"workload.{key}", loaded.SECTIONS)
    return loaded


@app.command()
def doctor(json_file: Json = None) -> None:
    """Say what is found of the toolchain, which version, and what to do about what is missing."""
    from dataclasses import asdict

    from .sim.tools import survey

    tools = survey()
    table = Table("part", "needed for", "version", "state")
    for tool in tools:
        state = "[green]found[/]"
        if tool.version is None:
            advice = escape(tool.advice)
            state = f"[red]missing: {advice}[/]" if tool.required else f"[yellow]optional: {advice}[/]"
        table.add_row(tool.name, tool.purpose, tool.version or "", state)
    console_of().print(table)
    write_json(json_file, {"python": sys.version.split()[0], "tools": [asdict(tool) for tool in tools]})
    if any(tool.required and tool.version is None for tool in tools):
        raise typer.Exit(1)


@app.command("list")
def list_all(json_file: Json = None) -> None:
    """List configurations, workloads and engines."""
    from .sim.engine import ENGINES
    from .workloads.digit_training import NETWORKS
    from .workloads.workload import BUILT_IN, FORMS

    console = console_of()
    table = Table("configuration", "array", "PEs", "memory bits", "on-chip memories")
    configs = [load_config(name).hardware for name in presets()]
    for config in configs:
        memories = ", ".join(f"{name} {size >> 10} KiB" for name, size in config.memories.items())
        table.add_row(config.name, f"{config.array.kind}, {config.arithmetic.operands}",
                      f"{config.array.rows} x {config.array.cols}", str(config.memory.data_width), memories)
    console.print(table)
    workloads = Table("workload", "what it is")
    for name, meaning in {**BUILT_IN, **FORMS}.items():
        workloads.add_row(name, meaning)
    console.print(workloads)
    trained = Table("workload of pearray train", "what it is")
    for name, network in NETWORKS.items():
        trained.add_row(name, network.meaning)
    console.print(trained)
    console.print(f"engines: {', '.join(ENGINES)}")
    write_json(json_file, {"configurations": presets(), "workloads": list(BUILT_IN), "forms": list(FORMS),
                            "trained": list(NETWORKS),
                            "engines": list(ENGINES)})


@app.command()
def generate(
    config: ConfigName, output: Folder,
    top: Annotated[str, typer.Option(help="pe, array or accelerator.")] = "accelerator",
    settings: SetConfig = None, json_file: Json = None,
) -> None:
    """Write a configuration's Verilog and a manifest of its ports, parameters, registers and memories."""
    from .generation import generate as write

    begin = time.perf_counter()
    manifest = write(_config(config, settings), output, top)
    console = console_of()
    for suffix in ("v", "json"):
        path = output / f"{manifest['name']}.{suffix}"
        console.print(f"{path}  {path.stat().st_size:,} bytes", soft_wrap=True)
    bits = sum(item["depth"] * item["width"] * item["instances"] for item in manifest["memories"])
    console.print(f"{len(manifest['modules'])} modules, {len(manifest['ports'])} ports, "
                  f"{bits / 8192:,.1f} KiB of memories, sha256 {manifest['verilog_sha256'][:16]}…")
    write_json(json_file, {"config": manifest["config"], "top": top, "name": manifest["name"],
                            "verilog_sha256": manifest["verilog_sha256"],
                            "wall_s": round(time.perf_counter() - begin, 3)})


@app.command("compile")
def compile_workload(
    workload: WorkloadName, on: On,
    output: Annotated[Path | None, typer.Option(
        "-o", "--output", metavar="DIR", parser=path_of, help="Folder to write to.")] = None,
    dump: Annotated[str | None, typer.Option(
        metavar="LEVEL", help="Print a level of the compilation: graph, kernels, placement or commands.")] = None,
    seed: Seed = "0", settings: Set = None, json_file: Json = None, fallback: Fallback = None,
) -> None:
    """Write a workload's program, memory image and tensor map, for any host and memory, or print how it is compiled.

    Where the kind of array has a model of time, the cycles of a run and their ledger are predicted.
    """
    from . import api, ledger
    from .compiler.compiled import LEVELS
    from .parts import Parts
    from .workloads.workload import load_workload

    if output is None and dump is None:
        raise PearrayError("compile needs a folder to write to (-o DIR) or a level to print (--dump LEVEL)")
    if dump is not None and dump not in LEVELS:
        raise unknown("level", dump, LEVELS)
    config_keys, workload_keys = overrides_of(settings)
    system = load_config(on, config_keys)
    made = load_workload(workload, seed_of(seed), workload_keys, system.hardware, fallback)
    handle = api.compile(made.graph if made.model is None else made.model, made.inputs, system, output, **made.settings)
    programs, console = handle.programs(), console_of()
    if dump is not None:
        print(*(compiled.dump(dump) for compiled in programs), sep="\n")
    for note in made.notes:
        console.print(escape(note), soft_wrap=True)
    if isinstance(handle, Parts):
        _tell_parts(handle, output, console, json_file, {"workload": workload, "config": system.name,
                                                         "seed": seed_of(seed)})
        return
    [compiled] = programs
    if output is not None:
        for name in ("program.bin", "program.txt", "memory.bin", "tensors.json"):
            path = output / name
            console.print(f"{path}  {path.stat().st_size:,} bytes", soft_wrap=True)
        console.print(f"program at {compiled.program_address:#x}, {len(compiled.layers)} layers, "
                      f"{compiled.host_packed_bytes:,} bytes of constants packed by the host")
    predicted = ledger.predicted(compiled) if json_file is not None or output is not None else {}
    cycles = sum(predicted.values())
    if cycles:
        lost = ", ".join(f"{name.replace('_', ' ')} {predicted[name]:,}" for name in ledger.losses(predicted))
        console.print(f"{cycles:,} cycles predicted, {100 * predicted['useful'] / cycles:.1f} % of them useful; "
                      f"the largest losses: {lost}")
    write_json(json_file, {
        "workload": workload, "config": system.name, "seed": seed_of(seed), "predicted_cycles": cycles or None,
        "predicted_ledger": predicted,
        "program_address": compiled.program_address, "memory_bytes": compiled.memory_bytes,
        "host_packed_bytes": compiled.host_packed_bytes, "tensors": compiled.tensors})


def _tell_parts(parts: "Parts", output: Path | None, console: Console, json_file: Path | None,
                record: dict[str, Any]) -> None:
    """Say what has been compiled of a network of which the host computes parts."""
    from . import report

    if output is not None:
        for path in sorted(path for path in output.rglob("*") if path.is_file()):
            console.print(f"{path}  {path.stat().st_size:,} bytes", soft_wrap=True)
    if parts.host is not None:
        for table in report.host_tables(parts.host):
            console.print(table)
        record["host"] = report.host_record(parts.host)
    write_json(json_file, {**record, "programs": [
        {"program_address": compiled.program_address, "memory_bytes": compiled.memory_bytes,
         "host_packed_bytes": compiled.host_packed_bytes, "tensors": compiled.tensors}
        for compiled in parts.programs()]})


@app.command()
def run(
    workload: WorkloadName, on: On,
    engine: Annotated[str, typer.Option(help="verilator, cocotb or amaranth.")] = "verilator",
    seed: Seed = "0", settings: Set = None, json_file: Json = None,
    trace: Annotated[Path | None, typer.Option(
        metavar="FILE", help="Write what happened when, for ui.perfetto.dev; not with the engine cocotb.")] = None,
    keep: Annotated[str, typer.Option(
        help="outputs, or all: keep and check every tensor between layers, too.")] = "outputs",
    fallback: Fallback = None,
) -> None:
    """Run a workload on the generated hardware and compare its outputs with NumPy."""
    from . import ledger, perfetto, report
    from .compiler.kinds import compiler_for
    from .workloads.workload import load_workload

    config_keys, workload_keys = overrides_of(settings)
    system = load_config(on, config_keys)
    made = load_workload(workload, seed_of(seed), workload_keys, system.hardware, fallback)
    result, golden, programs = _simulate(made, system, engine, trace is not None, keep)
    if trace is not None and result.trace is not None:
        layers = [(layer.name, layer.cycles) for layer in result.layers]
        perfetto.write_trace(trace, perfetto.trace_events(programs[0].program, result.trace, layers))
    counts = report.compare(result.outputs, golden)
    record = report.run_record(workload, system.name, engine, seed_of(seed), result, counts)
    record["wall_s"] = round(report.process_seconds(), 3)
    console = console_of()
    for note in made.notes:
        console.print(escape(note), soft_wrap=True)
    title = f"{workload} on {system.name}, engine {engine}, seed {seed}"
    console.print(report.layer_table(escape(title), record["layers"], record))
    figures = compiler_for(system.hardware).figure_table(record["layers"], record)
    if figures is not None:
        console.print(report.figure_table(figures))
    if made.judge is not None:
        judgement = made.judge(result.outputs)
        record |= {"judged": judgement.records, **judgement.summary}
        console.print(report.judgement_table(judgement))
    if result.host is not None:
        for table in report.host_tables(result.host):
            console.print(table)
    if result.ledger and len(programs) == 1:
        record["losses"] = ledger.advise(result.ledger, result.utilisation, programs[0])
        console.print(report.loss_table(record["losses"], record))
    record["first_difference"] = report.first_difference(result.outputs, golden)
    if record["first_difference"] is not None:
        console.print(f"first mismatch: {record['first_difference']}", markup=False, soft_wrap=True)
    console.print(f"{record['pes']} PEs, {record['host_packed_bytes']:,} bytes packed by the host, "
                  f"Verilog sha256 {record['verilog_sha256'][:16]}…")
    console.print(f"built in {record['build_s']:.1f} s, simulated in {record['sim_s']:.2f} s, "
                  f"{record['wall_s']:.1f} s in all")
    write_json(json_file, record)
    if record["mismatches"] or not record["checked"]:
        raise typer.Exit(1)


def _simulate(workload: "Workload", system: System, engine: str, trace: bool,
              keep: str) -> "tuple[Result, dict[str, np.ndarray], list[Compiled]]":
    """Run a workload behind a progress bar; return what it gave, what it should, and the programs that ran first.

    The bar's end is the compiler's estimate, or at least all PEs busy.
    """
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from .compiler.kinds import compiler_for
    from .following import follow
    from .sim.engine import ENGINES, require_trace

    if engine not in ENGINES:
        raise unknown("engine", engine, ENGINES)
    if trace:
        require_trace(engine)
        if workload.following is not None:
            raise PearrayError(f"--trace draws one run, but {workload.name} has {1 + len(workload.following.runs)}: "
                               "set workload.prompt to all workload.tokens")
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(),
               TextColumn("{task.fields[cycles]}"), TimeElapsedColumn())
    # Progress is for people who wait; results alone go to standard output.
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("compiling", total=None, cycles="")
        handle = _handle(workload, system, keep)
        programs = handle.programs(keep)
        bar.update(task, description="building hardware")

        def progress(cycles: int) -> None:
            bar.update(task, description="simulating", completed=cycles, total=max(expected, cycles),
                       cycles=f"{cycles:,} cycles")

        # The simulation itself tells whether a program ends.
        expected = sum(compiler_for(each.config).cycles(each.config, each.program, each.memory)
                       or sum(layer.macs for layer in each.layers) / system.pes for each in programs)
        result = handle.run(workload.inputs, engine, "all" if keep == "all" else None, progress, trace)
        golden = handle.golden_graph.golden(workload.inputs)
        if workload.following is not None:
            bar.update(task, description="compiling", total=None)
            result, golden = follow(workload.following, system, engine, result, golden, progress)
        return result, golden, programs


def _handle(workload: "Workload", system: System, keep: str) -> "Handle | Parts":
    from .parts import handle_for, mapped
    from .workloads.published import named_settings

    if workload.model is not None:
        return mapped(workload.model, lambda model: model.graph_for(workload.inputs), system, workload.inputs,
                      workload.settings, keep)
    return handle_for(workload.graph, system, workload.inputs, **named_settings(workload.settings, workload.graph))


@app.command()
def synth(
    config: ConfigName,
    target: Annotated[str, typer.Option(help="Device, speed grade 6: ecp5-25, -45 or -85.")] = "ecp5-85",
    top: Annotated[str, typer.Option(help="pe, array or accelerator.")] = "accelerator",
    output: Annotated[Path | None, typer.Option(
        "-o", "--output", metavar="DIR", parser=path_of, help="Folder for the tools' files and logs.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Placements, of which the fastest counts.")] = 3,
    goal: Annotated[int, typer.Option(min=1, help="MHz that placement aims at.")] = 160,
    router: Annotated[str, typer.Option(help="router1, or router2, which ends sooner.")] = "router1",
    cells: Annotated[bool, typer.Option(
        "--cells", help="Count cells only, which takes a few minutes; place and route nothing.")] = False,
    settings: SetConfig = None, json_file: Json = None,
) -> None:
    """Synthesise, place and route out of context; report cells, frequency and the critical path."""
    from .generation import synthesise

    begin = time.perf_counter()
    console = console_of()
    with console.status("Synthesising, placing and routing: minutes, half an hour for a whole accelerator") as at:
        report = synthesise(_config(config, settings), target, top, output, seeds=tuple(range(1, seeds + 1)),
                            goal=goal, router=router, cells=cells, tell=at.update)
    table = Table("what", report["config"], title=f"{top} on {target}")
    for key in ("lut4", "ccu2c", "distributed_ram", "ff", "mult18", "block_ram", *(() if cells else ("fmax_mhz",))):
        table.add_row(key, f"{report[key]:,}")
    console.print(table)
    for net, delay in report.get("critical_path", ()):
        console.print(f"{delay:7.2f} ns  {escape(net)}", soft_wrap=True)
    for memory in report["memories_in_logic"]:
        console.print(f"[yellow]memory not in block RAM: {escape(memory)}[/]", soft_wrap=True)
    write_json(json_file, {**report, "wall_s": round(time.perf_counter() - begin, 3)})


app.command()(train)


if __name__ == "__main__":
    main()
