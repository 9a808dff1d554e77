"""Who knows whom: contracts of imports, no circles, and no kind of array named outside of its rooms."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import grimp
import pytest

import pearray as pe
from pearray.hdl.kinds import kinds

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = PROJECT["tool"]["setuptools"]["package-dir"]

#: Models of a kind's mapping, in NumPy alone, and the list of all models.
NAMING = {"golden/__init__.py", "golden/gating.py"}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Folder with the package as a wheel holds it: in a working copy its parts lie apart."""
    place = tmp_path_factory.mktemp("installed")
    for package, folder in sorted(FOLDERS.items()):
        shutil.copytree(ROOT / folder, place.joinpath(*package.split(".")), dirs_exist_ok=True,
                        ignore=shutil.ignore_patterns("__pycache__"))
    return place


def _lint(folder):
    """Check the contracts on the package in a folder; return the tool's exit code and what it says."""
    tool = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run([sys.executable, "-P", "-c", tool, "--no-cache", str(ROOT / "pyproject.toml")], cwd=folder,
                          capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_contracts(installed):
    """A part that knows what stands above it can neither be read nor changed alone."""
    code, output = _lint(installed)
    assert code == 0, output


def test_contracts_can_break(installed, tmp_path):
    """A tool that looked at another copy, or at nothing, would keep every contract."""
    shutil.copytree(installed, tmp_path, dirs_exist_ok=True)
    (tmp_path / "pearray/hdl/blocks/bad.py").write_text("from ..shell.config import Config\n__all__ = ['Config']\n")
    code, output = _lint(tmp_path)
    assert code == 1
    assert "pearray.hdl.blocks.bad -> pearray.hdl.shell.config" in output


def test_no_circles(installed, monkeypatch):
    """Of two files that import each other, none can be understood first."""
    monkeypatch.syspath_prepend(installed)
    graph = grimp.build_graph("pearray", cache_dir=None, exclude_type_checking_imports=True)
    assert len(graph.modules) > 150
    circles = {
        frozenset((importer, imported)) for importer in graph.modules
        for imported in graph.find_modules_directly_imported_by(importer)
        if graph.chain_exists(importer=imported, imported=importer)}
    assert not circles


def _product():
    """Texts of product code by path; presets are configurations and name their kind."""
    for folder in FOLDERS.values():
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".cpp", ".h", ".toml") and "presets" not in path.parts:
                yield path.relative_to(ROOT), path.read_text()


def test_kinds_are_named_in_their_rooms_only():
    """Code that asks for a kind by name does something else, or nothing, for a kind that a plug-in brings.

    Presets, whose names hold those of kinds, documentation and tests may name them, and so may the table of entry
    points in ``pyproject.toml``.
    """
    own = [name for name, hardware in kinds().items() if not hardware.sources]
    assert set(own) == set(PROJECT["project"]["entry-points"]["pearray.array_hardware"])
    rooms = {name.replace("-", "_") for name in own}
    pattern = re.compile("|".join(name.replace("-", "[-_ ]?") for name in own), re.IGNORECASE)
    presets = re.compile("|".join(map(re.escape, pe.presets())))
    found = {path.as_posix() for path, text in _product()
             if rooms.isdisjoint(path.parts) and pattern.search(presets.sub("", text))}
    assert found == NAMING
