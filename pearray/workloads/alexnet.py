"""The CONV layers of AlexNet as a workload, in int8 and in the fixed point of Eyeriss."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..compiler.graph.graph import Graph, Node, Tensor
from ..compiler.operators import Conv2d, FixedPoint, Requant
from ..golden import models
from ..golden.cost import ConvLayer

__all__ = ["IFMAP_ZEROS", "OFMAP_ZEROS", "SHIFT", "fixed_point_layers", "int8_layers"]

#: Steps of the output in a standard deviation of the sums; only the positive half of them takes the range.
STEPS_PER_DEVIATION = 80

#: Share of zeros in the ifmaps of each layer (JSSC 2017, table V).
IFMAP_ZEROS = (0.0001, 0.387, 0.725, 0.793, 0.776)

#: Share of zeros that ReLU leaves in the ofmaps: those of the next layer's ifmaps. The table says nothing of the last.
OFMAP_ZEROS = (*IFMAP_ZEROS[1:], 0.80)

#: Lowest bit of a product's window.
SHIFT = 10

#: Standard deviations of ifmap values and of sums: six deviations and the bias stay within 16 bits.
_IFMAP_DEVIATION, _SUM_DEVIATION = 1000, 4000


def int8_layers(rng: np.random.Generator, batch: int) -> tuple[Graph, dict[str, np.ndarray]]:
    """Draw the five layers in int8, each on inputs of its own over the full range, and requantise their sums.

    Parameters
    ----------
    rng : numpy.random.Generator
        Draws x, w and b of each layer in turn.
    batch : int
        Images.
    """
    def layers() -> Iterator[tuple[ConvLayer, Conv2d, dict[str, np.ndarray]]]:
        for layer in models.ALEXNET_CONV:
            draws = {role: rng.integers(-128, 128, shape, dtype=np.int8)
                     for role, shape in _shapes(layer, batch).items()}
            tensors = draws | {"b": draws["b"].astype(np.int32)}
            sums = Conv2d(**_window(layer)).golden(tensors)["y"]
            # The positive half alone takes the whole range, so that it keeps as many distinct values.
            scale = float(np.std(sums)) / STEPS_PER_DEVIATION or 1.0
            requant = Requant.onnx(1.0, 0, 1.0, 0, scale, -128)
            yield layer, Conv2d(**_window(layer), requant=requant, activation="relu"), tensors

    return _graph(layers())


def fixed_point_layers(rng: np.random.Generator, batch: int) -> tuple[Graph, dict[str, np.ndarray]]:
    """Draw the five layers in 16-bit fixed point, with as many zeros as were measured on the chip.

    Ifmaps have exactly the share of zeros of :data:`IFMAP_ZEROS`, and are positive elsewhere, as ReLU leaves them;
    the first, the image, has either sign. The bias of each output channel is the quantile of its
    sums that leaves the share of :data:`OFMAP_ZEROS` not above zero. No sum wraps.

    Parameters
    ----------
    rng : numpy.random.Generator
        Draws x and w of each layer in turn.
    batch : int
        Images.
    """
    def layers() -> Iterator[tuple[ConvLayer, Conv2d, dict[str, np.ndarray]]]:
        for layer, before, after in zip(models.ALEXNET_CONV, IFMAP_ZEROS, OFMAP_ZEROS, strict=True):
            shapes = _shapes(layer, batch)
            x = _ifmap(rng, shapes["x"], before, signed=layer is models.ALEXNET_CONV[0])
            products = np.prod(shapes["w"][1:]) * (1 - before)
            deviation = _SUM_DEVIATION * 2 ** SHIFT / (_IFMAP_DEVIATION * np.sqrt(products))
            w = np.rint(rng.normal(0, deviation, shapes["w"])).astype(np.int16)
            requant = FixedPoint(SHIFT)
            sums = Conv2d(**_window(layer), requant=requant).golden({"x": x, "w": w})["y"]
            tensors = {"x": x, "w": w, "b": _bias(sums, after)}
            yield layer, Conv2d(**_window(layer), requant=requant, activation="relu"), tensors

    return _graph(layers())


def _ifmap(rng: np.random.Generator, shape: tuple[int, ...], zeros: float, signed: bool) -> np.ndarray:
    values = np.maximum(1, np.rint(np.abs(rng.normal(0, _IFMAP_DEVIATION, shape))))
    if signed:
        values *= rng.choice((-1, 1), shape)
    values.reshape(-1)[rng.permutation(values.size)[:round(zeros * values.size)]] = 0
    return values.astype(np.int16)


def _bias(sums: np.ndarray, zeros: float) -> np.ndarray:
    """Bias of each channel that leaves a share of its sums (N, M, P, Q) at or below zero."""
    ranked = np.sort(np.moveaxis(sums, 1, 0).reshape(sums.shape[1], -1).astype(np.int32))
    return (-ranked[:, round(zeros * ranked.shape[1]) - 1]).astype(np.int16)


def _shapes(layer: ConvLayer, batch: int) -> dict[str, tuple[int, ...]]:
    return {"x": (batch, layer.c, layer.h, layer.w), "w": (layer.m, layer.c // layer.groups, layer.r, layer.s),
            "b": (layer.m,)}


def _window(layer: ConvLayer) -> dict[str, Any]:
    return {"stride": layer.stride, "padding": layer.padding, "groups": layer.groups}


def _graph(layers: Iterator[tuple[ConvLayer, Conv2d, Mapping[str, np.ndarray]]],
           ) -> tuple[Graph, dict[str, np.ndarray]]:
    """Graph of layers that stand side by side, and its inputs."""
    nodes: list[Node] = []
    constants: dict[str, np.ndarray] = {}
    inputs: dict[str, np.ndarray] = {}
    for layer, operator, tensors in layers:
        names = {role: f"{layer.name}_{role}" for role in ("x", "w", "b", "y")}
        nodes.append(Node(layer.name, operator, {role: names[role] for role in "xwb"}, {"y": names["y"]}))
        inputs[names["x"]] = tensors["x"]
        constants |= {names["w"]: tensors["w"], names["b"]: tensors["b"]}
    declared = {key: Tensor(key, value.shape, value.dtype) for key, value in inputs.items()}
    return Graph(nodes, declared, constants, list(inputs), [node.outputs["y"] for node in nodes]), inputs
