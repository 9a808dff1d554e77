"""Product code in pieces that a reader can hold: no function over 60 lines, no file over 400, or a reason here."""

import ast
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = [*tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"].values(),
           "examples"]

MOST_IN_FUNCTION = 60
MOST_IN_FILE = 400

#: What is longer, as file and function, or file and nothing for the file itself, and why it is not divided.
EXEMPT: dict[tuple[str, str], str] = {}


def files():
    """Yield the files of the product, each with its path from the root."""
    for folder in FOLDERS:
        found = [path for path in sorted(ROOT.joinpath(folder).rglob("*.py")) if "tests" not in path.parts]
        assert found, folder
        yield from ((path, path.relative_to(ROOT).as_posix()) for path in found)


def functions(node, outer=""):
    """Yield the functions of a tree, those within functions too, each with its name within the file."""
    for child in ast.iter_child_nodes(node):
        name = outer
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{outer}.{child.name}".removeprefix(".")
            if not isinstance(child, ast.ClassDef):
                yield name, child
        yield from functions(child, name)


def too_long(path, name):
    """Yield what is too long in a file, with its lines: the file itself, and functions with their docstrings."""
    text = path.read_text()
    lines = len(text.splitlines())
    if lines > MOST_IN_FILE:
        yield (name, ""), lines
    for function, node in functions(ast.parse(text)):
        lines = node.end_lineno - node.lineno + 1
        if lines > MOST_IN_FUNCTION:
            yield (name, function), lines


def test_sizes():
    """What has grown past these sizes holds several ideas, and nobody reads it as one."""
    found = dict(item for path, name in files() for item in too_long(path, name))
    new = {place: lines for place, lines in found.items() if place not in EXEMPT}
    assert not new, f"divide where an idea ends, or say in EXEMPT why not: {new}"
    stale = EXEMPT.keys() - found.keys()
    assert not stale, f"short enough, and no longer to be named in EXEMPT: {stale}"


def test_each_exemption_has_a_reason():
    """An exemption without a reason would let anything grow."""
    assert all(len(reason.split()) >= 4 for reason in EXEMPT.values())


def test_long_parts_are_found(tmp_path):
    """A measure that misses methods, or what stands within a function, would find every tree in order."""
    path = tmp_path / "long.py"
    body = "\n".join(["            pass"] * MOST_IN_FUNCTION)
    method = f"    def outer(self):\n        async def inner():\n{body}\n"
    short = "def short():\n" + "    pass\n" * (MOST_IN_FUNCTION - 1)
    path.write_text(f"class Part:\n{method}{short}")
    assert dict(too_long(path, "long.py")) == {
        ("long.py", "Part.outer"): MOST_IN_FUNCTION + 2, ("long.py", "Part.outer.inner"): MOST_IN_FUNCTION + 1}
    path.write_text("x = 1\n" * MOST_IN_FILE)
    assert not dict(too_long(path, "long.py"))
    path.write_text("x = 1\n" * (MOST_IN_FILE + 1))
    assert dict(too_long(path, "long.py")) == {("long.py", ""): MOST_IN_FILE + 1}
