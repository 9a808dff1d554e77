"""The accelerator in the cocotb verification environment."""

import json
import os
from pathlib import Path

import pytest
from kinds import PROGRAMS

from pearray.sim import cocotb_engine
from pearray.sim.design import emitted

HERE = Path(__file__).parent

#: Of the widths of a row-stationary array one: the other has the same ports, and takes a build of its own. Of systolic
#: arrays that which has more: its operators are those of the other, and more.
BENCHES = [kind for kind in PROGRAMS if kind.name not in ("row-stationary-16", "systolic")]


@pytest.mark.parametrize("kind", BENCHES, ids=[kind.name for kind in BENCHES])
@pytest.mark.timeout(900)
def test_accelerator(tmp_path, seed, kind, monkeypatch):
    """Every operator that an array has, under stalls on every channel, error responses, resets: golden's outputs."""
    verilog = emitted(kind.small)
    # The simulator is another process, which finds its test modules by the path.
    monkeypatch.syspath_prepend(HERE)
    tests, failures = cocotb_engine.simulate(
        cocotb_engine.build(verilog), verilog.top, "accelerator_tests", tmp_path,
        {"KIND": kind.name, "SEED": json.dumps(seed),
         "ROUNDS": os.environ.get("PEARRAY_COCOTB_ROUNDS", "1")})
    log = (tmp_path / "log").read_text()
    assert (tests, failures) == (4, 0), log[-5000:]
