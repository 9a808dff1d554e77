"""Workloads of the command line: what to compute, and the seeded tensors to compute it with."""

import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .compiler.graph import Graph, Node, Tensor
from .compiler.onnx_import import load_onnx
from .compiler.operators import Conv2d, Gemm, Linear, Quantize, Requant
from .golden import models
from .hdl.errors import PearrayError
from .messages import unknown

__all__ = ["BUILT_IN", "Workload", "load_workload"]

#: Built-in workloads by name, with what they are.
BUILT_IN = {
    "mnist": "handwritten digits through the quantised MNIST CNN",
    "digits": "the same digits through a larger CNN, quantised for each channel",
    "alexnet-conv": "the five CONV layers of AlexNet with ReLU, on independent inputs, one program",
}

#: Forms of a workload that is no name.
FORMS = {
    "gemm:MxKxN": "y = a b + c, all of them activations",
    "conv:N,C,H,W,M,R,S,stride,padding": "one convolution",
    "linear:N,IN,OUT": "y = x w' + b with constant weights",
    "MODEL.onnx": "an ONNX file, on random inputs",
}

#: Steps of the output in a standard deviation of the sums: int8 then covers 3.2 deviations on either side.
STEPS_PER_DEVIATION = 40


@dataclass(frozen=True, eq=False)
class Workload:
    """A graph and the inputs of one run.

    Parameters
    ----------
    name : str
        As the user wrote it.
    graph : Graph
        What to compute.
    inputs : dict of str to ndarray
        Inputs of the graph.
    labels : ndarray or None
        Digits that the inputs show, where that is known.
    """

    name: str
    graph: Graph
    inputs: dict[str, np.ndarray]
    labels: np.ndarray | None = None


class _Settings:
    """Settings of a workload, each checked when it is asked for; what nobody asked for is an error."""

    def __init__(self, workload: str, given: Mapping[str, Any]):
        self._workload = workload
        self._given = dict(given)
        self._known: list[str] = []

    def integer(self, key: str, default: int, low: int = 1) -> int:
        value = self._take(key, default)
        if type(value) is not int or value < low:
            raise PearrayError(f"workload.{key} must be an integer of at least {low}, not {value!r}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self._take(key, default)
        if not isinstance(value, bool):
            raise PearrayError(f"workload.{key} must be true or false, not {value!r}")
        return value

    def choice(self, key: str, *allowed: str) -> str:
        value = self._take(key, allowed[0])
        if value not in allowed:
            raise PearrayError(f"workload.{key} must be {' or '.join(allowed)}, not {value!r}")
        return str(value)

    def _take(self, key: str, default: Any) -> Any:
        self._known.append(key)
        return self._given.get(key, default)

    def finish(self) -> None:
        for key in self._given:
            if key not in self._known:
                raise unknown(f"key of workload {self._workload!r}", f"workload.{key}",
                              [f"workload.{name}" for name in self._known])


def load_workload(name: str, seed: int = 0, settings: Mapping[str, Any] | None = None) -> Workload:
    """Make a workload and draw its tensors.

    Parameters
    ----------
    name : str
        ``gemm:MxKxN``, ``conv:N,C,H,W,M,R,S,stride,padding``, ``linear:N,IN,OUT``, a name in
        :data:`BUILT_IN`, or the path of an ONNX file.
    seed : int
        Seed of ``numpy.random.default_rng``, from which all tensors are drawn.
    settings : mapping, optional
        ``out`` ("int8" or "int32") and ``bias`` of gemm, conv and linear, ``trans_a`` and
        ``trans_b`` of gemm, ``batch`` of all others and of conv.

    Returns
    -------
    Workload

    Raises
    ------
    PearrayError
        If there is no such workload or setting, or a value is not allowed.
    """
    if type(seed) is not int or seed < 0:
        raise PearrayError(f"seed must be an integer of at least 0, not {seed!r}")
    rng = np.random.default_rng(seed)
    chosen = _Settings(name, settings or {})
    return _maker(name)(name, rng, chosen)


def _maker(name: str) -> Callable[[str, np.random.Generator, _Settings], Workload]:
    if name.startswith("gemm:"):
        return _gemm
    if name.startswith("conv:"):
        return _convolution
    if name.startswith("linear:"):
        return _linear
    if name == "mnist":
        return _mnist
    if name == "digits":
        return _larger_digits
    if name == "alexnet-conv":
        return _alexnet
    if name.endswith(".onnx") or Path(name).is_file():
        return _onnx
    raise unknown("workload", name, [*BUILT_IN, *FORMS])


def _draw(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.integers(-128, 128, shape, dtype=np.int8)


def _requant(sums: np.ndarray) -> Requant:
    deviation = float(np.std(sums))
    # A single sum has no deviation, and needs no scale.
    return Requant.onnx(1.0, 0, 1.0, 0, deviation / STEPS_PER_DEVIATION or 1.0, 0)


def _requant_relu(sums: np.ndarray) -> Requant:
    # The positive half alone takes the whole range, so that it keeps as many distinct values.
    return Requant.onnx(1.0, 0, 1.0, 0, float(np.std(sums)) / (2 * STEPS_PER_DEVIATION) or 1.0, -128)


def _sizes(name: str, pattern: str, form: str) -> list[int]:
    match = re.fullmatch(pattern, name)
    if match is None:
        raise PearrayError(f"workload {name!r} must have the form {form}, with integers")
    return [int(text) for text in match.groups()]


def _at_least_one(name: str, **sizes: int) -> None:
    for key, value in sizes.items():
        if value < 1:
            raise PearrayError(f"{key} of workload {name!r} must be at least 1, not {value}")


def _gemm(name: str, rng: np.random.Generator, settings: _Settings) -> Workload:
    m, k, n = _sizes(name, r"gemm:(\d+)x(\d+)x(\d+)", "gemm:MxKxN")
    _at_least_one(name, M=m, K=k, N=n)
    out, bias = settings.choice("out", "int8", "int32"), settings.flag("bias", True)
    trans_a, trans_b = settings.flag("trans_a", False), settings.flag("trans_b", False)
    settings.finish()
    tensors = {"a": _draw(rng, (k, m) if trans_a else (m, k)), "b": _draw(rng, (n, k) if trans_b else (k, n))}
    if bias:
        tensors["c"] = _draw(rng, (n,)).astype(np.int32)
    operator = Gemm(trans_a=trans_a, trans_b=trans_b)
    if out == "int8":
        operator = Gemm(trans_a=trans_a, trans_b=trans_b, requant=_requant(operator.golden(tensors)["y"]))
    return Workload(name, Graph.of(operator, tensors), tensors)


def _convolution(name: str, rng: np.random.Generator, settings: _Settings) -> Workload:
    n, c, h, w, m, r, s, stride, padding = _sizes(
        name, "conv:" + ",".join([r"(\d+)"] * 9), "conv:N,C,H,W,M,R,S,stride,padding")
    _at_least_one(name, N=n, C=c, H=h, W=w, M=m, R=r, S=s, stride=stride)
    n = settings.integer("batch", n)
    out, bias = settings.choice("out", "int8", "int32"), settings.flag("bias", True)
    settings.finish()
    tensors = {"x": _draw(rng, (n, c, h, w)), "w": _draw(rng, (m, c, r, s))}
    if bias:
        tensors["b"] = _draw(rng, (m,)).astype(np.int32)
    operator = Conv2d(stride=stride, padding=padding)
    if out == "int8":
        sums = operator.golden(tensors)["y"]
        operator = Conv2d(stride=stride, padding=padding, requant=_requant(sums))
    graph = Graph.of(operator, tensors)
    return Workload(name, graph, {key: tensors[key] for key in graph.inputs})


def _linear(name: str, rng: np.random.Generator, settings: _Settings) -> Workload:
    n, inputs, outputs = _sizes(name, r"linear:(\d+),(\d+),(\d+)", "linear:N,IN,OUT")
    _at_least_one(name, N=n, IN=inputs, OUT=outputs)
    out, bias = settings.choice("out", "int8", "int32"), settings.flag("bias", True)
    settings.finish()
    tensors = {"x": _draw(rng, (n, inputs)), "w": _draw(rng, (outputs, inputs))}
    if bias:
        tensors["b"] = _draw(rng, (outputs,)).astype(np.int32)
    operator = Linear()
    if out == "int8":
        operator = Linear(requant=_requant(operator.golden(tensors)["y"]))
    return Workload(name, Graph.of(operator, tensors), {"x": tensors["x"]})


def _alexnet(name: str, rng: np.random.Generator, settings: _Settings) -> Workload:
    batch = settings.integer("batch", 1)
    settings.finish()
    nodes: list[Node] = []
    constants: dict[str, np.ndarray] = {}
    inputs: dict[str, np.ndarray] = {}
    for layer in models.ALEXNET_CONV:
        tensors = {"x": _draw(rng, (batch, layer.c, layer.h, layer.w)),
                   "w": _draw(rng, (layer.m, layer.c // layer.groups, layer.r, layer.s)),
                   "b": _draw(rng, (layer.m,)).astype(np.int32)}
        window: dict[str, Any] = {"stride": layer.stride, "padding": layer.padding, "groups": layer.groups}
        sums = Conv2d(**window).golden(tensors)["y"]
        operator = Conv2d(**window, requant=_requant_relu(sums), activation="relu")
        names = {role: f"{layer.name}_{role}" for role in ("x", "w", "b", "y")}
        nodes.append(Node(layer.name, operator, {role: names[role] for role in "xwb"}, {"y": names["y"]}))
        inputs[names["x"]] = tensors["x"]
        constants |= {names["w"]: tensors["w"], names["b"]: tensors["b"]}
    graph = Graph(nodes, _declared(inputs), constants, list(inputs), [node.outputs["y"] for node in nodes])
    return Workload(name, graph, inputs)


def _declared(inputs: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    return {key: Tensor(key, value.shape, value.dtype) for key, value in inputs.items()}


def _mnist(name: str, rng: np.random.Generator, settings: _Settings) -> Workload:
    from .compiler.quantise import mnist_digits, quantise_mnist

    batch = settings.integer("batch", 1)
    settings.finish()
    images, labels = mnist_digits()
    chosen = rng.choice(len(images), batch)
    with tempfile.TemporaryDirectory() as folder:
        model = load_onnx(quantise_mnist(Path(folder) / "mnist.onnx", images))
    inputs = {next(iter(model.inputs)): images[chosen]}
    return Workload(name, model.graph_for(inputs), inputs, labels[chosen])


def _larger_digits(name: str, rng: np.random.Generator, settings: _Settings) -> Workload:
    from .compiler.digit_network import normalise, quantise_digit_network
    from .compiler.quantise import mnist_digits

    batch = settings.integer("batch", 1)
    settings.finish()
    images, labels = mnist_digits()
    chosen = rng.choice(len(images), batch)
    with tempfile.TemporaryDirectory() as folder:
        model = load_onnx(quantise_digit_network(Path(folder) / "digits.onnx", images))
    inputs = {next(iter(model.inputs)): normalise(images[chosen])}
    return Workload(name, model.graph_for(inputs), inputs, labels[chosen])


def _onnx(name: str, rng: np.random.Generator, settings: _Settings) -> Workload:
    model = load_onnx(name)
    batch = settings.integer("batch", 0, 0)
    settings.finish()
    graph = model.graph(batch or None)
    return Workload(name, graph, {key: _input(graph, key, rng) for key in graph.inputs})


def _input(graph: Graph, name: str, rng: np.random.Generator) -> np.ndarray:
    """Draw an input so that what the network sees of it covers the whole range of its type."""
    tensor = graph.tensors[name]
    if tensor.dtype.kind in "iu":
        info = np.iinfo(tensor.dtype)
        return rng.integers(info.min, info.max + 1, tensor.shape, dtype=tensor.dtype)
    for node in graph.nodes:
        operator = node.operator
        if isinstance(operator, Quantize) and node.inputs["x"] == name:
            info = np.iinfo(graph.tensors[node.outputs["y"]].dtype)
            stored = rng.integers(info.min, info.max + 1, tensor.shape)
            return ((stored - int(operator.zero_point)) * operator.scale).astype(tensor.dtype)
    raise PearrayError(f"input {name!r} must be quantised before anything else, as the accelerator computes "
                       f"with integers")
