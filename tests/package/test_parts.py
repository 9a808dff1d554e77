"""Networks of which the host computes parts: runs, files and reports."""

import json

import numpy as np
import onnx
import pytest
from hosted_networks import drawn
from onnx_chain import dequantised, stored
from onnx_models import draw, make_model
from onnx_whole import reference

import pearray as pe
from pearray.cli import main

ON = "systolic-8x8"


@pytest.fixture
def network(rng, tmp_path):
    """Path of a file with two parts on the host between programs, and its input."""
    model, inputs = drawn("twice", rng)
    path = tmp_path / "twice.onnx"
    onnx.save(model, str(path))
    return path, inputs


def test_run(network):
    """Parts that got other tensors than onnxruntime's, or figures of one program alone, would pass for the whole."""
    path, inputs = network
    model, cycles = pe.load_onnx(path, fallback="host"), []
    result = pe.run(model, inputs, on=ON, keep="all", progress=cycles.append)
    for name, value in reference(path, inputs, list(result.outputs)).items():
        np.testing.assert_array_equal(result.outputs[name], value, err_msg=name)
    assert {"a", "b", "c", "d", "y"} <= result.outputs.keys()
    assert [layer.outputs for layer in result.layers] == [("a",), ("c",), ("y",)]
    assert sum(layer.cycles for layer in result.layers) == result.cycles
    assert sum(layer.macs for layer in result.layers) == result.macs == result.host.own_macs
    assert result.counters["cycles"] == result.cycles if "cycles" in result.counters else result.cycles > 0
    assert cycles == sorted(cycles)
    assert (result.host.parts, result.host.programs) == (2, 3)
    some = pe.run(model, inputs, on=ON, keep="c").outputs
    assert some.keys() == {"c", "y"}
    assert all((some[name] == result.outputs[name]).all() for name in some)
    with pytest.raises(pe.PearrayError, match=r"keep must be None, 'all' or names among .*, not 'none'"):
        pe.run(model, inputs, on=ON, keep="none")


def test_golden_run(network):
    """The model that runs are compared with needs the host's parts, too."""
    path, inputs = network
    made = pe.golden_run(pe.load_onnx(path, fallback="host"), inputs, keep="all")
    for name, value in reference(path, inputs, list(made)).items():
        np.testing.assert_array_equal(made[name], value)


def test_files(network, tmp_path):
    """Who takes programs away must find the network of each part between them, and the order."""
    path, inputs = network
    handle = pe.compile(pe.load_onnx(path, fallback="host"), inputs, on=ON, to=tmp_path / "out")
    assert isinstance(handle, pe.Parts)
    listed = json.loads((tmp_path / "out" / "parts.json").read_text())
    assert [part["on_host"] for part in listed] == [False, True, False, True, False]
    for part in listed:
        files = {item.name for item in (tmp_path / "out" / part["folder"]).iterdir()}
        assert files == ({"0.onnx"} if part["on_host"] else {"program.bin", "program.txt", "memory.bin",
                                                             "tensors.json"})
    onnx.checker.check_model(str(tmp_path / "out" / "part-1" / "0.onnx"))
    # Somebody without pearray must find each tensor again: by the file's name, or by the steps at the edges.
    made = {name for part in listed for name in part["outputs"]}
    for part in listed:
        if part["on_host"]:
            assert [step["file"] for step in part["steps"]] == ["0.onnx"]
            assert {*part["steps"][0]["outputs"].values()} == {*part["outputs"]}
        else:
            edges = json.loads((tmp_path / "out" / part["folder"] / "tensors.json").read_text())["host"]
            assert {*edges} == {"before", "after"}
    assert made >= {*handle.graph.outputs}
    with pytest.raises(pe.PearrayError, match="a trace draws one program, but this graph has 3"):
        handle.run(inputs, trace=True)


def test_what_an_accelerator_lacks_is_left_to_the_host(rng, tmp_path):
    """An operator that another configuration has is refused by this one when it is compiled, not when it is read."""
    x = draw(rng, (3, 10), np.int8)
    constants = {"x_s": np.float32(0.05), "x_z": np.int8(2), "w": draw(rng, (10, 7), np.int8), "w_s": np.float32(0.01),
                 "w_z": np.int8(0), "h_s": np.float32(0.1), "h_z": np.int8(0), "y_s": np.float32(1 / 256),
                 "y_z": np.int8(-128)}
    nodes = [dequantised("x"), dequantised("w"), ("MatMul", ["x_d", "w_d"], ["h_f"], {}), stored("h_f", "h"),
             dequantised("h"), ("Softmax", ["h_d"], ["y_f"], {"axis": 1}), stored("y_f", "y")]
    path = tmp_path / "model.onnx"
    onnx.save(make_model(nodes, {"x": x}, ["y"], constants, 17), str(path))
    with pytest.raises(pe.PearrayError, match=r"needs an accelerator with post\.float_softmax"):
        pe.compile(pe.load_onnx(path), {"x": x}, on=ON)
    handle = pe.compile(pe.load_onnx(path, fallback="host"), {"x": x}, on=ON)
    assert [part.on_host for part in handle.parts] == [False, True]
    [softmax] = [kind for kind in handle.host.kinds if kind.refused]
    assert softmax.operator == "Softmax"
    assert "post.float_softmax" in softmax.why
    expected = reference(path, {"x": x}, ["h", "y"])
    made = handle.graph.golden({"x": x})
    for name, value in expected.items():
        np.testing.assert_array_equal(made[name], value)


def test_command_line(network, tmp_path, capsys, monkeypatch):
    """A host that computes silently would pass for an accelerator."""
    path, _ = network
    file = tmp_path / "out.json"
    monkeypatch.setattr("sys.argv", ["pearray", "run", str(path), "--on", ON, "--fallback", "host", "--keep", "all",
                                     "--json", str(file)])
    with pytest.raises(SystemExit) as caught:
        main()
    assert not caught.value.code
    shown, record = capsys.readouterr().out, json.loads(file.read_text())
    assert "On the host: 2 parts beside 3 programs" in shown
    assert "operator CumSum is not supported" in " ".join(shown.split())
    assert record["mismatches"] == 0
    assert record["host"]["accelerator_share"] == 1
    assert {(item["operator"], item["count"]) for item in record["host"]["nodes"] if item["refused"]} == {("CumSum", 2)}
    assert [(item["name"], item["to_host"]) for item in record["host"]["crossings"]] == [
        ("a", True), ("b", False), ("c", True), ("d", False)]
    assert all(item["nbytes"] > 0 for item in record["host"]["crossings"])


@pytest.mark.parametrize(("workload", "told"), [("gemm:4x4x4", "it is for files")])
def test_fallback_is_for_files(workload, told, capsys, monkeypatch):
    """An option that did nothing would leave its user waiting for what it says."""
    monkeypatch.setattr("sys.argv", ["pearray", "run", workload, "--on", ON, "--fallback", "host"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert told in capsys.readouterr().err
