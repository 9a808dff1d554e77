"""Arguments and options that commands share, and what commands do with them."""

import json
import sys
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from .hdl.errors import PearrayError

__all__ = [
    "ConfigName", "Fallback", "Folder", "Json", "On", "Seed", "Set", "SetConfig", "WorkloadName", "console_of",
    "overrides_of", "path_of", "seed_of", "write_json",
]


def path_of(text: str) -> Path:
    """Return a path that is given as text; an empty one, which would be the present folder, is none."""
    if not text:
        raise typer.BadParameter("must be a path, not ''")
    return Path(text)


def seed_of(text: str) -> int:
    """Return a seed that is given as text."""
    # The parser's own message would not say what was given.
    if not text.isdecimal() or not text.isascii() or len(text) > 100:
        raise PearrayError(f"seed must be an integer of at least 0 and at most 100 digits, not {text!r}")
    return int(text)


def overrides_of(given: list[str] | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split ``--set`` options into those of the configuration and those of the workload."""
    config: dict[str, Any] = {}
    workload: dict[str, Any] = {}
    for text in given or []:
        key, equals, value = text.partition("=")
        if not equals:
            raise PearrayError(f"--set must be KEY=VALUE, not {text!r}")
        try:
            parsed = tomllib.loads(f"value = {value}")["value"]
        except (ValueError, RecursionError):
            parsed = value
        if key.startswith("workload."):
            workload[key.removeprefix("workload.")] = parsed
        else:
            config[key] = parsed
    return config, workload


def write_json(path: Path | None, document: Any) -> None:
    """Write the results of a command, if there is a file for them."""
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, indent=1) + "\n")
    except OSError as error:
        raise PearrayError(f"--json file {str(path)!r} cannot be written: {error.strerror}") from None


def console_of() -> Console:
    """Standard output."""
    # Without a terminal there is no width to keep to, and a folded number cannot be searched for.
    return Console(highlight=False, width=None if sys.stdout.isatty() else 120)


ConfigName = Annotated[str, typer.Argument(metavar="CONFIG", help="Preset or path of a TOML file.")]
WorkloadName = Annotated[str, typer.Argument(
    metavar="WORKLOAD", help="gemm:MxKxN, conv:N,C,H,W,M,R,S,stride,padding, a name from `pearray list`, "
                             "or an ONNX file.")]
On = Annotated[str, typer.Option("--on", metavar="CONFIG", help="Preset or path of a TOML file.")]
Folder = Annotated[Path, typer.Option(
    "-o", "--output", metavar="DIR", parser=path_of, help="Folder to write to.")]
Seed = Annotated[str, typer.Option(metavar="N", help="Seed of the workload's tensors.")]
Fallback = Annotated[str | None, typer.Option(
    metavar="WHO", help="host: onnxruntime computes on the host what cannot be mapped of an ONNX file; exact: it also "
                        "computes what programs compute only within a bound.")]
Json = Annotated[Path | None, typer.Option(
    "--json", metavar="FILE", parser=path_of, help="Write the results as JSON too.")]
Set = Annotated[list[str] | None, typer.Option(
    "--set", metavar="KEY=VALUE", help="Override a key of the configuration (array.rows=8) or workload "
                                       "(workload.batch=4); may be repeated.")]
SetConfig = Annotated[list[str] | None, typer.Option(
    "--set", metavar="KEY=VALUE", help="Override a key of the configuration (array.rows=8); may be repeated.")]
