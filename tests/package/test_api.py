"""The public calls, with the hardware behind them."""

import json
import re

import numpy as np
import pytest
from kinds import SMALL

import pearray as pe
from pearray.workloads.digits import mnist_digits, quantise_mnist

ON = "systolic-8x8"


def int8(rng, *shape):
    return rng.integers(-128, 128, shape, dtype=np.int8)


def check(op, tensors, **options):
    """Run an operator on the RTL and compare with NumPy; return the result."""
    result = pe.run(op, tensors, on=ON, **options)
    golden = pe.golden_run(op, tensors)
    assert set(result.outputs) == set(golden)
    for name, value in golden.items():
        assert result.outputs[name].dtype == value.dtype
        np.testing.assert_array_equal(result.outputs[name], value, err_msg=name)
    return result


def test_gemm_without_requantisation(rng):
    """Raw sums are int32, and equal to NumPy's."""
    a, b = int8(rng, 13, 21), int8(rng, 21, 9)
    result = check(pe.Gemm(), {"a": a, "b": b})
    np.testing.assert_array_equal(result.outputs["y"], a.astype(np.int32) @ b.astype(np.int32))
    assert result.outputs["y"].dtype == np.int32
    assert isinstance(result.cycles, int)
    assert result.counters["cycles"] == result.cycles
    assert result.macs == 13 * 21 * 9
    assert result.utilisation == result.macs / (64 * result.cycles)


def test_convolution(rng):
    """Layouts are ONNX's, scales may be one for each channel, and a bias is optional."""
    x, w = int8(rng, 1, 5, 9, 7), int8(rng, 11, 5, 3, 2)
    b = rng.integers(-999, 999, 11, dtype=np.int32)
    requant = pe.Requant.onnx(0.02, 3, rng.uniform(0.01, 0.02, 11), 0, 0.5, -7)
    op = pe.Conv2d(stride=2, padding=(1, 0, 2, 1), requant=requant, activation="relu")
    assert check(op, {"x": x, "w": w, "b": b}).outputs["y"].shape == (1, 11, 5, 4)
    check(op, {"x": x, "w": w, "b": None})


def test_linear_in_tflite_rounding(rng):
    """The other runtime's rule, through the same call."""
    requant = pe.Requant.tflite(1_500_000_000, -7, y_zero_point=2, rounding="single")
    bias = rng.integers(-999, 999, 10, dtype=np.int32)
    tensors = {"x": int8(rng, 3, 40), "w": int8(rng, 10, 40), "b": bias}
    assert check(pe.Linear(requant=requant), tensors).outputs["y"].dtype == np.int8


@pytest.fixture(scope="module")
def digits():
    return mnist_digits()


@pytest.fixture(scope="module")
def mnist(tmp_path_factory, digits):
    pytest.importorskip("onnxruntime")
    return quantise_mnist(tmp_path_factory.mktemp("mnist") / "mnist.onnx", digits[0])


def test_network_equals_onnxruntime_on_every_tensor(mnist, digits):
    """The whole network on the RTL, against a runtime that knows nothing of us."""
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    whole = onnx.load(str(mnist))
    names = [name for node in whole.graph.node for name in node.output]
    del whole.graph.output[:]
    whole.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    session = onnxruntime.InferenceSession(whole.SerializeToString())
    model = pe.load_onnx(mnist)
    for image in digits[0][777::2000]:
        result = pe.run(model, {"Input3": image[None]}, on=ON, keep="all")
        expected = dict(zip(names, session.run(None, {"Input3": image[None]}), strict=True))
        assert set(result.outputs) == set(names)
        for name, value in expected.items():
            assert result.outputs[name].dtype == value.dtype
            np.testing.assert_array_equal(result.outputs[name], value, err_msg=name)
        kinds = [layer.operator for layer in result.layers]
        assert kinds == ["Conv2d", "MaxPool2d", "Conv2d", "MaxPool2d", "Gemm"]
        assert sum(layer.cycles for layer in result.layers) == result.cycles
        assert sum(layer.host_packed_bytes for layer in result.layers) <= result.host_packed_bytes


def test_keep(mnist, digits):
    """Without ``keep`` only the outputs come back; with names those too."""
    model = pe.load_onnx(mnist)
    inputs = {"Input3": digits[0][:2]}
    assert set(pe.run(model, inputs, on=ON).outputs) == {"Plus214_Output_0"}
    kept = {"Plus214_Output_0", "Pooling66_Output_0_quantized"}
    result = pe.run(model, inputs, on=ON, keep=["Pooling66_Output_0_quantized"])
    golden = pe.golden_run(model, inputs, keep=["Pooling66_Output_0_quantized"])
    assert set(result.outputs) == set(golden) == kept
    for name in kept:
        np.testing.assert_array_equal(result.outputs[name], golden[name])
    with pytest.raises(pe.PearrayError, match=r"^keep must be None, 'all' or names among .*, not 'nothing'$"):
        pe.golden_run(model, inputs, keep=["nothing"])


def test_compile_writes_what_a_foreign_host_needs(tmp_path, rng):
    """Program, image and map must agree with one another."""
    a, b = int8(rng, 6, 10), int8(rng, 10, 4)
    compiled = pe.compile(pe.Gemm(), {"a": a, "b": b}, on=ON, to=tmp_path / "deep" / "er").compiled()
    folder = tmp_path / "deep" / "er"
    document = json.loads((folder / "tensors.json").read_text())
    image = (folder / "memory.bin").read_bytes()
    assert document["program_address"] == compiled.program_address
    assert len((folder / "program.txt").read_text().splitlines()) == len(compiled.program.commands)
    tensors = {tensor["name"]: tensor for tensor in document["tensors"]}
    for name, value in (("a", a), ("b", b)):
        stored = np.frombuffer(image, np.int8, value.size, tensors[name]["address"])
        np.testing.assert_array_equal(stored.reshape(value.shape), value)
    assert tensors["y"]["dtype"] == "int32"


@pytest.mark.parametrize("on", [ON, SMALL["row-stationary-8"]], ids=["systolic", "row-stationary"])
def test_handle_runs_often(mnist, digits, on):
    """A handle's runs must be those of their inputs, and tensors between must not be what others have overwritten."""
    model = pe.load_onnx(mnist)
    handle = pe.compile(model, {"Input3": digits[0][:1]}, on=on)
    first = handle.compiled()
    for index in range(2):
        inputs = {"Input3": digits[0][index:index + 1]}
        result = handle.run(inputs)
        np.testing.assert_array_equal(result.outputs["Plus214_Output_0"],
                                      pe.golden_run(model, inputs)["Plus214_Output_0"])
    assert handle.compiled() is first
    kept = handle.run(inputs, keep="all")
    golden = pe.golden_run(model, inputs, keep="all")
    assert len(kept.outputs) > 5
    for name, values in kept.outputs.items():
        np.testing.assert_array_equal(values, golden[name])
    assert handle.compiled("all").memory_bytes > first.memory_bytes


def test_handle_of_an_operator(tmp_path, rng):
    """What is written must be what runs, inputs may differ from those given, and wrong ones must be refused."""
    operator, w = pe.Linear(), int8(rng, 7, 20)
    handle = pe.compile(operator, {"x": int8(rng, 6, 20), "w": w}, on=ON, to=tmp_path)
    assert (tmp_path / "program.bin").read_bytes() == handle.compiled().program.encode()
    for values in (int8(rng, 6, 20), np.zeros((6, 20), np.int8)):
        result = handle.run({"x": values})
        np.testing.assert_array_equal(result.outputs["y"], pe.golden_run(operator, {"x": values, "w": w})["y"])
    with pytest.raises(pe.PearrayError, match=r"^input 'x' must be int8 of shape \(6, 20\), not int8 of shape \(5, "):
        handle.run({"x": int8(rng, 5, 20)})
    with pytest.raises(pe.PearrayError, match=r"^'z' is no input; the graph takes x$"):
        handle.run({"x": values, "z": w})
    assert (handle.run({"x": values, "w": w}).outputs["y"] == 0).all()
    with pytest.raises(pe.PearrayError, match=r"^w must be what it was when it was compiled, since it is part of the "):
        handle.run({"x": values, "w": w + 1})
    with pytest.raises(pe.PearrayError, match=r"^keep must be None, 'all' or names among y, not 'z'$"):
        handle.run({"x": values}, keep="z")
    with pytest.raises(pe.PearrayError, match=r"^engine must be 'verilator', 'cocotb' or 'amar"):
        handle.run({"x": values}, engine="verilatr")
    with pytest.raises(pe.PearrayError, match=r"^folder '.*' cannot be written: Not a directory$"):
        pe.compile(operator, {"x": values, "w": w}, on=ON, to=tmp_path / "program.bin" / "inside")


A, B = np.zeros((3, 4), np.int8), np.zeros((4, 5), np.int8)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: pe.run(pe.Gemm(), {"a": A}, on=ON), "Gemm needs a tensor 'b'"),
    (lambda: pe.run(pe.Gemm(), {"a": A, "b": B, "x": B}, on=ON), "Gemm has no tensor 'x'"),
    (lambda: pe.run(pe.Gemm(), {"a": A, "b": A}, on=ON), "b must have 4 rows"),
    (lambda: pe.run(pe.Gemm(), {"a": A, "b": B > 0}, on=ON), "tensor 'b' must be an array of numbers, not array("),
    (lambda: pe.run(pe.Gemm(), {"a": A, "b": B.astype(np.int64)}, on=ON), "b must be of type "),
    (lambda: pe.run(pe.Gemm(), {"a": A, "b": B * np.float32("nan")}, on=ON), "tensor 'b' must be finite, "),
    (lambda: pe.run(pe.Gemm(), {"a": A, "b": [[1], [2, 3]]}, on=ON), "tensor 'b' must be an array of numbers, not "),
    (lambda: pe.run(pe.Gemm(), {"a": A.astype(np.int16), "b": B.astype(np.int16)}, on=ON),
     "a must be of an integer type of at most 8 bits for this accelerator, not int16"),
    (lambda: pe.run(pe.Softmax(), {"x": A}, on=ON), "Softmax without scales has no lowering for this accelerator"),
    (lambda: pe.Conv2d(padding="same"), "padding must be an integer in 0..65535, (h, w) or "),
    (lambda: pe.Conv2d(padding=(0, 1, 2)), "padding must be an integer in 0..65535, (h, w) or "),
    (lambda: pe.Conv2d(stride=0), "stride must be one or two integers in 1..65535, not 0"),
    (lambda: pe.Conv2d(dilation=float("nan")), "dilation must be one or two integers in 1..65535, not nan"),
    (lambda: pe.Conv2d(groups="2"), "groups must be an integer in 1..65535, not '2'"),
    (lambda: pe.Conv2d(activation="swish"), "activation must be None, 'relu', "),
    (lambda: pe.run(pe.Gemm(), [A, B], on=ON), "tensors must be a dict of arrays by name, not list"),
    (lambda: pe.run("gemm", {}, on=ON), "op_or_model must be an operator such as pearray.Gemm()"),
    (lambda: pe.run(pe.Gemm(), {"a": A, "b": B}, on=ON, engine="questa"), "engine must be "),
    (lambda: pe.run(pe.Gemm(), {"a": A, "b": B}, on="huge"), "unknown configuration 'huge'"),
    (lambda: pe.Requant.onnx(float("nan"), 0, 1, 0, 1, 0), "x_scale must be finite"),
    (lambda: pe.load_onnx("nowhere.onnx"), "ONNX file 'nowhere.onnx' is not a file"),
])
def test_mistakes(call, message):
    """Every wrong argument is named in one line, before anything is built."""
    with pytest.raises(pe.PearrayError, match=f"^{re.escape(message)}") as caught:
        call()
    assert "\n" not in str(caught.value)
