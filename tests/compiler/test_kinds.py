"""The table of kinds of array, and what each must bring."""

import re
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import pearray as pe
from pearray.compiler import kinds
from pearray.compiler.kinds import ArrayCompiler, compiler_for
from pearray.compiler.program import Program
from pearray.compiler.steps import Group, Step, all_of
from pearray.hdl.shell.commands import Opcode
from pearray.memory import MemoryTiming

ROOT = Path(__file__).parents[2]


def test_every_preset_has_its_compiler():
    """A kind that is not in the table could be generated but not programmed."""
    assert {pe.load_config(name).hardware.array.kind for name in pe.presets()} <= set(kinds.kinds())
    for name in pe.presets():
        assert isinstance(compiler_for(pe.load_config(name).hardware), ArrayCompiler)


def test_unknown_kinds_are_named(monkeypatch):
    """A package that is not installed must give one line, not a traceback from inside."""
    monkeypatch.setattr(kinds, "kinds", lambda: {})
    kinds._load.cache_clear()
    with pytest.raises(pe.PearrayError, match=r"^array.kind must be one that a compiler is installed for \(\), not "):
        compiler_for(pe.load_config("systolic-8x8").hardware)
    kinds._load.cache_clear()


def _entry(name, value):
    return EntryPoint(name, value, kinds.GROUP)


@pytest.mark.parametrize(("entries", "message"), [
    ([_entry("systolic", "no_such_package:DOTS")], r"^kind of array 'systolic' \(no_such_package:DOTS\) of .* cannot "
     r"be loaded: ModuleNotFoundError: No module named 'no_such_package'; repair or uninstall "),
    ([_entry("systolic", "pearray.compiler.steps:NOTHING")], r"cannot be loaded: AttributeError: "),
    ([_entry("systolic", "math:pi")], r"^kind of array 'systolic' \(math:pi\) of .* must be an ArrayCompiler, not 3"),
    ([_entry("systolic", "pearray.compiler.systolic.kind:COMPILER")] * 2, r"^name of a kind of array must be its own, "
     r"but compilers of .* and .* both have 'systolic': uninstall one of them$"),
])
def test_wrong_plug_ins(monkeypatch, entries, message):
    """A compiler that cannot be imported, or hides another, must be told in a line that names its package."""
    monkeypatch.setattr(kinds, "entry_points", lambda group: entries)
    kinds.kinds.cache_clear()
    kinds._load.cache_clear()
    try:
        with pytest.raises(pe.PearrayError, match=message) as caught:
            compiler_for(pe.load_config("systolic-8x8").hardware)
        assert "\n" not in str(caught.value)
    finally:
        kinds.kinds.cache_clear()
        kinds._load.cache_clear()


def test_no_kind_is_named_outside_its_room():
    """Shared code that knows a kind by name is code that a plug-in cannot use."""
    rooms = ("compiler/systolic/", "compiler/row_stationary/")
    for path in sorted((ROOT / "compiler").rglob("*.py")):
        where = path.relative_to(ROOT).as_posix()
        if not where.startswith(rooms):
            found = re.findall(r"(?i)systolic|row[-_ ]?stationary", path.read_text())
            assert not found, (where, found)


def test_settings_of_another_kind_are_refused(rng):
    """A setting that nobody reads would be taken for one that was obeyed."""
    tensors = {"a": rng.integers(-9, 9, (3, 4), dtype="int8"), "b": rng.integers(-9, 9, (4, 5), dtype="int8")}
    with pytest.raises(pe.PearrayError, match=r"^unknown setting of a systolic array 'mapping': allowed: "):
        pe.run(pe.Gemm(), tensors, on="systolic-8x8", mapping="own")
    with pytest.raises(pe.PearrayError, match=r"^unknown setting of a row-stationary array 'mappings': did you mean "):
        pe.run(pe.Gemm(), tensors, on="eyeriss", mappings="own")


def test_steps_are_never_dropped():
    """A step that its kind's scheduler does not know would be a layer that is not computed."""
    class Other(Step):
        pass

    steps = [Other(Group([])), Other(Group([]))]
    assert all_of(Other, steps) == steps
    with pytest.raises(TypeError, match=r"^steps must be of type Other, not Step$"):
        all_of(Other, [*steps, Step(Group([]))])


def test_a_program_has_a_price(rng):
    """Progress of a run, and comparisons of programs, rest on it."""
    config = pe.load_config("systolic-8x8").hardware
    program = Program(config.commands)
    copy = {"length": 64, "count1": 1, "count2": 1, "destination": 0} | dict.fromkeys(
        ("address", "dram", "dram_step1", "dram_step2"), 0)
    program.emit(Opcode.LOAD, {}, copy)
    late = MemoryTiming(read_latency=500)
    assert 32 < compiler_for(config).cycles(config, program) < 500 < compiler_for(config).cycles(config, program, late)
    assert compiler_for(config).counters(config, program)["load_beats"] == 8
