"""The command line, as other programs see it: files, exit codes and one-line complaints."""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pearray as pe
from pearray.cli import main

KEYS = {"workload", "config", "engine", "seed", "cycles", "macs", "pes", "utilisation", "dram_read_bytes",
        "dram_write_bytes", "host_packed_bytes", "checked", "mismatches", "wall_s", "build_s", "sim_s",
        "verilog_sha256", "counters", "ledger", "losses", "layers"}
LAYER_KEYS = {"cycles", "macs", "pes", "utilisation", "dram_read_bytes", "dram_write_bytes",
              "host_packed_bytes", "checked", "mismatches", "ledger"}


def pearray(*arguments, folder=None, code=0):
    """Run the command line in a process of its own and check its exit code."""
    environment = {**os.environ, "COLUMNS": "200", "TERM": "dumb"}
    done = subprocess.run([sys.executable, "-m", "pearray.cli", *map(str, arguments)], capture_output=True,
                          text=True, stdin=subprocess.DEVNULL, cwd=folder, env=environment, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def test_help():
    """A command without help can only be learnt from its source."""
    everything = pearray("--help").stdout
    for command in ("doctor", "list", "generate", "compile", "run", "train", "synth"):
        assert command in everything
        assert f"pearray {command}" in pearray(command, "--help").stdout


def test_list():
    """A built-in name that is not listed cannot be found."""
    output = pearray("list").stdout
    for name in [*pe.presets(), "mnist", "alexnet-conv", "gemm:MxKxN", "verilator", "cocotb", "amaranth"]:
        assert name in output


def test_doctor(tmp_path):
    """The examination must name what it needs, and succeed on the machine that runs the tests."""
    pearray("doctor", "--json", tmp_path / "doctor.json")
    tools = {tool["name"]: tool for tool in json.loads((tmp_path / "doctor.json").read_text())["tools"]}
    assert {"amaranth", "numpy", "verilator", "g++", "make"} <= set(tools)
    assert all(tool["version"] for tool in tools.values() if tool["required"])


def test_doctor_says_what_is_missing(tmp_path):
    """Without a compiler the default engine cannot run, and the exit code must say so."""
    environment = {**os.environ, "PATH": str(tmp_path), "COLUMNS": "300", "CXX": ""}
    done = subprocess.run([sys.executable, "-m", "pearray.cli", "doctor"], capture_output=True, text=True,
                          env=environment, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "apt-get install" in done.stdout


@pytest.mark.parametrize("config", ["systolic-8x8", "eyeriss"])
@pytest.mark.parametrize("top", ["pe", "array"])
def test_generate(tmp_path, config, top):
    """The manifest must describe the very file beside it."""
    pearray("generate", config, "-o", tmp_path, "--top", top, "--set", "array.rows=4")
    path, = tmp_path.glob("*.v")
    manifest = json.loads(path.with_suffix(".json").read_text())
    assert manifest["name"] == path.stem
    assert f"module {path.stem}(" in path.read_text()
    assert manifest["verilog_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert manifest["parameters"]["array"]["rows"] == 4
    assert {"clk", "rst"} <= {port["name"] for port in manifest["ports"]}


def test_run_on_a_row_stationary_array(tmp_path):
    """Each layer has its mapping and what the array counted; a mapping from a file is the one that runs."""
    config = Path(__file__).parents[1] / "cocotb" / "row_stationary.toml"
    mapping = {"m": 8, "n": 1, "e": 4, "p": 4, "q": 2, "r": 1, "t": 1}
    (tmp_path / "mapping.toml").write_text("[Conv2d]\n" + "".join(f"{key} = {mapping[key]}\n" for key in mapping))
    done = pearray("run", "conv:1,4,8,8,8,3,3,1,1", "--on", config, "--json", tmp_path / "out.json",
                   "--set", "array.rows=5", "--set", "array.cols=4",
                   "--set", f"workload.mapping={tmp_path / 'mapping.toml'}")
    assert "m8 n1 e4 p4 q2 r1 t1" in done.stdout
    record = json.loads((tmp_path / "out.json").read_text())
    assert set(record) >= KEYS | {"active_pes", "processing_cycles", "global_buffer_bytes"}
    assert record["mismatches"] == 0
    layer, = record["layers"]
    assert set(layer) >= LAYER_KEYS
    assert layer["mapping"] == mapping
    assert layer["active_pes"] == 3 * 4
    counters = layer["counters"]
    assert layer["processing_cycles"] == counters["cycles"] - counters["stall_dram"]
    assert layer["global_buffer_bytes"] == (counters["ifmap_reads"]
                                            + 4 * (counters["psum_reads"] + counters["psum_writes"]))


def test_run_writes_every_figure(tmp_path):
    """Whoever compares accelerators reads these keys."""
    file, trace = tmp_path / "deep" / "out.json", tmp_path / "deep" / "trace.json"
    shown = pearray("run", "gemm:20x12x9", "--on", "systolic-8x8", "--seed", 5, "--json", file,
                    "--trace", trace).stdout
    record = json.loads(file.read_text())
    assert set(record) >= KEYS
    assert all(set(layer) >= LAYER_KEYS for layer in record["layers"])
    assert (record["workload"], record["seed"]) == ("gemm:20x12x9", 5)
    assert (record["config"], record["engine"]) == ("systolic-8x8", "verilator")
    assert (record["macs"], record["pes"]) == (20 * 12 * 9, 64)
    assert (record["checked"], record["mismatches"]) == (20 * 9, 0)
    assert 1 < record["distinct_outputs"] <= 20 * 9
    assert record["utilisation"] == pytest.approx(record["macs"] / (64 * record["cycles"]), rel=1e-4)
    assert sum(layer["cycles"] for layer in record["layers"]) == record["cycles"]
    assert sum(layer["dram_read_bytes"] for layer in record["layers"]) == record["dram_read_bytes"]
    for part in (record, *record["layers"]):
        assert sum(part["ledger"].values()) == part["cycles"]
    lost = sorted((count for name, count in record["ledger"].items() if name != "useful"), reverse=True)
    assert [loss["cycles"] for loss in record["losses"]] == lost[:3]
    for loss in record["losses"]:
        assert loss["cycles"] == record["ledger"][loss["cause"]]
        assert re.search(rf"{loss['cause'].replace('_', ' ')} .* {loss['cycles']} ", shown), shown
    estimates = [loss for loss in record["losses"] if "key" in loss]
    assert estimates
    for loss in estimates:
        assert record["utilisation"] < loss["utilisation"] < 1
        assert f"{loss['key']} is {loss['now']}, with {loss['then']} an" in re.sub(r"[│\s]+", " ", shown)
    events = json.loads(trace.read_text())["traceEvents"]
    assert max(event["ts"] + event["dur"] for event in events if event["ph"] == "X") == record["cycles"]
    assert record["dram_read_bytes"] >= 20 * 12 + 12 * 9
    assert record["wall_s"] >= record["sim_s"] > 0


def test_run_with_settings(tmp_path):
    """Settings of the workload and of the memory reach the run."""
    fast, slow = tmp_path / "fast.json", tmp_path / "slow.json"
    arguments = ("run", "gemm:8x8x8", "--on", "systolic-8x8", "--set", "workload.out=int32")
    pearray(*arguments, "--json", fast)
    pearray(*arguments, "--set", "memory.read_latency=500", "--json", slow)
    fast, slow = (json.loads(path.read_text()) for path in (fast, slow))
    assert fast["dram_write_bytes"] >= 8 * 8 * 4
    assert slow["cycles"] > fast["cycles"] + 500
    assert slow["verilog_sha256"] == fast["verilog_sha256"]


def test_run_keeps_what_is_asked_for(tmp_path):
    """Tensors between layers that share memory can't be checked; a table that called them right would be wrong."""
    file = tmp_path / "out.json"
    checked = {}
    for keep in ("outputs", "all"):
        shown = pearray("run", "mnist", "--on", "systolic-8x8", "--keep", keep, "--json", file).stdout
        record = json.loads(file.read_text())
        assert record["mismatches"] == 0
        checked[keep] = record["checked"]
        assert ("not kept" in shown) == (keep == "outputs")
    assert checked["outputs"] == 10
    assert checked["all"] > 10000
    error = pearray("run", "mnist", "--on", "systolic-8x8", "--keep", "none", code=2).stderr
    assert re.search(r"keep must be .*outputs.*all.*, not 'none'", error), error


def test_compile(tmp_path):
    """The map must say where in the image an input stands, and in which order."""
    pearray("compile", "conv:1,3,6,5,4,3,3,1,1", "--on", "systolic-8x8", "--seed", 3, "-o", tmp_path)
    image = (tmp_path / "memory.bin").read_bytes()
    document = json.loads((tmp_path / "tensors.json").read_text())
    program = (tmp_path / "program.bin").read_bytes()
    assert image[document["program_address"]:][:len(program)] == program
    tensors = {tensor["name"]: tensor for tensor in document["tensors"]}
    x = np.random.default_rng(3).integers(-128, 128, (1, 3, 6, 5), dtype=np.int8)
    entry = tensors["x"]
    assert (entry["role"], entry["shape"], entry["dtype"]) == ("input", [1, 3, 6, 5], "int8")
    stored = np.frombuffer(image, np.int8, x.size, entry["address"]).reshape(1, 6, 5, 3)
    np.testing.assert_array_equal(stored, x.transpose(0, 2, 3, 1))
    assert tensors["y"]["role"] == "output"


def test_synth_counts_cells(tmp_path):
    """Whoever asks for cells only must not wait for placement, nor be told a frequency that there is not."""
    file = tmp_path / "cells.json"
    shown = pearray("synth", "systolic-8x8", "--top", "pe", "--cells", "--json", file).stdout
    record = json.loads(file.read_text())
    assert record["mult18"] == 1
    assert record["lut4"] > 0
    assert "fmax_mhz" not in record
    assert "mult18" in shown
    assert "fmax" not in shown


@pytest.mark.parametrize(("level", "line"), [
    ("graph", r"Conv2d: y: int8\[1, 4, 6, 5\], scale .* and zero point 0 = Conv2d\(x=x, w=w, b=b\)"),
    ("kernels", r"Conv2d: y\[n, p, q, 4 g \+ m\] = sum\(r < 3, s < 3, c < 3\) x\[.*\] w\[g, r, s, c, m\]; bias; req.*"),
    ("placement", r"0x00000000 +90 +0\.\. +x"),
    ("commands", r" +0 LOAD +\[.*\] .*"),
])
def test_dump(level, line):
    """Each level must be readable alone on standard output, the same each time, and nothing be written."""
    arguments = ("compile", "conv:1,3,6,5,4,3,3,1,1", "--on", "systolic-8x8", "--dump", level)
    dumped = pearray(*arguments).stdout
    assert any(re.fullmatch(line, each) for each in dumped.splitlines()), dumped
    assert pearray(*arguments).stdout == dumped


RUN = "run gemm:8x8x8 --on systolic-8x8"


@pytest.mark.parametrize(("arguments", "message"), [
    ("run gemm:8x8x8 --on systolic-9x9", "unknown configuration 'systolic-9x9': did you mean"),
    ("run gemm:8x8 --on systolic-8x8", "workload 'gemm:8x8' must have the form gemm:MxKxN"),
    ("run gemm:8x0x8 --on systolic-8x8", "K of workload 'gemm:8x0x8' must be at least 1, not 0"),
    ("run gem:8x8x8 --on systolic-8x8", "unknown workload 'gem:8x8x8': did you mean"),
    ("run conv:1,3,8,8,4,3,3,1 --on systolic-8x8", "workload 'conv:1,3,8,8,4,3,3,1' must have"),
    ("run conv:1,3,2,2,4,3,3,1,0 --on systolic-8x8", "w of shape (4, 3, 3, 3) is larger than"),
    ("run nowhere.onnx --on systolic-8x8", "ONNX file 'nowhere.onnx' is not a file"),
    ("compile gemm:8x8x8 --on systolic-8x8", "compile needs a folder to write to (-o DIR) or a level to print"),
    ("compile gemm:8x8x8 --on systolic-8x8 --dump kernel", "unknown level 'kernel': did you mean 'kernels'? allowed: "),
    (f"{RUN} --engine cocotb --trace trace.json", "engine cocotb keeps no trace: use engine verilator or amaranth"),
    (f"{RUN} --engine verilatr", "unknown engine 'verilatr': did you mean 'verilator'? allowed: "),
    (f"{RUN} --seed -1", "seed must be an integer of at least 0 and at most 100 digits, not '-1'"),
    (f"{RUN} --seed x", "seed must be an integer of at least 0 and at most 100 digits, not 'x'"),
    (f"{RUN} --set array.rows", "--set must be KEY=VALUE, not 'array.rows'"),
    (f"{RUN} --set workload.outt=int32",
     "unknown key of workload 'gemm:8x8x8' 'workload.outt': did you mean 'workload.out'? allowed: "),
    (f"{RUN} --set workload.batch=2", "unknown key of workload 'gemm:8x8x8' 'workload.batch': "),
    (f"{RUN} --set workload.out=int16", "workload.out must be 'int8' or 'int32', not 'int16'"),
    (f"{RUN} --set array.rows=x", "array.rows must be an integer in 1..256, not 'x'"),
    (f"{RUN} --set aray.rows=4", "unknown configuration key 'aray.rows': did you mean 'array.rows'?"),
    ("run gemm:8x8x8", "Missing option '--on'"),
    ("generate systolic-8x8 -o out --top chip", "top must be 'accelerator', 'array' or 'pe', not 'chip'"),
    ("generate systolic-8x8 -o out --set workload.out=int32", "unknown configuration key 'workload.out'"),
    ("synth systolic-8x8 --target ice40", "target must be ecp5-25, ecp5-45, ecp5-85, not 'ice40'"),
    ("frobnicate", "No such command 'frobnicate'"),
])
def test_mistakes(tmp_path, monkeypatch, capsys, arguments, message):
    """A mistake gives one line and exit code 2, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pearray", *arguments.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(f"pearray: {message}")
    assert output.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_wrong_files(tmp_path):
    """Files that are not what their name says."""
    Path(tmp_path / "a.toml").write_text("[array\n")
    Path(tmp_path / "a.onnx").write_bytes(b"\x00\x01")
    Path(tmp_path / "taken").write_text("")
    for arguments, message in (
        ("run gemm:8x8x8 --on a.toml", "cannot be read as TOML"),
        ("run a.onnx --on systolic-8x8", "cannot be read"),
        ("generate systolic-8x8 -o taken/x --top pe", "cannot be written"),
    ):
        done = pearray(*arguments.split(), folder=tmp_path, code=2)
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
