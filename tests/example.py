"""The example of a plug-in among the kinds of array under test, whether or not it is installed."""

import importlib
import sys
import tempfile
import tomllib
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

__all__ = ["EXAMPLE", "provide"]

EXAMPLE = Path(__file__).parents[1] / "examples" / "dot_array"


def provide(at_end: Callable[[Callable[[], None]], None]) -> None:
    """Put the example on the path, with its table of entry points beside it as pip would, unless it is installed.

    Parameters
    ----------
    at_end : callable
        Registers what is to be done when the tests have ended.
    """
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    tables = project["entry-points"]
    if all(set(entries) <= entry_points(group=group).names for group, entries in tables.items()):
        return
    place = tempfile.TemporaryDirectory(prefix="pearray-")
    at_end(place.cleanup)
    described = Path(place.name) / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    described.mkdir()
    (described / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    (described / "entry_points.txt").write_text("".join(
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
        for group, entries in tables.items()))
    sys.path[:0] = [place.name, str(EXAMPLE)]
    importlib.invalidate_caches()
