"""Workloads of the command line: what to compute, and the seeded tensors to compute it with."""

import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..compiler.frontends.onnx.importer import load_onnx
from ..compiler.graph.graph import Graph
from ..compiler.kinds import compiler_for
from ..compiler.operators import (
    Attention,
    Conv2d,
    Conv2dGrad,
    Gemm,
    LayerNorm,
    Linear,
    LinearGrad,
    RMSNorm,
    Softmax,
)
from ..compiler.operators.fields import check_size
from ..hdl.arithmetic.floating import FloatArithmetic
from ..hdl.errors import PearrayError, check_count, is_file, unknown
from ..hdl.shell.config import Config
from .decoder import llama_block
from .draws import STEPS_PER_DEVIATION, UNIT
from .encoder import attention_deviation, encoder_layer, multi_head_attention
from .file_workload import file_workload
from .image_networks import IMAGE_NETWORKS
from .made import Workload
from .operands import Int8, Int16, Operands, floats_of
from .settings import LARGEST, Settings

__all__ = ["BUILT_IN", "Workload", "load_workload"]

#: Built-in workloads by name, with what they are.
BUILT_IN = {
    "mnist": "handwritten digits through the quantised MNIST CNN",
    "digits": "the same digits through a larger CNN, quantised for each channel",
    "llama-block": "a decoder block of LLaMA, small, with drawn weights: a prompt, then token by token",
    "alexnet-conv": "the five CONV layers of AlexNet with ReLU, on independent inputs, one program",
    "alexnet": "AlexNet, whole, on drawn images with drawn weights",
    "vgg-16": "VGG-16, whole, likewise",
    "googlenet": "GoogLeNet, whole, likewise",
    "resnet-50": "ResNet-50, whole, likewise",
    "mobilenet-v2": "MobileNetV2, whole, likewise",
    "efficientnet-b0": "EfficientNet-B0, whole, likewise",
    "minilm": "sentences through the quantised MiniLM-L6-v2 encoder, six layers as one program, against float32",
}

#: Forms of a workload that is no name.
FORMS = {
    "gemm:MxKxN": "y = a b + c, all of them activations",
    "conv:N,C,H,W,M,R,S,stride,padding": "one convolution",
    "linear:N,IN,OUT": "y = x w' + b with constant weights",
    "linear-grad:N,IN,OUT": "gradients dx, dw and db of linear, as sums",
    "conv-grad:N,C,H,W,M,R,S,stride,padding": "gradients dx, dw and db of conv, as sums",
    "attention:P,M,E,F,H": "softmax(q k' / sqrt(E)) v of H heads, P queries, M keys",
    "layer-norm:ROWS,D": "LayerNorm of rows of D elements, with gains and biases",
    "rms-norm:ROWS,D": "RMSNorm of rows of D elements, with gains",
    "multi-head-attention:P,D,H": "attention of H heads of x (P, D) with its four projections",
    "encoder-layer:P,D,H,FF": "multi-head attention, two products around FF with GELU, residuals and LayerNorms",
    "softmax:ROWS,D": "softmax of each of some rows of D elements",
    "MODEL.onnx": "an ONNX file, on random inputs",
    "MODEL.tflite": "a TensorFlow Lite file, quantised to int8, on random inputs",
}


def load_workload(name: str, seed: int = 0, settings: Mapping[str, Any] | None = None,
                  config: Config | None = None, fallback: str | None = None) -> Workload:
    """Make a workload and draw its tensors.

    Parameters
    ----------
    name : str
        One of :data:`FORMS`, a name in :data:`BUILT_IN`, or the path of an ONNX or TensorFlow Lite file.
    seed : int
        Seed of ``numpy.random.default_rng``, from which all tensors are drawn.
    settings : mapping, optional
        ``out`` ("int8" or "int32"; of floats their format or "float32") and ``bias`` of gemm, conv and linear,
        ``trans_a`` and ``trans_b`` of gemm, ``batch`` of conv, conv-grad and networks; in fixed point ``shift``
        instead of ``out``;
        ``causal``, ``two_bytes``, ``kv_heads`` and ``window`` of attention, multi-head-attention and encoder-layer;
        ``rounding`` of softmax; ``batch``, ``tokens`` of a sentence at most and ``text``, a file of sentences, of
        minilm; those of llama-block (:func:`.decoder.llama_block`).
        And those of the array's mapper (:attr:`.compiler.kinds.ArrayCompiler.settings`).
    config : Config, optional
        Accelerator that it is for: one of 16-bit fixed point gets operands in fixed point, one of floats those of its
        format, all others and none int8.
    fallback : "host" or "exact", optional
        Who computes what cannot be mapped of an ONNX file; see :func:`pearray.load_onnx`.

    Returns
    -------
    Workload

    Raises
    ------
    PearrayError
        If there is no such workload or setting, or a value is not allowed.
    """
    check_count("seed", seed)
    rng = np.random.default_rng(seed)
    kind = None if config is None else compiler_for(config)
    chosen = Settings(name, settings or {}, () if kind is None else kind.settings)
    maker = _maker(name)
    if fallback is not None:
        if maker is not file_workload:
            raise PearrayError(f"fallback must be absent for workload {name!r}: it is for files")
        maker = partial(file_workload, fallback=fallback)
    made = maker(name, rng, chosen, _operands(config))
    return replace(made, settings=chosen.passed_on)


def _operands(config: Config | None) -> type[Operands]:
    """What an accelerator has for operands."""
    if config is not None and compiler_for(config).is_fixed_point(config):
        return Int16
    arithmetic = None if config is None else config.arithmetic
    return floats_of(arithmetic.format.dtype) if isinstance(arithmetic, FloatArithmetic) else Int8


def _maker(name: str) -> Callable[[str, np.random.Generator, Settings, type[Operands]], Workload]:
    for form, maker in (("gemm:", _gemm), ("conv:", _convolution), ("linear:", _linear),
                        ("linear-grad:", _linear_grad), ("conv-grad:", _convolution_grad), ("attention:", _attention),
                        ("multi-head-attention:", _multi_head_attention), ("layer-norm:", _layer_norm),
                        ("rms-norm:", _rms_norm), ("softmax:", _softmax), ("encoder-layer:", _encoder)):
        if name.startswith(form):
            return maker
    named = {"mnist": _digits, "digits": _digits, "alexnet-conv": _alexnet, "llama-block": _llama, "minilm": _minilm}
    if name in named:
        return named[name]
    if name in IMAGE_NETWORKS:
        return _image_network
    if name.endswith((".onnx", ".tflite")) or is_file(name):
        return file_workload
    raise unknown("workload", name, [*BUILT_IN, *FORMS])


def _sizes(name: str, pattern: str, form: str) -> list[int]:
    match = re.fullmatch(pattern, name, re.ASCII)
    if match is None or max(map(len, match.groups())) > len(str(LARGEST)):
        raise PearrayError(f"workload {name!r} must have the form {form}, with integers up to {LARGEST}")
    return [int(text) for text in match.groups()]


def _at_least_one(name: str, **sizes: int) -> None:
    for key, value in sizes.items():
        if value < 1:
            raise PearrayError(f"{key} of workload {name!r} must be at least 1, not {value}")


def _gemm(name: str, rng: np.random.Generator, settings: Settings, numbers: type[Operands]) -> Workload:
    m, k, n = _sizes(name, r"gemm:(\d+)x(\d+)x(\d+)", "gemm:MxKxN")
    _at_least_one(name, M=m, K=k, N=n)
    arithmetic, bias = numbers(settings), settings.flag("bias", True)
    trans_a, trans_b = settings.flag("trans_a", False), settings.flag("trans_b", False)
    settings.finish()
    tensors = {"a": numbers.draw(rng, (k, m) if trans_a else (m, k)),
               "b": numbers.draw(rng, (n, k) if trans_b else (k, n))}
    if bias:
        tensors["c"] = numbers.bias(rng, n)
    operator = arithmetic.operator(Gemm, tensors, trans_a=trans_a, trans_b=trans_b)
    return Workload(name, Graph.of(operator, tensors), tensors)


def _convolution(name: str, rng: np.random.Generator, settings: Settings, numbers: type[Operands]) -> Workload:
    (n, c, h, w), (m, r, s), stride, padding = _window(name, "conv", settings)
    arithmetic, bias = numbers(settings), settings.flag("bias", True)
    settings.finish()
    tensors = {"x": numbers.draw(rng, (n, c, h, w)), "w": numbers.draw(rng, (m, c, r, s))}
    if bias:
        tensors["b"] = numbers.bias(rng, m)
    operator = arithmetic.operator(Conv2d, tensors, stride=stride, padding=padding)
    return Workload(name, Graph.of(operator, tensors), {"x": tensors["x"]})


def _window(name: str, form: str, settings: Settings) -> tuple[tuple[int, ...], tuple[int, ...], int, int]:
    """Shape of x, M, R and S of w, stride and padding."""
    n, c, h, w, m, r, s, stride, padding = _sizes(
        name, f"{form}:" + ",".join([r"(\d+)"] * 9), f"{form}:N,C,H,W,M,R,S,stride,padding")
    _at_least_one(name, N=n, C=c, H=h, W=w, M=m, R=r, S=s, stride=stride)
    return (settings.integer("batch", n), c, h, w), (m, r, s), stride, padding


def _linear(name: str, rng: np.random.Generator, settings: Settings, numbers: type[Operands]) -> Workload:
    n, inputs, outputs = _sizes(name, r"linear:(\d+),(\d+),(\d+)", "linear:N,IN,OUT")
    _at_least_one(name, N=n, IN=inputs, OUT=outputs)
    arithmetic, bias = numbers(settings), settings.flag("bias", True)
    settings.finish()
    tensors = {"x": numbers.draw(rng, (n, inputs)), "w": numbers.draw(rng, (outputs, inputs))}
    if bias:
        tensors["b"] = numbers.bias(rng, outputs)
    operator = arithmetic.operator(Linear, tensors)
    return Workload(name, Graph.of(operator, tensors), {"x": tensors["x"]})


def _gradients(name: str, rng: np.random.Generator, numbers: type[Operands], operator: LinearGrad | Conv2dGrad,
               x: tuple[int, ...], w: tuple[int, ...]) -> Workload:
    """Gradients of operands that are drawn in the order x, w, dy."""
    tensors = {role: numbers.draw(rng, shape) for role, shape in (("x", x), ("w", w))}
    tensors["dy"] = numbers.draw(rng, operator.forward.infer(tensors)["y"][0])
    return Workload(name, Graph.of(operator, tensors), {role: tensors[role] for role in ("x", "dy")})


def _linear_grad(name: str, rng: np.random.Generator, settings: Settings, numbers: type[Operands]) -> Workload:
    n, inputs, outputs = _sizes(name, r"linear-grad:(\d+),(\d+),(\d+)", "linear-grad:N,IN,OUT")
    _at_least_one(name, N=n, IN=inputs, OUT=outputs)
    settings.finish()
    return _gradients(name, rng, numbers, LinearGrad(), (n, inputs), (outputs, inputs))


def _convolution_grad(name: str, rng: np.random.Generator, settings: Settings, numbers: type[Operands]) -> Workload:
    x, (m, r, s), stride, padding = _window(name, "conv-grad", settings)
    settings.finish()
    return _gradients(name, rng, numbers, Conv2dGrad(stride=stride, padding=padding), x, (m, x[1], r, s))


def _attention(name: str, rng: np.random.Generator, settings: Settings, numbers: type[Operands]) -> Workload:
    """Attention of int8 q, k and v, drawn in this order over the full range, or of floats, with a deviation of 1.

    Then scores are about normal, too, and outputs have a deviation of about sqrt(e / M): of few keys
    one counts most, of many each a little.
    """
    p, m, e, f, h = _sizes(name, "attention:" + ",".join([r"(\d+)"] * 5), "attention:P,M,E,F,H")
    _at_least_one(name, P=p, M=m, E=e, F=f, H=h)
    groups, options = _attention_settings(name, settings, h)
    tensors = {role: (numbers if numbers.is_float else Int8).draw(rng, shape)
               for role, shape in (("q", (h, p, e)), ("k", (groups, m, e)), ("v", (groups, m, f)))}
    if not numbers.is_float:
        options |= {"q_scale": UNIT, "k_scale": UNIT, "v_scale": UNIT,
                    "y_scale": attention_deviation(m) / STEPS_PER_DEVIATION}
    return Workload(name, Graph.of(Attention(**options), tensors), tensors)


def _normalisation(name: str, rng: np.random.Generator, settings: Settings, form: str,
                   kind: type[LayerNorm] | type[RMSNorm]) -> Workload:
    """Rows of int8 over the full range, then gains about 1 and, of LayerNorm, biases about 0, drawn in this order.

    Outputs have a deviation of about 1, whatever the scale of x.
    """
    rows, elements = _sizes(name, rf"{form}:(\d+),(\d+)", f"{form}:ROWS,D")
    _at_least_one(name, ROWS=rows, D=elements)
    settings.finish()
    tensors = {"x": Int8.draw(rng, (rows, elements)),
               "gamma": rng.normal(1, 0.1, elements).astype(np.float32)}
    if "beta" in kind.optional:
        tensors["beta"] = rng.normal(0, 0.1, elements).astype(np.float32)
    operator = kind(x_scale=1 / STEPS_PER_DEVIATION, y_scale=1 / STEPS_PER_DEVIATION)
    return Workload(name, Graph.of(operator, tensors), {"x": tensors["x"]})


def _layer_norm(name: str, rng: np.random.Generator, settings: Settings, numbers: type[Operands]) -> Workload:
    return _normalisation(name, rng, settings, "layer-norm", LayerNorm)


def _rms_norm(name: str, rng: np.random.Generator, settings: Settings, numbers: type[Operands]) -> Workload:
    return _normalisation(name, rng, settings, "rms-norm", RMSNorm)


def _attention_settings(name: str, settings: Settings, heads: int) -> tuple[int, dict[str, Any]]:
    """Heads of keys and values, and what else may be set of attention."""
    groups, window = settings.integer("kv_heads", heads), settings.integer("window", 0, 0)
    causal, two_bytes = settings.flag("causal", False), settings.flag("two_bytes", False)
    settings.finish()
    if heads % groups:
        raise PearrayError(f"workload.kv_heads must divide H = {heads} of workload {name!r}, not {groups}")
    return groups, {"causal": causal, "window": window or None, "two_bytes": two_bytes}


def _heads(name: str, settings: Settings, d: int, h: int) -> tuple[int, dict[str, Any]]:
    """As :func:`_attention_settings`, for heads that share D elements."""
    if d % h:
        raise PearrayError(f"H of workload {name!r} must divide D = {d}, not be {h}")
    return _attention_settings(name, settings, h)


def _multi_head_attention(name: str, rng: np.random.Generator, settings: Settings, numbers: type[Operands]) -> Workload:
    p, d, h = _sizes(name, r"multi-head-attention:(\d+),(\d+),(\d+)", "multi-head-attention:P,D,H")
    _at_least_one(name, P=p, D=d, H=h)
    operator, tensors = multi_head_attention(rng, (p, d, h), *_heads(name, settings, d, h))
    return Workload(name, Graph.of(operator, tensors), {"x": tensors["x"]})


def _encoder(name: str, rng: np.random.Generator, settings: Settings, numbers: type[Operands]) -> Workload:
    p, d, h, ff = _sizes(name, "encoder-layer:" + ",".join([r"(\d+)"] * 4), "encoder-layer:P,D,H,FF")
    _at_least_one(name, P=p, D=d, H=h, FF=ff)
    return Workload(name, *encoder_layer(rng, (p, d, h, ff), *_heads(name, settings, d, h)))


def _softmax(name: str, rng: np.random.Generator, settings: Settings, numbers: type[Operands]) -> Workload:
    """Softmax of int8 rows, drawn over the full range, whose values have a deviation of 2."""
    rows, width = _sizes(name, r"softmax:(\d+),(\d+)", "softmax:ROWS,D")
    _at_least_one(name, ROWS=rows, D=width)
    rounding = settings.choice("rounding", "tflite", "onnx")
    settings.finish()
    tensors = {"x": Int8.draw(rng, (rows, width))}
    operator = Softmax(X_scale=2 * (12 / ((1 << 16) - 1)) ** 0.5, y_scale=1 / 256, y_zero_point=-128,
                       rounding=rounding)
    return Workload(name, Graph.of(operator, tensors), tensors)


def _alexnet(name: str, rng: np.random.Generator, settings: Settings, numbers: type[Operands]) -> Workload:
    from .alexnet import fixed_point_layers, int8_layers

    batch = settings.integer("batch", 1)
    settings.finish()
    return Workload(name, *(fixed_point_layers if numbers is Int16 else int8_layers)(rng, batch))


def _llama(name: str, rng: np.random.Generator, settings: Settings, numbers: type[Operands]) -> Workload:
    first, following = llama_block(rng, settings)
    return Workload(name, *first, following=following)


def _digits(name: str, rng: np.random.Generator, settings: Settings, numbers: type[Operands]) -> Workload:
    from .digit_network import normalise, quantise_digit_network
    from .digits import mnist_digits, quantise_mnist

    batch = settings.integer("batch", 1)
    settings.finish()
    images, labels = mnist_digits()
    check_size("images of the workload", (batch, *images.shape[1:]))
    chosen = rng.choice(len(images), batch)
    quantise = quantise_mnist if name == "mnist" else quantise_digit_network
    with tempfile.TemporaryDirectory() as folder:
        model = load_onnx(quantise(Path(folder) / f"{name}.onnx", images))
    shown = images[chosen] if name == "mnist" else normalise(images[chosen])
    inputs = {next(iter(model.inputs)): shown}
    return Workload(name, model.graph_for(inputs), inputs, labels[chosen])


def _image_network(name: str, rng: np.random.Generator, settings: Settings, numbers: type[Operands]) -> Workload:
    batch = settings.integer("batch", 1)
    settings.finish()
    return Workload(name, *IMAGE_NETWORKS[name](rng, batch))


def _minilm(name: str, rng: np.random.Generator, settings: Settings, numbers: type[Operands]) -> Workload:
    from .sentence_workload import sentence_workload

    return sentence_workload(name, rng, settings)
