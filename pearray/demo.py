"""Handwritten digits through a trained network on generated hardware: ``python -m pearray.demo``."""

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from .cli import exit_with
from .compiler.frontends.onnx.importer import load_onnx
from .configuration import load_config
from .generation import generate
from .handle import Handle
from .report import compare, layer_table, run_record
from .results import Result
from .workloads.digits import mnist_digits, quantise_mnist

__all__ = ["main"]


def _digits(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Choose digits, as many of each, that the calibration of the quantiser has not seen."""
    images, labels = mnist_digits()
    seen = set(range(0, len(images), 50))
    unseen = np.array([index for index in range(len(images)) if index not in seen])
    chosen = unseen[np.linspace(0, len(unseen) - 1, count).astype(np.int64)]
    return images[chosen], labels[chosen]


def _sum(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Add up the figures of several runs of one program, layer by layer."""
    added = ("cycles", "macs", "dram_read_bytes", "dram_write_bytes", "checked", "mismatches", "sim_s",
             "build_s")

    def total(rows: list[dict[str, Any]]) -> dict[str, Any]:
        row = rows[0] | {key: sum(each[key] for each in rows) for key in added if key in rows[0]}
        row["utilisation"] = row["macs"] / (row["pes"] * row["cycles"])
        return row

    whole = total(records)
    by_layer = zip(*(record["layers"] for record in records), strict=True)
    whole["layers"] = [total(list(rows)) for rows in by_layer]
    return whole


def demonstrate(images: int, on: str, engine: str, output: Path) -> dict[str, Any]:
    """Quantise the MNIST CNN, generate the hardware, classify digits on it and compare every tensor.

    Parameters
    ----------
    images : int
        How many digits.
    on : str
        Configuration.
    engine : str
        Engine.
    output : Path
        Folder for the quantised model, the Verilog and the figures.

    Returns
    -------
    dict
        The figures of ``pearray run --json`` summed over the digits, with ``images`` and ``correct``.
    """
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    begin = time.perf_counter()
    system = load_config(on)
    output.mkdir(parents=True, exist_ok=True)
    model = load_onnx(quantise_mnist(output / "mnist-int8.onnx"))
    graph = model.graph()
    console.print(f"quantised the trained CNN to int8: {output / 'mnist-int8.onnx'}")
    manifest = generate(system.hardware, output)
    console.print(f"generated {output / manifest['name']}.v, "
                  f"{(output / manifest['name']).with_suffix('.v').stat().st_size:,} bytes")
    handle = Handle(graph, system)
    compiled = handle.compiled("all")
    console.print(f"compiled {len(compiled.layers)} layers to {len(compiled.program.commands)} commands; "
                  f"building the simulator (a minute or so, the first time)")
    pixels, labels = _digits(images)
    records, correct = [], 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("classifying digits on the RTL", total=images)
        for image, label in zip(pixels, labels, strict=True):
            inputs = {next(iter(model.inputs)): image[None]}
            result: Result = handle.run(inputs, engine, "all")
            counts = compare(result.outputs, graph.golden(inputs))
            records.append(run_record("mnist", system.name, engine, 0, result, counts))
            correct += int(result.outputs[model.outputs[0]].argmax() == label)
            bar.update(task, advance=1)
    whole = _sum(records)
    title = f"{images} digits on {system.name}, {whole['pes']} PEs"
    console.print(layer_table(title, whole["layers"], whole))
    console.print("A layer is counted from the end of the one before; what the array has done for it before that, too.")
    console.print(f"accuracy {correct} of {images} = {100 * correct / images:.1f} % "
                  "(on training images of MNIST, so this says nothing about unseen digits)")
    console.print(f"{whole['mismatches']:,} mismatches with NumPy in {whole['checked']:,} elements; "
                  f"{whole['cycles'] / images:,.0f} cycles a digit")
    console.print(f"{time.perf_counter() - begin:.0f} s in all, {whole['build_s']:.0f} s building, "
                  f"{whole['sim_s']:.1f} s simulating")
    whole |= {"images": images, "correct": correct}
    (output / "mnist.json").write_text(json.dumps(whole, indent=1) + "\n")
    return whole


def _command(
    images: Annotated[int, typer.Option(min=1, max=4900, help="How many digits.")] = 100,
    on: Annotated[str, typer.Option("--on", metavar="CONFIG", help="Configuration.")] = "systolic-8x8",
    engine: Annotated[str, typer.Option(help="verilator, cocotb or amaranth.")] = "verilator",
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write to.")] = Path("build/mnist"),
) -> None:
    """Classify handwritten digits with a trained CNN on generated hardware."""
    if demonstrate(images, on, engine, output)["mismatches"]:
        raise typer.Exit(1)


def main() -> None:
    """Run the demonstration and exit: 0 if every tensor is right."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(_command)
    exit_with(app, "python -m pearray.demo")


if __name__ == "__main__":
    main()
