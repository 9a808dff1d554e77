"""Agreement of ``pyproject.toml`` with the tree, and of the wheel with both."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def setuptools():
    with (ROOT / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)["tool"]["setuptools"]


def test_every_package_is_listed(setuptools):
    """An unlisted folder works in an editable install and is missing from the wheel."""
    found = {".".join([name, *path.parent.relative_to(ROOT / folder).parts])
             for name, folder in setuptools["package-dir"].items()
             for path in (ROOT / folder).rglob("__init__.py")}
    assert set(setuptools["packages"]) == found


def test_every_package_is_typed(setuptools):
    """Without its marker a type checker ignores the whole package."""
    for folder in setuptools["package-dir"].values():
        assert (ROOT / folder / "py.typed").is_file(), folder


def test_nothing_that_was_made_is_kept():
    """What a command wrote into the checkout would be in every clone, and in every search, for ever."""
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    known = {".gitignore", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "pyproject.toml"}
    assert {name for name in listing.splitlines() if "/" not in name} == known


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    tracked = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, tracked):
        # A build in the repository itself would pick up what an earlier one left there.
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", folder, source]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    path, = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def test_wheel_holds_only_pearray(wheel):
    """A user's own ``hdl`` or ``sim`` folder must never meet one of ours in site-packages."""
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"pearray"}


def test_wheel_holds_every_file(wheel, setuptools):
    """A preset, a C++ file or a module left out of the wheel breaks only other people's machines."""
    names = set(wheel.namelist())
    for package, folder in setuptools["package-dir"].items():
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert f"{package.replace('.', '/')}/{path.relative_to(ROOT / folder)}" in names
