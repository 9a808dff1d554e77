"""Agreement of the reference pages and the README with the code that they describe."""

import importlib.util
import re
from pathlib import Path

import pytest

import pearray as pe
from pearray.cli import app

DOCS = Path(__file__).parents[1] / "docs"

spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
pages = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pages)


@pytest.mark.parametrize("name", pages.PAGES)
def test_page_is_up_to_date(name):
    """A host programmed from a stale page would write to the wrong register or field."""
    assert (DOCS / name).read_text() == pages.PAGES[name](), "run `python docs/generate.py`"


def test_readme_examples(tmp_path, monkeypatch):
    """An example that fails is the first thing a newcomer meets."""
    pytest.importorskip("onnxruntime")
    from pearray.workloads.digits import quantise_mnist

    (tmp_path / "build" / "mnist").mkdir(parents=True)
    quantise_mnist(tmp_path / "build" / "mnist" / "mnist-int8.onnx")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (DOCS.parent / "README.md").read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})


def test_readme_commands():
    """A command in the README that is none, or a preset that is none, sends people away."""
    text = (DOCS.parent / "README.md").read_text()
    commands = {command.name or command.callback.__name__ for command in app.registered_commands}
    shown = "".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
    assert set(re.findall(r"^pearray (\w+)", shown, re.MULTILINE)) == commands
    assert set(re.findall(r"systolic-\d+x\d+", text)) <= set(pe.presets())
