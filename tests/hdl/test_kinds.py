"""Kinds of array: a plug-in is found and runs, and a broken one is told in a line."""

import importlib
import shutil
import sys
from importlib.metadata import EntryPoint

import numpy as np
import pytest

import pearray as pe
from pearray.generation import describe
from pearray.hdl import kinds as module
from pearray.hdl.kinds import GROUP, kind, kinds
from pearray.hdl.shell.commands import Opcode, Rounding
from pearray.sim import Job, run
from pearray.sim.design import emitted

#: A kind in a package of its own: an array that pearray has, under another name and number.
SOURCE = '''
from dataclasses import replace

from pearray.hdl.systolic.config import SystolicConfig
from pearray.hdl.systolic.core import SystolicCore
from pearray.hdl.systolic.hardware import SYSTOLIC


class MirrorConfig(SystolicConfig):
    KIND, NUMBER = "mirror", 77


class MirrorCore(SystolicCore):
    pass


MIRROR = replace(SYSTOLIC, config=MirrorConfig, core=MirrorCore)
'''

TOML = '''
[array]
kind = "mirror"
rows = 2
cols = 2

[scratchpads]
activation_bytes = 256
weight_bytes = 256
output_bytes = 256

[accumulators]
depth = 16

[post]

[memory]
data_width = 32
'''


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """Install the plug-in as pip would; return the file of a configuration, and the module's."""
    package, described = tmp_path / "mirror_array", tmp_path / "mirror_array-1.0.dist-info"
    package.mkdir()
    described.mkdir()
    (package / "__init__.py").write_text("")
    (package / "hardware.py").write_text(SOURCE)
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: mirror-array\nVersion: 1.0\n")
    (described / "entry_points.txt").write_text(f"[{GROUP}]\nmirror = mirror_array.hardware:MIRROR\n")
    (tmp_path / "small.toml").write_text(TOML)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PEARRAY_CACHE", str(tmp_path / "cache"))
    importlib.invalidate_caches()
    kinds.cache_clear()
    yield tmp_path / "small.toml", package / "hardware.py"
    kinds.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "mirror_array"]:
        del sys.modules[name]


def test_plug_in_runs(mirror, rng):
    """A kind that pearray does not know could not be configured, elaborated, run or looked into."""
    path, source = mirror
    assert list(kinds())[:3] == ["systolic", "row-stationary", "mirror"]
    config = pe.load_config(path).hardware
    assert (config.array.kind, type(config).__module__) == ("mirror", "mirror_array.hardware")
    assert kind("mirror").sources == (source.parent,)
    for top in ("pe", "array"):
        describe(config, top)
    _, manifest = describe(config)
    register = next(each for each in manifest["registers"] if each["name"] == "kind")
    assert register["doc"] == "kind of array; 77: mirror"

    rows, inner, cols = 5, 7, 2
    a = rng.integers(-128, 128, (rows, inner), np.int8)
    b = rng.integers(-128, 128, (inner, cols), np.int8)
    memory = config.commands.destination
    one = {"count1": 1, "count2": 1}
    commands = [
        (Opcode.LOAD, {}, {"destination": memory.ACTIVATION, "dram": 0x1000, "length": a.size} | one),
        (Opcode.LOAD, {}, {"destination": memory.WEIGHT, "dram": 0x2000, "length": b.size} | one),
        (Opcode.EXECUTE, {"load": 2}, {
            "first": 1, "k_total": inner, "run": inner, "run_count": 1, "n_count": 1, "m_count0": rows, "m_count1": 1,
            "m_count2": 1, "m_step0": inner, "w_pitch": cols}),
        (Opcode.POST, {"execute": 1}, {"rounding": Rounding.NONE, "n_count": 1, "m_count": rows,
                                       "out_mstep": 4 * cols}),
        (Opcode.STORE, {"post": 1}, {"dram": 0x3000, "length": 4 * rows * cols} | one),
        (Opcode.END, {"store": 1}, {}),
    ]
    program = b"".join(config.commands.encode(*command) for command in commands)
    job = Job(config, [(0, program), (0x1000, a.tobytes()), (0x2000, b.tobytes())], 0, [(0x3000, 4 * rows * cols)])
    outcome = run(job, "amaranth")
    assert outcome.counters["execute_commands"] == 1
    c = np.frombuffer(outcome.regions[0], "<i4").reshape(rows, cols)
    np.testing.assert_array_equal(c, a.astype(np.int32) @ b.astype(np.int32))


def test_plug_in_is_emitted_again_when_it_changes(mirror):
    """A plug-in under development would go on running as it was when it was run first."""
    path, source = mirror
    config = pe.load_config(path).hardware
    before = emitted(config)
    cached = source.parents[1] / "cache" / "verilog"
    assert emitted(config).sha256 == before.sha256
    assert len([place for place in cached.iterdir() if place.is_dir()]) == 1
    source.write_text(SOURCE + "\n# Changed.\n")
    emitted(config)
    assert len([place for place in cached.iterdir() if place.is_dir()]) == 2
    shutil.rmtree(cached)


def _entry(name, value):
    return EntryPoint(name, value, GROUP)


@pytest.mark.parametrize(("entries", "message"), [
    ([], "there are no kinds of array: install pearray again"),
    ([_entry("dots", "no_such_package:DOTS")], r"kind of array 'dots' \(no_such_package:DOTS\) of .* cannot be loaded: "
     r"ModuleNotFoundError: No module named 'no_such_package'; repair or uninstall "),
    ([_entry("dots", "pearray.hdl.systolic.hardware:DOTS")], "cannot be loaded: AttributeError: "),
    ([_entry("dots", "math:pi")], r"kind of array 'dots' \(math:pi\) of .* must be an ArrayHardware, not 3.14"),
    ([_entry("dots", "pearray.hdl.systolic.hardware:SYSTOLIC")], "must be named as its configurations' KIND = 'syst"),
    ([_entry("systolic", "pearray.hdl.systolic.hardware:SYSTOLIC")] * 2,
     "name of a kind of array must be its own, but .* and .* both have 'systolic': uninstall one of them"),
])
def test_wrong_plug_ins(monkeypatch, entries, message):
    """A plug-in that cannot be loaded, or hides another, would be a traceback or a wrong accelerator."""
    monkeypatch.setattr(module, "entry_points", lambda group: entries)
    kinds.cache_clear()
    try:
        with pytest.raises(pe.PearrayError, match=message) as caught:
            kinds()
        assert "\n" not in str(caught.value)
    finally:
        kinds.cache_clear()


def test_numbers_are_their_own(mirror):
    """A host that reads the register would take one kind for another."""
    _, source = mirror
    source.write_text(SOURCE.replace("77", "1"))
    with pytest.raises(pe.PearrayError, match=r"number of a kind of array must be its own, but .* both have 1: uninst"):
        kinds()
