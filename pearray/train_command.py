"""``pearray train``: the loop, its checkpoints, its curve and its record."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .configuration import System, load_config
from .hdl.errors import PearrayError, check_choice
from .options import Json, On, Seed, SetConfig, console_of, overrides_of, path_of, seed_of, write_json

if TYPE_CHECKING:
    import numpy as np

    from .checkpoints import Checkpoint
    from .compiler.operators import Optimiser
    from .training import LossScale, Training
    from .workloads.digit_training import Network

__all__ = ["train"]

#: Formats whose operands are rounded at random, and first factors of the loss of those that have few exponents.
_RANDOM = "float8_e4m3fn", "float8_e5m2"
_FACTORS = dict.fromkeys(("float16", *_RANDOM), 1024.0)

#: Steps without a loss after which the factor is doubled.
_INTERVAL = 100


def train(
    workload: Annotated[str, typer.Argument(metavar="WORKLOAD", help="digits-cnn, digits-mlp or digits-vit.")],
    on: On,
    steps: Annotated[int, typer.Option(min=1, metavar="N", help="Steps in all, those before --resume included.")],
    batch: Annotated[int, typer.Option(min=1, metavar="B", help="Images of a step.")] = 32,
    optimiser: Annotated[str, typer.Option(help="adam or sgd.")] = "adam",
    lr: Annotated[float, typer.Option(help="Learning rate.")] = 0.002,
    momentum: Annotated[float, typer.Option(help="Of sgd.")] = 0.9,
    weight_decay: Annotated[float, typer.Option(help="Times the weights, is added to gradients.")] = 0.0,
    rounding: Annotated[str, typer.Option(
        help="How operands are rounded to the array's format: nearest, random, or auto: random for FP8.")] = "auto",
    check_every: Annotated[int, typer.Option(min=0, metavar="K", help=(
        "Run every K-th step on the RTL, too, and compare; 0 for never. What the accelerator has no program for, as "
        "most without post.routines, is computed by golden models between programs, and listed."))] = 50,
    engine: Annotated[str, typer.Option(help="verilator, cocotb or amaranth.")] = "verilator",
    checkpoint: Annotated[Path | None, typer.Option(
        metavar="DIR", parser=path_of, help="Folder to keep a checkpoint in.")] = None,
    checkpoint_every: Annotated[int, typer.Option(min=1, metavar="N", help="Steps between checkpoints.")] = 10,
    resume: Annotated[bool, typer.Option("--resume", help=(
        "Go on from the folder's checkpoint, to the same bits as without a break; begin if there is none."))] = False,
    plot: Annotated[Path | None, typer.Option(
        metavar="FILE.png", parser=path_of, help="Draw the loss; needs pearray[train].")] = None,
    seed: Seed = "0", settings: SetConfig = None, json_file: Json = None,
) -> None:
    """Train a network on an array of floats, and judge it by digits that it has not seen.

    Each step is computed by golden models in NumPy, in the order in which the array adds; every K-th also runs on the
    RTL and must be equal in every element. Without --check-every that is every fiftieth.
    """
    from .compiler.operators import SGD, Adam
    from .workloads.digit_training import network_of

    network, keys = network_of(workload), overrides_of(settings)
    if keys[1]:
        raise PearrayError(f"--set takes keys of the configuration, not workload.{next(iter(keys[1]))}: see --batch, "
                           "--lr and others")
    check_choice("optimiser", optimiser, ("adam", "sgd"))
    check_choice("rounding", rounding, ("auto", "nearest", "random"))
    if resume and checkpoint is None:
        raise PearrayError("--resume needs the folder of a checkpoint (--checkpoint DIR)")
    draw = None if plot is None else _drawing(plot)
    kind: Optimiser = (Adam(lr=lr, weight_decay=weight_decay) if optimiser == "adam"
                       else SGD(lr=lr, momentum=momentum, weight_decay=weight_decay))
    system = load_config(on, keys[0])
    run = _Run(workload, network, system, kind, batch, seed_of(seed), rounding, engine, check_every)
    run.begin(checkpoint, resume)
    if run.resumed > steps:
        raise PearrayError(f"--steps must be at least {run.resumed}, which the checkpoint has, not {steps}")
    run.until(steps, checkpoint, checkpoint_every)
    record = run.record()
    _tell(record)
    write_json(json_file, record)
    if draw is not None:
        draw(run.losses, f"{workload} on {system.name}")
    if record["mismatches"]:
        raise typer.Exit(1)


@dataclass
class _Run:
    """One run of the command."""

    workload: str
    network: "Network"
    system: System
    optimiser: "Optimiser"
    batch: int
    seed: int
    rounding: str
    engine: str
    check_every: int
    losses: list[float] = field(default_factory=list)
    resumed: int = 0
    began: float = field(default_factory=time.perf_counter)

    def begin(self, folder: Path | None, resume: bool) -> None:
        """Read the data, compile the step, and go on from a checkpoint if there is one."""
        from . import checkpoints
        from .training import train_step
        from .workloads.digit_training import drawn_weights, held_out
        from .workloads.digits import small_digits

        found = None if folder is None else checkpoints.load(folder)
        if found is not None and not resume:
            raise PearrayError(f"folder {str(folder)!r} has a checkpoint of step {found.snapshot.steps}: go on from it "
                               "by --resume, or take another folder")
        if folder is not None:
            checkpoints.prepare(folder)
        self.learned, self.judged = held_out(*small_digits(), self.seed)
        if self.batch > len(self.learned["labels"]):
            raise PearrayError(f"batch must be at most {len(self.learned['labels'])}, the images there are to learn "
                               f"from, not {self.batch}")
        graph = self.network.graph(drawn_weights(self.network, self.seed), self.batch)
        self.format = self.system.hardware.arithmetic.operands
        self.random = self.rounding == "random" or (self.rounding == "auto" and self.format in _RANDOM)
        self.training: Training = train_step(
            graph, "loss", self.optimiser, weights=[*self.network.weights], on=self.system, stochastic=self.random,
            scale=self._scale(), seed=self.seed, engine=self.engine, check_every=self.check_every)
        if found is not None:
            self._go_on(found)

    def _scale(self) -> "LossScale | None":
        from .training import LossScale

        return LossScale(_FACTORS[self.format], _INTERVAL) if self.format in _FACTORS else None

    @property
    def made_of(self) -> dict[str, Any]:
        """What decides the bits of the run."""
        return {"workload": self.workload, "hardware": str(self.system.hardware), "optimiser": str(self.optimiser),
                "batch": self.batch, "seed": self.seed, "rounding": "random" if self.random else "nearest"}

    def _go_on(self, found: "Checkpoint") -> None:
        for name, value in self.made_of.items():
            if name == "hardware" and found.made_of.get(name) != value:
                raise PearrayError("hardware must be that of the checkpoint: take the same --on and --set, or another "
                                   "folder")
            if found.made_of.get(name) != value:
                raise PearrayError(f"{name} must be that of the checkpoint, {found.made_of.get(name)!r}, not {value!r}")
        self.training.restore(found.snapshot)
        self.losses, self.resumed = found.losses.tolist(), found.snapshot.steps
        for name, value in found.checks.items():
            setattr(self.training, name, value)

    def until(self, steps: int, folder: Path | None, every: int) -> None:
        """Take steps up to a number of them, with the loss before people's eyes."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        from .workloads.digit_training import batch_of

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                   TextColumn("loss {task.fields[loss]}"), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(self.workload, total=steps, completed=self.training.steps, loss="")
            while self.training.steps < steps:
                step = self.training.steps
                checks = self.check_every and step % self.check_every == 0
                bar.update(task, description=f"{self.workload}{', on the RTL' if checks else ''}")
                self.losses.append(self.training.step(batch_of(self.learned, self.batch, self.seed, step)))
                bar.update(task, completed=step + 1, loss=f"{self.losses[-1]:.4f}")
                if folder is not None and ((step + 1) % every == 0 or step + 1 == steps):
                    self._save(folder)

    def _save(self, folder: Path) -> None:
        import numpy as np

        from . import checkpoints

        training = self.training
        checks = {name: getattr(training, name) for name in checkpoints.CHECKS}
        checkpoints.save(folder, checkpoints.Checkpoint(
            training.snapshot(), np.array(self.losses, np.float32), self.made_of, checks))

    def record(self) -> dict[str, Any]:
        """The document that ``--json`` writes."""
        import math

        from . import report
        from .workloads.digit_training import accuracy

        training, result = self.training, self.training.result
        return {
            "workload": self.workload, "config": self.system.name, "engine": self.engine, "format": self.format,
            "rounding": self.made_of["rounding"], "optimiser": str(self.optimiser), "batch": self.batch,
            "seed": self.seed, "steps": training.steps, "resumed_from": self.resumed, "lost_steps": training.lost,
            "loss_factor": None if training.scale is None else training.scale.value,
            "losses": [loss if math.isfinite(loss) else None for loss in self.losses],
            "weights_sha256": _digest(training.snapshot().tensors),
            "held_out": len(self.judged["labels"]),
            "accuracy": accuracy(self.network, training.weights, self.judged, self.format),
            "check_every": self.check_every, "checked_steps": training.checked_steps, "checked": training.checked,
            "mismatches": training.mismatches, "first_difference": training.first_difference,
            "step_on_rtl": None if result is None else {
                "cycles": result.cycles, "macs": result.macs, "pes": result.pes,
                "utilisation": round(result.utilisation, 6), "dram_read_bytes": result.dram_read_bytes,
                "dram_write_bytes": result.dram_write_bytes, "sim_s": round(result.sim_s, 3),
                "verilog_sha256": result.verilog_sha256},
            "host": None if training.host is None else report.host_record(training.host),
            "wall_s": round(time.perf_counter() - self.began, 3),
        }


def _digest(tensors: "dict[str, np.ndarray]") -> str:
    """Hash of all bits of tensors."""
    from hashlib import sha256

    found = sha256()
    for name in sorted(tensors):
        found.update(name.encode() + tensors[name].tobytes())
    return found.hexdigest()


def _tell(record: dict[str, Any]) -> None:
    """Print what came of it, and what ran where."""
    from rich.table import Table

    console, host, step = console_of(), record["host"], record["step_on_rtl"]
    table = Table("what", record["workload"], title=f"{record['config']}, {record['rounding']} rounding")
    losses = [loss for loss in record["losses"] if loss is not None]
    table.add_row("steps, and lost ones", f"{record['steps']:,}, {record['lost_steps']:,}")
    if losses:
        table.add_row("loss, first and last", f"{losses[0]:.4f}, {losses[-1]:.4f}")
    table.add_row(f"of {record['held_out']} held-out digits", f"{100 * record['accuracy']:.1f} % right")
    table.add_row("steps on the RTL", f"{record['checked_steps']:,}; {record['checked']:,} elements compared, "
                                      f"{record['mismatches']:,} mismatches")
    if step is not None:
        table.add_row("a step on the RTL", f"{step['cycles']:,} cycles, {100 * step['utilisation']:.1f} % of the PEs")
    console.print(table)
    if record["first_difference"] is not None:
        console.print(f"first mismatch: {record['first_difference']}", markup=False, soft_wrap=True)
    if host is not None:
        counted: dict[str, int] = {}
        for node in host["nodes"]:
            counted[node["operator"]] = counted.get(node["operator"], 0) + node["count"]
        console.print(f"of a checked step {host['programs']} programs ran on the RTL, "
                      f"{100 * host['accelerator_share']:.1f} % of its multiply-accumulates; golden models on the host "
                      f"computed {', '.join(f'{count} {name}' for name, count in counted.items())}", soft_wrap=True)
    elif step is not None:
        console.print("a checked step is one program, from the batch to the new weights, and all of it ran on the RTL")
    console.print("all other steps, and the judgement, ran in NumPy")


def _drawing(path: Path) -> "Callable[[list[float], str], None]":
    """What draws the loss; found before hours of training.

    Raises
    ------
    PearrayError
        If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise PearrayError("--plot needs matplotlib: run `pip install pearray[train]`") from None

    def draw(losses: list[float], title: str) -> None:
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        axes.plot(range(len(losses)), losses, linewidth=0.8)
        axes.set(xlabel="step", ylabel="loss", title=title, ylim=(0, None))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(path, dpi=150, format="png")
        except OSError as error:
            raise PearrayError(f"--plot file {str(path)!r} cannot be written: {error.strerror}") from None

    return draw
