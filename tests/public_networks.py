"""Networks that others have made, quantised by onnxruntime's `quantize_static` in the three forms that people use.

Those of packages come from their wheels; those of PyTorch are exported from :mod:`torch_networks`.
"""

import logging
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import onnx
import torch_networks
from onnx import version_converter
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

__all__ = ["FORMS", "NETWORKS", "PACKAGES", "quantised"]

_OCR, _ESPCN = "rapidocr_onnxruntime/models", "qonnx/data/onnx/bsd300x3-espcn"

#: Networks of packages by name: package, file in its wheel, and shape and type of each input that a run gives.
PACKAGES = {
    "ocr-angle": ("rapidocr-onnxruntime", f"{_OCR}/ch_ppocr_mobile_v2.0_cls_infer.onnx", {"x": (1, 3, 48, 96)}),
    "ocr-detection": ("rapidocr-onnxruntime", f"{_OCR}/ch_PP-OCRv4_det_infer.onnx", {"x": (1, 3, 64, 64)}),
    "ocr-recognition": ("rapidocr-onnxruntime", f"{_OCR}/ch_PP-OCRv4_rec_infer.onnx", {"x": (1, 3, 48, 64)}),
    "magika": ("magika", "magika/models/standard_v3_3/model.onnx", {"bytes": (1, 2048)}),
    "basic-pitch": ("basic-pitch", "basic_pitch/saved_models/icassp_2022/nmp.onnx",
                    {"serving_default_input_2:0": (1, 43844, 1)}),
    "silero-vad": ("silero-vad", "silero_vad/data/silero_vad_openvino_16k.onnx",
                   {"input": (1, 576), "state": (2, 1, 128)}),
    "espcn-resize": ("qonnx", f"{_ESPCN}/nn_resize/float_model.onnx", {"onnx::Relu_0": (1, 3, 128, 128)}),
    "espcn-subpixel": ("qonnx", f"{_ESPCN}/subpixel/float_model.onnx", {"input": (1, 3, 4, 4)}),
}

#: Forms of `quantize_static` by name: operators or pairs between, type of activations, a scale for each channel.
FORMS = {
    "QOperator s8s8": (QuantFormat.QOperator, QuantType.QInt8, False),
    "QDQ s8s8": (QuantFormat.QDQ, QuantType.QInt8, False),
    "QDQ u8s8 per channel": (QuantFormat.QDQ, QuantType.QUInt8, True),
}

NETWORKS = (*PACKAGES, *torch_networks.NETWORKS)

#: Runs from which the quantiser learns scales.
_CALIBRATIONS = 4


class _Samples(CalibrationDataReader):
    def __init__(self, samples):
        self._samples = iter(samples)

    def get_next(self):
        return next(self._samples, None)


def wheel(package, folder):
    """Return the wheel of a package in a folder, to which pip downloads it if it is not there."""
    pattern = f"{package.replace('-', '_')}-*.whl"
    if not list(folder.glob(pattern)):
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), package],
                       check=True)
    return next(folder.glob(pattern))


def float_model(name, folder):
    """Return the network as it is published, before it is quantised."""
    if name in torch_networks.NETWORKS:
        return onnx.load_from_string(torch_networks.exported(name))
    package, path, _ = PACKAGES[name]
    with zipfile.ZipFile(wheel(package, folder)) as archive:
        [found] = [item for item in archive.namelist() if item.endswith(path)]
        return onnx.load_from_string(archive.read(found))


def _own_biases(model):
    """Give each convolution a bias of its own: of shared ones the quantiser makes names that others have."""
    found = {item.name: item for item in model.graph.initializer}
    seen = set()
    for node in model.graph.node:
        if node.op_type == "Conv" and len(node.input) > 2 and node.input[2] in found:
            if node.input[2] in seen:
                own = model.graph.initializer.add()
                own.CopyFrom(found[node.input[2]])
                own.name = node.input[2] = f"{node.output[0]}:bias"
            seen.add(node.input[2])


def drawn_inputs(name, model, rng):
    """Draw inputs of a run: images and sounds that are smooth, bytes over their range."""
    constants = {item.name for item in model.graph.initializer}
    inputs = {}
    for item in model.graph.input:
        if item.name in constants:
            continue
        kind = item.type.tensor_type
        shape = PACKAGES[name][2].get(item.name) if name in PACKAGES else tuple(
            size.dim_value for size in kind.shape.dim)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        if dtype.kind in "iu":
            inputs[item.name] = rng.integers(0, 256, shape).astype(dtype)
            continue
        value = rng.normal(0, 1, shape)
        for axis, size in enumerate(shape):
            if size > 8:
                value = (value + np.roll(value, 1, axis) + np.roll(value, 2, axis)) / np.sqrt(3)
        inputs[item.name] = value.astype(dtype)
    return inputs


def quantised(name, form, folder, seed=0):
    """Quantise a network; return the path of the file and the inputs of a run. Files that are there are kept."""
    rng = np.random.default_rng(seed)
    model = float_model(name, folder / "wheels")
    samples = [drawn_inputs(name, model, rng) for _ in range(_CALIBRATIONS)]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name} {form}.onnx".replace(" ", "-")
    if path.is_file():
        return path, samples[0]
    kind, activations, per_channel = FORMS[form]
    with tempfile.TemporaryDirectory() as place:
        before, prepared = Path(place) / "float.onnx", Path(place) / "prepared.onnx"
        if next(item.version for item in model.opset_import if item.domain in ("", "ai.onnx")) < 13:
            model = version_converter.convert_version(model, 13)
        onnx.save(model, str(before))
        logging.disable(logging.WARNING)
        try:
            quant_pre_process(str(before), str(prepared), skip_symbolic_shape=True)
            folded = onnx.load(str(prepared))
            _own_biases(folded)
            onnx.save(folded, str(prepared))
            quantize_static(str(prepared), str(path), _Samples(samples), quant_format=kind, per_channel=per_channel,
                            activation_type=activations, weight_type=QuantType.QInt8)
        finally:
            logging.disable(logging.NOTSET)
    return path, samples[0]
