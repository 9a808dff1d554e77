"""Every fault of the bug bank is caught: a suite that passes with broken hardware proves nothing."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from bug_bank import BANK

TESTS = Path(__file__).parent


def test_bank_is_large_enough():
    """A bank that shrinks would let a weaker suite pass."""
    assert len(BANK) >= 12
    assert len({fault.name for fault in BANK}) == len(BANK)


def test_every_fault_can_be_made():
    """A line that has changed would leave its fault, and the test that guards it, out of use."""
    for fault in BANK:
        source = Path(importlib.util.find_spec(fault.module).origin).read_text()
        assert source.count(fault.line) == 1, fault.name
        assert source.replace(fault.line, fault.fault) != source, fault.name
        assert (TESTS / fault.test.partition("::")[0]).exists(), fault.name


#: The first fault that each file of tests catches is always made; the others are slow.
USUAL = {fault.name for fault in {fault.test.partition("::")[0]: fault for fault in reversed(BANK)}.values()}


@pytest.mark.parametrize("fault", [
    pytest.param(fault, id=fault.name, marks=() if fault.name in USUAL else pytest.mark.slow) for fault in BANK])
def test_fault_is_caught(fault, seed):
    """If this fails, the named test no longer notices that the named line is wrong."""
    # Other packages' plug-ins take as long to import as all of ours.
    command = [sys.executable, "-m", "pytest", "-q", "-p", "pytest_timeout", "--maxfail", "0" if fault.every else "1",
               "-p", "no:cacheprovider", "--rootdir", str(TESTS.parent), "-c", str(TESTS.parent / "pyproject.toml"),
               "--seed", str(seed), "--fault", fault.name, str(TESTS / fault.test)]
    run = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, timeout=300, check=False,
                         env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"})
    assert run.returncode == 1, f"{fault.test} did not fail:\n{run.stdout[-2000:]}\n{run.stderr[-2000:]}"
    assert " failed" in run.stdout
    assert not fault.every or " passed" not in run.stdout.splitlines()[-1], run.stdout[-2000:]
    assert "error" not in run.stdout.splitlines()[-1], run.stdout[-2000:]
