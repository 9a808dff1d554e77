"""The second real network: read without PyTorch, quantised for each channel, equal to onnxruntime."""

import io
import pickle
import re
import zipfile

import numpy as np
import pytest

import pearray as pe
from pearray.workloads.digit_network import normalise, quantise_digit_network, read_checkpoint
from pearray.workloads.digits import mnist_digits

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def digits():
    return mnist_digits()


@pytest.fixture(scope="module")
def network(tmp_path_factory, digits):
    return quantise_digit_network(tmp_path_factory.mktemp("digits") / "digits.onnx", digits[0])


def every_tensor(path):
    """Session of onnxruntime that gives every tensor, and their names."""
    model = onnx.load(str(path))
    names = [name for node in model.graph.node for name in node.output]
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    return onnxruntime.InferenceSession(model.SerializeToString()), names


def test_golden_equals_onnxruntime(network, digits):
    """Scales for each channel, in convolutions and in fully connected layers, to the last bit."""
    session, names = every_tensor(network)
    model, correct = pe.load_onnx(network), 0
    chosen = slice(13, None, 500)
    for image, label in zip(digits[0][chosen], digits[1][chosen], strict=True):
        inputs = {"image": normalise(image[None])}
        expected = dict(zip(names, session.run(None, inputs), strict=True))
        got = pe.golden_run(model, inputs, keep="all")
        assert set(got) == set(names)
        for name, value in expected.items():
            assert got[name].dtype == value.dtype
            np.testing.assert_array_equal(got[name], value, err_msg=name)
        correct += int(got["digit"].argmax() == label)
    assert correct >= 9


@pytest.mark.slow
def test_hardware_equals_onnxruntime(network, digits):
    """The whole network on the RTL, every tensor."""
    session, names = every_tensor(network)
    inputs = {"image": normalise(digits[0][4321:4322])}
    result = pe.run(pe.load_onnx(network), inputs, on="systolic-8x8", keep="all")
    for name, value in zip(names, session.run(None, inputs), strict=True):
        np.testing.assert_array_equal(result.outputs[name], value, err_msg=name)


def test_two_quantisations_are_one(network, digits, tmp_path):
    """A recipe that wavers would give another network on every machine."""
    assert quantise_digit_network(tmp_path / "again.onnx", digits[0]).read_bytes() == network.read_bytes()


@pytest.mark.parametrize(("content", "message"), [
    (b"no archive", "cannot be read: BadZipFile"),
    (pickle.dumps(io.BytesIO), "checkpoint must hold float32 tensors only, not _io.BytesIO"),
    (b"\x80", "cannot be read: "),
])
def test_wrong_checkpoints(tmp_path, content, message):
    """A pickle can run any code, so nothing but tensors is let in."""
    path = tmp_path / "wrong.pth"
    if content.startswith(b"no"):
        path.write_bytes(content)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("model/data.pkl", content)
    with pytest.raises(pe.PearrayError, match=re.escape(message)):
        read_checkpoint(path)
