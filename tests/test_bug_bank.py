"""Every fault of the bug bank is caught: a suite that passes with broken hardware proves nothing."""

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


@pytest.mark.parametrize("fault", BANK, ids=[fault.name for fault in BANK])
def test_fault_is_caught(fault, seed):
    """If this fails, the named test no longer notices that the named line is wrong."""
    command = [sys.executable, "-m", "pytest", "-q", "--maxfail", "0" if fault.every else "1",
               "-p", "no:cacheprovider", "--rootdir", str(TESTS.parent), "-c", str(TESTS.parent / "pyproject.toml"),
               "--seed", str(seed), "--fault", fault.name, str(TESTS / fault.test)]
    run = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 1, f"{fault.test} did not fail:\n{run.stdout[-2000:]}\n{run.stderr[-2000:]}"
    assert " failed" in run.stdout
    assert not fault.every or " passed" not in run.stdout.splitlines()[-1], run.stdout[-2000:]
    assert "error" not in run.stdout.splitlines()[-1], run.stdout[-2000:]
