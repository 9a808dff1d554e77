"""Arguments and options that commands share."""

from pathlib import Path
from typing import Annotated

import typer

from .hdl.errors import PearrayError

__all__ = [
    "ConfigName", "Fallback", "Folder", "Json", "On", "Seed", "Set", "SetConfig", "WorkloadName", "path_of", "seed_of",
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
