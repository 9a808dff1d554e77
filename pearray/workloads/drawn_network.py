"""Networks of drawn weights, whose outputs are computed layer by layer, and stored with scales that hold them."""

from typing import Any

import numpy as np

from ..compiler.graph.graph import Graph
from ..compiler.operators import (
    Add,
    AvgPool2d,
    Concat,
    Contraction,
    Conv2d,
    Linear,
    Lookup,
    MaxPool2d,
    Mul,
    Operator,
    Requant,
    Reshape,
)
from ..compiler.operators.fields import check_size
from ..golden import activation as functions
from ..golden import integer
from ..golden.tensors import Padding
from .draws import UNIT, drawn
from .stored import Stored, weights

__all__ = ["DrawnNetwork"]

#: Deviation of biases beside that of the sums of inputs with a deviation of 1.
_BIAS_DEVIATION = 0.1

#: Least numbers before SiLU that are told apart: beyond, a 60th is left at most.
_LEAST_BEFORE_SILU = -6.0


class DrawnNetwork:
    """A network under construction, from an image to classes, int8 throughout.

    Weights are normal with a deviation of ``sqrt(2 / inputs)`` (He et al., 2015), which keeps that of rectified
    outputs, and have a scale for each output channel. Each layer sees the golden outputs of those before, so that its
    own outputs are stored from the least to the greatest of them: nothing that was seen is clipped.

    Parameters
    ----------
    rng : numpy.random.Generator
        Draws the images, then weights and biases of each layer in turn.
    batch : int
        Images.
    shape : (int, int, int)
        C, H and W of an image.

    Members
    -------
    image : str
        Name of the tensor of images, int8 over the full range, with a deviation of 1.
    """

    image = "image"

    def __init__(self, rng: np.random.Generator, batch: int, shape: tuple[int, int, int]):
        self._rng = rng
        check_size("images of the workload", (batch, *shape))
        self._values = {self.image: drawn(rng, (batch, *shape))}
        self._stored = {self.image: Stored(UNIT)}
        self._graph = Graph()
        self._graph.input(self.image, (batch, *shape), np.int8)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor."""
        return self._values[name].shape

    def conv(self, name: str, x: str, m: int, kernel: int, *, stride: int | tuple[int, int] = 1, padding: Padding = 0,
             groups: int = 1, activation: Any = "relu") -> str:
        """Add a convolution of m filters, whose output, biased and perhaps limited, has its name."""
        c = self.shape(x)[1]
        window: dict[str, Any] = {"stride": stride, "padding": padding, "groups": groups}
        w, b, scales = self._drawn(x, (m, c // groups, kernel, kernel))
        sums = integer.conv2d(self._values[x], w, b, **window, x_zero_point=self._stored[x].zero)
        stored = self._fitting(sums, self._stored[x].scale * scales[:, None, None], activation)
        operator = Conv2d(**window, requant=self._requant(x, scales, stored), activation=activation)
        return self._contracted(name, operator, {"x": x, "w": w, "b": b}, sums, stored)

    def linear(self, name: str, x: str, outputs: int, *, activation: Any = "relu") -> str:
        """Add a fully connected layer of x (N, inputs)."""
        w, b, scales = self._drawn(x, (outputs, self.shape(x)[1]))
        sums = integer.linear(self._values[x], w, b, x_zero_point=self._stored[x].zero)
        stored = self._fitting(sums, self._stored[x].scale * scales, activation)
        operator = Linear(requant=self._requant(x, scales, stored), activation=activation)
        return self._contracted(name, operator, {"x": x, "w": w, "b": b}, sums, stored)

    def max_pool(self, name: str, x: str, kernel: int, stride: int, padding: Padding = 0,
                 ceil_mode: bool = False) -> str:
        """Add max pooling."""
        return self._add(name, MaxPool2d(kernel, stride, padding, ceil_mode=ceil_mode), {"x": x}, self._stored[x])

    def mean(self, name: str, x: str) -> str:
        """Add the mean of whole images, as (N, C, 1, 1)."""
        before = self._stored[x]
        means = before.real(self._values[x]).mean(axis=(2, 3))
        stored = Stored.between(min(means.min(), 0), max(means.max(), 0))
        return self._add(name, AvgPool2d(x_scale=before.scale, x_zero_point=before.zero, y_scale=stored.scale,
                                         y_zero_point=stored.zero), {"x": x}, stored)

    def add(self, name: str, a: str, b: str, *, rectified: bool) -> str:
        """Add the sum of two tensors of one shape, perhaps without what is below zero."""
        first, second = self._stored[a], self._stored[b]
        real = first.real(self._values[a]) + second.real(self._values[b])
        stored = Stored.between(0 if rectified else min(real.min(), 0), max(real.max(), 0))
        # The least byte of a rectified sum stands for zero, so the limit costs no operator.
        operator = Add(A_scale=first.scale, A_zero_point=first.zero, B_scale=second.scale, B_zero_point=second.zero,
                       C_scale=stored.scale, C_zero_point=stored.zero)
        return self._add(name, operator, {"a": a, "b": b}, stored)

    def concat(self, name: str, *parts: str) -> str:
        """Add the channels of some tensors, one behind the other."""
        stored = [self._stored[part] for part in parts]
        ends = [each.real(np.array([np.min(self._values[part]), np.max(self._values[part])]))
                for each, part in zip(stored, parts, strict=True)]
        joined = Stored.between(min(0, np.min(ends)), np.max(ends))
        operator = Concat(axis=1, x_scale=tuple(each.scale for each in stored),
                          x_zero_point=tuple(each.zero for each in stored), y_scale=joined.scale,
                          y_zero_point=joined.zero)
        return self._add(name, operator, {f"x{index}": part for index, part in enumerate(parts)}, joined)

    def sigmoid(self, name: str, x: str) -> str:
        """Add the logistic function, whose outputs are stored from 0 to 1."""
        before, stored = self._stored[x], Stored.between(0, 1)
        table = functions.table("sigmoid", before.scale, before.zero, stored.scale, stored.zero, np.int8)
        return self._add(name, Lookup(table), {"x": x}, stored)

    def scaled(self, name: str, x: str, factors: str) -> str:
        """Add the product of images and a factor for each of their channels, (N, C, 1, 1)."""
        first, second = self._stored[x], self._stored[factors]
        real = first.real(self._values[x]) * second.real(self._values[factors])
        stored = Stored.between(min(real.min(), 0), max(real.max(), 0))
        operator = Mul(A_scale=first.scale, A_zero_point=first.zero, B_scale=second.scale, B_zero_point=second.zero,
                       C_scale=stored.scale, C_zero_point=stored.zero)
        return self._add(name, operator, {"a": x, "b": factors}, stored)

    def flatten(self, name: str, x: str) -> str:
        """Add a view of images as rows."""
        return self._add(name, Reshape((self.shape(x)[0], -1)), {"x": x}, self._stored[x])

    def finished(self, output: str) -> tuple[Graph, dict[str, np.ndarray]]:
        """Graph with one output, and its inputs."""
        self._graph.output(output)
        return self._graph, {self.image: self._values[self.image]}

    def _drawn(self, x: str, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Weights, biases in steps of the sums, and the scales of the weights, one for each output channel."""
        check_size("weights of the workload", shape)
        inputs = int(np.prod(shape[1:]))
        real = self._rng.standard_normal((shape[0], inputs), np.float32) * np.float32((2 / inputs) ** 0.5)
        w, scales = weights(real)
        bias = self._rng.normal(0, _BIAS_DEVIATION, shape[0])
        return w.reshape(shape), np.rint(bias / (self._stored[x].scale * scales)).astype(np.int32), scales

    @staticmethod
    def _fitting(sums: np.ndarray, steps: np.ndarray, activation: Any) -> Stored:
        """How sums in steps of each channel are stored behind an activation."""
        real = sums * steps
        low, high = min(float(real.min()), 0.0), max(float(real.max()), 0.0)
        if activation == "relu":
            low = 0.0
        elif activation == "silu":
            low = max(low, _LEAST_BEFORE_SILU)
        elif activation is not None:
            _, least, most = activation
            low, high = max(low, least), min(high, most)
        return Stored.between(low, high or 1.0)

    def _requant(self, x: str, scales: np.ndarray, stored: Stored) -> Requant:
        before = self._stored[x]
        return Requant.onnx(before.scale, before.zero, scales, 0, stored.scale, stored.zero)

    def _contracted(self, name: str, operator: Contraction, inputs: dict[str, Any], sums: np.ndarray,
                    stored: Stored) -> str:
        """Add an operator whose sums are known, which take longer than all else of a network."""
        return self._append(name, operator, inputs, stored, operator.outputs_of(sums, np.dtype(np.int8)))

    def _add(self, name: str, operator: Operator, inputs: dict[str, str], stored: Stored) -> str:
        outputs = operator.golden({role: self._values[each] for role, each in inputs.items()})["y"]
        return self._append(name, operator, inputs, stored, outputs)

    def _append(self, name: str, operator: Operator, inputs: dict[str, Any], stored: Stored,
                outputs: np.ndarray) -> str:
        self._values[name], self._stored[name] = outputs, stored
        return self._graph.add(name, operator, **inputs)
