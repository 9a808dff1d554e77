"""What a user may get wrong at the public calls and on the command line: one line and exit code 2, no traceback."""

import sys

import numpy as np
import pytest
from hostile import VALUES, refused_or

import pearray as pe
from pearray.cli import main

A = {"a": np.ones((3, 4), np.int8), "b": np.ones((4, 5), np.int8)}
PIXELS = {"x": np.ones((1, 2, 4, 4), np.int16), "w": np.ones((3, 2, 2, 2), np.int16)}
FIXED = pe.Conv2d(requant=pe.FixedPoint(2))

#: Calls with one argument to be wrong in, by name of the argument.
CALLS = {
    "on": lambda value: pe.compile(pe.Gemm(), A, on=value),
    "op_or_model": lambda value: pe.compile(value, A, on="systolic-8x8"),
    "tensors": lambda value: pe.golden_run(pe.Gemm(), value),
    "a": lambda value: pe.golden_run(pe.Gemm(), {**A, "a": value}),
    "keep": lambda value: pe.golden_run(pe.Gemm(), A, keep=value),
    "keep of a run": lambda value: pe.run(pe.Gemm(), A, on="systolic-8x8", engine="none", keep=value),
    "engine": lambda value: pe.run(pe.Gemm(), A, on="systolic-8x8", engine=value),
    "dataflow": lambda value: pe.compile(pe.Gemm(), A, on="systolic-8x8", dataflow=value),
    "effort": lambda value: pe.compile(pe.Gemm(), A, on="systolic-8x8", effort=value),
    "mapping": lambda value: pe.compile(FIXED, PIXELS, on="eyeriss", mapping=value),
    "coded": lambda value: pe.compile(FIXED, PIXELS, on="eyeriss", coded=value),
    "path": lambda value: pe.load_onnx(value),
    "source": lambda value: pe.load_config(value),
    "overrides": lambda value: pe.load_config("systolic-8x8", value),
    "array.rows": lambda value: pe.load_config("systolic-8x8", {"array.rows": value}),
    "memory.beats_per_cycle": lambda value: pe.compile(
        pe.Gemm(), A, on=pe.load_config("systolic-8x8", {"memory.beats_per_cycle": value})),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_calls(tmp_path, monkeypatch, call):
    """Every argument of the public calls, with values of every kind: refused, or taken and what follows works."""
    monkeypatch.chdir(tmp_path)
    # Searching takes longer than a mistake should.
    values = [value for value in VALUES if not (call is CALLS["effort"] and type(value) is int and value > 1)]
    for value in values:
        refused_or(lambda value=value: call(value), pe.PearrayError)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: pe.compile(pe.Gemm(), A, on="systolic-8x8", to=5), "to must be a path, not 5"),
    (lambda: pe.load_onnx(None), "ONNX file must be a path, not None"),
    (lambda: pe.golden_run(pe.Gemm(), A, keep=1), "keep must be names of tensors, not 1"),
    (lambda: pe.run(pe.Gemm(), A, on="systolic-8x8", keep=1), "keep must be names of tensors, not 1"),
    (lambda: pe.run(pe.Gemm(), A, on="systolic-8x8", engine=[]), "engine must be 'verilator', 'cocotb' or "),
    (lambda: pe.run(pe.Gemm(), A, on="systolic-8x8", progress=3.5), "progress must be None or a function of "),
    (lambda: pe.load_config("systolic-8x8", 1), "overrides must be a dict of values by section.key, not 1"),
    (lambda: pe.load_config("systolic-8x8", {"memory.beats_per_cycle": 1e-18}), "memory.beats_per_cycle must be a "),
    (lambda: pe.compile(FIXED, PIXELS, on="eyeriss", coded=1), "coded must be names of tensors, not 1"),
    (lambda: pe.compile(FIXED, PIXELS, on="eyeriss", coded="xy"), "unknown tensor of coded 'xy': did you mean "),
    (lambda: pe.compile(FIXED, PIXELS, on="eyeriss", coded=("clip", 0, 1)), "coded must be names of tensors, not ("),
    (lambda: pe.golden_run(pe.Gemm(), {**A, "a": np.ma.array(A["a"], mask=A["a"] == 1)}),
     "tensor 'a' must be an array of numbers, not masked_array("),
])
def test_messages(call, message):
    """The argument, its value and what is allowed, before anything is built."""
    with pytest.raises(pe.PearrayError) as caught:
        call()
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_name_alone_is_one_coded_tensor():
    """Its letters are no names."""
    compiled = pe.compile(FIXED, PIXELS, on="eyeriss", coded="x").compiled()
    assert type(compiled.inputs["x"]).__name__ == "CodedTensor"


def test_weights_changed_after_compiling():
    """Old weights, or a mixture of both, would run in silence: the program's constants are its own."""
    x, w = np.ones((2, 5), np.int8), np.full((3, 5), 2, np.int8)
    handle = pe.compile(pe.Linear(), {"x": x, "w": w}, on="systolic-8x8")
    w[:] = 7
    for keep in (None, "all"):
        with pytest.raises(pe.PearrayError, match=r"^w must be what it was when it was compiled, since it is part of"):
            handle.run({"x": x, "w": w}, keep=keep)
        np.testing.assert_array_equal(handle.graph.golden({"x": x})["y"], 10)
        assert handle.compiled("all").segments[0] == handle.compiled().segments[0]


def _run(arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["pearray", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    output = capsys.readouterr()
    assert ended.value.code in (0, 2), output.err
    assert output.err.count("\n") == (ended.value.code == 2), output.err
    return ended.value.code, output


SIZES = ["1", "2", "3", "0", "-1", "", "x", "1.5", "1e3", "٣", "99999", "100000", "4294967296", "9" * 20, "9" * 5000]
FORMS = {"gemm": ("x", 3), "linear": (",", 3), "linear-grad": (",", 3), "conv": (",", 9), "conv-grad": (",", 9)}
SETTINGS = ["out", "bias", "trans_a", "batch", "shift", "coded", "mapping", "dataflow", "effort", "nothing", ""]
TEXTS = ["1", "0", "-1", "true", "[1]", "[[1], 2]", "{a = 1}", '"int32"', "x", "1e400", "nan", "9" * 5000, "[" * 3000,
         "1979-05-27", "", "=", '""', "10000000000"]


@pytest.mark.parametrize("form", FORMS)
def test_workloads(rng, tmp_path, monkeypatch, capsys, form):
    """Sizes that are none, or too many, one or two at a time among those of a small workload."""
    monkeypatch.chdir(tmp_path)
    separator, count = FORMS[form]
    codes = set()
    for size in SIZES:
        sizes = ["3"] * 5 + ["2", "2", "1", "1"] if count == 9 else ["3"] * count
        for place in {*rng.integers(0, count, 2).tolist()}:
            sizes[place] = size
        name = f"{form}:{separator.join(sizes)}"
        codes.add(_run(["compile", name, "--on", "systolic-8x8", "--dump", "graph"], monkeypatch, capsys)[0])
    assert codes == {0, 2}


@pytest.mark.parametrize("on", ["systolic-8x8", "eyeriss"])
def test_settings(rng, tmp_path, monkeypatch, capsys, on):
    """Values of ``--set workload.KEY`` that are none, on both kinds of array."""
    monkeypatch.chdir(tmp_path)
    for key in SETTINGS:
        for text in rng.permutation(TEXTS)[:5]:
            workload = "conv:1,2,4,4,3,2,2,1,0" if key == "batch" else "gemm:2x2x2"
            _run(["compile", workload, "--on", on, "--set", f"workload.{key}={text}", "--dump", "commands"],
                 monkeypatch, capsys)


@pytest.mark.parametrize("arguments", [
    "compile gemm:2x2x2 --on eyeriss --set workload.coded=1 --dump commands",
    "compile gemm:100000x1x100000 --on systolic-8x8 --dump commands",
    "compile conv:1,1,1,1,1,1,1,1,99999 --on systolic-8x8 --dump commands",
    "compile gemm:2x2x2 --on systolic-8x8 --set memory.beats_per_cycle=1e-18 --dump commands",
    f"compile gemm:2x2x2 --on systolic-8x8 --seed {'9' * 5000} --dump commands",
])
def test_mistakes(tmp_path, monkeypatch, capsys, arguments):
    """Mistakes that have been tracebacks."""
    monkeypatch.chdir(tmp_path)
    assert _run(arguments.split(), monkeypatch, capsys)[0] == 2


def test_deep_files(tmp_path, monkeypatch, capsys):
    """Files on which the parser itself gives up."""
    monkeypatch.chdir(tmp_path)
    for name, text in (("deep", f"array = {'[' * 5000}"), ("long", f"[array]\nrows = {'9' * 5000}")):
        (tmp_path / f"{name}.toml").write_text(text)
        arguments = ["compile", "gemm:2x2x2", "--on", f"{name}.toml", "--dump", "graph"]
        assert "cannot be read as TOML" in _run(arguments, monkeypatch, capsys)[1].err
