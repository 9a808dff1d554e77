"""A second real network: the digit CNN of the package ``digit-recognizer-py``, rebuilt as ONNX and quantised.

The package (MIT) brings a PyTorch checkpoint only. A checkpoint is a zip archive of raw numbers and a
pickle that says how they are shaped, so that neither PyTorch nor the package's own code is needed.
"""

import io
import pickle
import tempfile
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from ..hdl.errors import PearrayError
from .digits import data_file, mnist_digits, quantise

__all__ = ["normalise", "quantise_digit_network", "read_checkpoint"]

#: Mean and deviation of MNIST's pixels in 0..1, with which the network was trained.
MEAN, DEVIATION = 0.1307, 0.3081


class _Checkpoint(pickle.Unpickler):
    """Unpickler that knows arrays of float32 and dictionaries, and refuses everything else."""

    def __init__(self, archive: zipfile.ZipFile, folder: str):
        super().__init__(io.BytesIO(archive.read(f"{folder}/data.pkl")))
        self._archive, self._folder = archive, folder

    def find_class(self, module: str, name: str) -> Any:
        known = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch", "FloatStorage"): np.float32,
            ("torch._utils", "_rebuild_tensor_v2"): self._tensor,
        }
        if (module, name) not in known:
            raise PearrayError(f"checkpoint must hold float32 tensors only, not {module}.{name}")
        return known[module, name]

    def persistent_load(self, pid: Any) -> np.ndarray:
        _, kind, key, _, _ = pid
        return np.frombuffer(self._archive.read(f"{self._folder}/data/{key}"), kind)

    @staticmethod
    def _tensor(storage: np.ndarray, offset: int, size: tuple[int, ...], stride: tuple[int, ...],
                *_: Any) -> np.ndarray:
        view = np.lib.stride_tricks.as_strided(storage[offset:], size, [4 * step for step in stride])
        return np.ascontiguousarray(view)


def read_checkpoint(path: str | Path) -> dict[str, np.ndarray]:
    """Read the float32 tensors of a PyTorch checkpoint, without PyTorch.

    Raises
    ------
    PearrayError
        If the file is no checkpoint, or holds anything but float32 tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            folder = archive.namelist()[0].split("/")[0]
            return dict(_Checkpoint(archive, folder).load())
    except (zipfile.BadZipFile, KeyError, IndexError, pickle.UnpicklingError, ValueError, EOFError, OSError) as error:
        if isinstance(error, PearrayError):
            raise
        raise PearrayError(f"checkpoint {str(path)!r} cannot be read: {type(error).__name__}") from None


def normalise(images: np.ndarray) -> np.ndarray:
    """Scale raw pixels 0..255 as the network was trained: (N, 1, 28, 28) float32."""
    return ((images / 255 - MEAN) / DEVIATION).astype(np.float32)


def _float_model(weights: dict[str, np.ndarray], path: Path) -> Path:
    """Write the network as ONNX: three times Conv, ReLU and pooling, then two fully connected layers."""
    import onnx
    from onnx import helper

    nodes, source = [], "image"
    for index, layer in enumerate((0, 3, 6), start=1):
        names = [f"conv_layers.{layer}.{part}" for part in ("weight", "bias")]
        nodes += [
            helper.make_node("Conv", [source, *names], [f"conv{index}"], f"conv{index}", pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [f"conv{index}"], [f"relu{index}"], f"relu{index}"),
            helper.make_node("MaxPool", [f"relu{index}"], [f"pool{index}"], f"pool{index}", kernel_shape=[2, 2],
                             strides=[2, 2]),
        ]
        source = f"pool{index}"
    nodes += [
        helper.make_node("Flatten", [source], ["flat"], "flatten"),
        helper.make_node("Gemm", ["flat", "fc_layers.0.weight", "fc_layers.0.bias"], ["fc1"], "fc1", transB=1),
        helper.make_node("Relu", ["fc1"], ["relu4"], "relu4"),
        helper.make_node("Gemm", ["relu4", "fc_layers.2.weight", "fc_layers.2.bias"], ["digit"], "fc2", transB=1),
    ]
    graph = helper.make_graph(
        nodes, "digits", [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1, 1, 28, 28])],
        [helper.make_tensor_value_info("digit", onnx.TensorProto.FLOAT, [1, 10])],
        [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()])
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)]), str(path))
    return path


def quantise_digit_network(output: str | Path, images: np.ndarray | None = None) -> Path:
    """Quantise the network to int8 with one scale for each output channel, calibrated with 100 digits.

    Parameters
    ----------
    output : path
        File to write; it is the same on every run.
    images : array, optional
        The images of :func:`~pearray.workloads.digits.mnist_digits`, if already read.

    Returns
    -------
    Path
        ``output``. Its input is ``image``, made by :func:`normalise`, its output ``digit``.

    Raises
    ------
    PearrayError
        If a package is missing or the checkpoint can't be read.
    """
    weights = read_checkpoint(data_file("digit-recognizer-py", "digit_recognizer",
                                        "models/handwriting_model.pth"))
    images = mnist_digits()[0] if images is None else images
    with tempfile.TemporaryDirectory() as folder:
        try:
            model = _float_model(weights, Path(folder) / "float.onnx")
        except ImportError:
            raise PearrayError("quantising needs onnx: run `pip install 'pearray[onnx]'`") from None
        return quantise(model, normalise(images[::50]), output, per_channel=True)
