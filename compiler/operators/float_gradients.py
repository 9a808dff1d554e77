"""Functions of floats, element by element, and gradients of what is no contraction.

The backward pass of graphs makes them, and routines compute them
(:mod:`..graph.passes.backward`).
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ...golden import float_normalisation, gradients, pool_gradients
from ...golden.activation_gradients import activation_grad
from ...hdl.errors import PearrayError
from .activation import Activation, check_activation, float_activation
from .channelwise import AvgPool2d, MaxPool2d
from .fields import Flag, Index, Integers, Shape
from .floats import FLOAT, check_float, check_like
from .moved import OUTSIDE, Moved, checked_axis
from .operator import Operator, Spec, Typed

__all__ = ["Function", "FunctionGrad", "MovedGrad", "NormGrad", "PoolGrad", "ReduceGrad", "SoftmaxGrad", "SumTo"]

@dataclass(frozen=True, eq=False)
class Function(Operator):
    """An activation of float32 x by itself, as contractions have it behind their sums.

    Parameters
    ----------
    activation
        One of :func:`.activation.check_activation`, but None.
    """

    activation: Activation

    def __post_init__(self) -> None:
        super().__post_init__()
        check_activation(self.activation)
        if self.activation is None:
            raise PearrayError("activation must not be None")

    def _types(self, x: Typed) -> list[Spec]:
        check_float(x=x)
        return [(tuple(x.shape), FLOAT)]

    def _compute(self, x: np.ndarray) -> list[np.ndarray]:
        return [float_activation(self.activation, x)]


class _Gradient(Operator):
    """Base of gradients with respect to x, of which dy has the shape that `_forward` says."""

    required: ClassVar[tuple[str, ...]] = ("x", "dy")
    outputs: ClassVar[tuple[str, ...]] = ("dx",)

    def _forward(self, x: Typed) -> tuple[int, ...]:
        return tuple(x.shape)

    def _types(self, x: Typed, dy: Typed) -> list[Spec]:
        check_float(x=x)
        check_like("dy", dy, self._forward(x))
        return [(tuple(x.shape), FLOAT)]


@dataclass(frozen=True, eq=False)
class FunctionGrad(_Gradient):
    """Gradient of an activation: x (of "relu" and "clip" also the output) and dy of one shape give dx.

    Parameters
    ----------
    activation
        As for :class:`Function`.
    """

    activation: Activation

    def _compute(self, x: np.ndarray, dy: np.ndarray) -> list[np.ndarray]:
        return [activation_grad(self.activation, x, dy)]


@dataclass(frozen=True, eq=False)
class PoolGrad(_Gradient):
    """Gradient of a pooling of floats.

    Parameters
    ----------
    pool : MaxPool2d or AvgPool2d
        The pooling.
    """

    pool: MaxPool2d | AvgPool2d

    def _forward(self, x: Typed) -> tuple[int, ...]:
        return self.pool.infer({"x": x})["y"][0]

    def _compute(self, x: np.ndarray, dy: np.ndarray) -> list[np.ndarray]:
        kernel, stride = self.pool.window(x.shape)
        given: dict[str, Any] = {"stride": stride, "padding": self.pool.padding, "ceil_mode": self.pool.ceil_mode}
        if isinstance(self.pool, MaxPool2d):
            return [pool_gradients.max_pool2d_grad(x, dy, kernel, **given, dilation=self.pool.dilation)]
        return [pool_gradients.average_pool2d_grad(x, dy, kernel, **given,
                                                   count_include_pad=self.pool.count_include_pad)]


@dataclass(frozen=True, eq=False)
class SoftmaxGrad(Operator):
    """Gradient of a softmax: its output y and dy give dx.

    Parameters
    ----------
    axis : int
        Axis along which outputs add up to one.
    """

    axis: Index = -1

    required: ClassVar[tuple[str, ...]] = ("y", "dy")
    outputs: ClassVar[tuple[str, ...]] = ("dx",)

    def _types(self, y: Typed, dy: Typed) -> list[Spec]:
        check_float(y=y)
        checked_axis("axis", self.axis, len(y.shape))
        check_like("dy", dy, tuple(y.shape))
        return [(tuple(y.shape), FLOAT)]

    def _compute(self, y: np.ndarray, dy: np.ndarray) -> list[np.ndarray]:
        rows = (np.moveaxis(tensor, self.axis, -1) for tensor in (y, dy))
        return [np.moveaxis(gradients.softmax_grad(*rows), -1, self.axis)]


@dataclass(frozen=True, eq=False)
class NormGrad(Operator):
    """Gradients of LayerNorm or RMSNorm of floats: x (..., D), gamma (D,) and dy give dx, dgamma and, centred, dbeta.

    Parameters
    ----------
    centred : bool
        Whether rows lose their mean, as those of LayerNorm.
    epsilon : float
        Added to the variance, or to the mean of the squares.
    """

    centred: Flag
    epsilon: float

    required: ClassVar[tuple[str, ...]] = ("x", "gamma", "dy")
    outputs: ClassVar[tuple[str, ...]] = ("dx", "dgamma", "dbeta")

    def __post_init__(self) -> None:
        super().__post_init__()
        vars(self)["outputs"] = NormGrad.outputs[:3 if self.centred else 2]

    def _types(self, x: Typed, gamma: Typed, dy: Typed) -> list[Spec]:
        check_float(x=x)
        shape = tuple(x.shape)
        check_like("gamma", gamma, shape[-1:])
        check_like("dy", dy, shape)
        return [(shape, FLOAT), *[(shape[-1:], FLOAT)] * (len(self.outputs) - 1)]

    def _compute(self, x: np.ndarray, gamma: np.ndarray, dy: np.ndarray) -> list[np.ndarray]:
        model = float_normalisation.layer_norm_grad if self.centred else float_normalisation.rms_norm_grad
        return [*model(x, gamma, dy, epsilon=self.epsilon)]


@dataclass(frozen=True, eq=False)
class SumTo(Operator):
    """Sum along the axes along which a tensor of a shape was broadcast to that of x: elements in order, in float32.

    Parameters
    ----------
    shape : tuple of int
        That shape, which y has.
    """

    shape: Shape

    def _types(self, x: Typed) -> list[Spec]:
        check_float(x=x)
        whole = tuple(x.shape)
        own = (1,) * (len(whole) - len(self.shape)) + self.shape
        if len(own) > len(whole) or any(size not in (1, other) for size, other in zip(own, whole, strict=True)):
            raise PearrayError(f"shape must broadcast to that of x, {whole}, not be {self.shape}")
        return [(self.shape, FLOAT)]

    def _compute(self, x: np.ndarray) -> list[np.ndarray]:
        own = (1,) * (x.ndim - len(self.shape)) + self.shape
        spread = tuple(axis for axis, size in enumerate(own) if size != x.shape[axis])
        return [gradients.sum_along(x, spread).reshape(self.shape)]


@dataclass(frozen=True, eq=False)
class ReduceGrad(_Gradient):
    """Gradient of a sum or mean along axes of x: dy at each element, divided by their number for a mean.

    Parameters
    ----------
    axes : integers
        The axes, from the first.
    is_mean : bool
        Whether it is a mean.
    """

    axes: Integers
    is_mean: Flag

    def _types(self, x: Typed, dy: Typed) -> list[Spec]:
        check_float(x=x, dy=dy)
        kept = [size for axis, size in enumerate(x.shape) if axis not in self.axes]
        if [size for size in dy.shape if size != 1] != [size for size in kept if size != 1]:
            raise PearrayError(f"dy must have the axes {kept} that x of shape {tuple(x.shape)} keeps, not shape "
                               f"{tuple(dy.shape)}")
        return [(tuple(x.shape), FLOAT)]

    def _compute(self, x: np.ndarray, dy: np.ndarray) -> list[np.ndarray]:
        own = tuple(1 if axis in self.axes else size for axis, size in enumerate(x.shape))
        count = np.prod([x.shape[axis] for axis in self.axes], dtype=np.int64) if self.is_mean else 1
        return [np.broadcast_to(dy.reshape(own) / np.float32(count), x.shape).copy()]


@dataclass(frozen=True, eq=False)
class MovedGrad(Operator):
    """Gradient of an operator that moves elements of one tensor: each element of dy is added where it came from.

    Parameters
    ----------
    moved : Moved
        The operator.
    shape : tuple of int
        Shape of its input.
    """

    moved: Moved
    shape: Shape

    required: ClassVar[tuple[str, ...]] = ("dy",)
    outputs: ClassVar[tuple[str, ...]] = ("dx",)

    def _input(self) -> np.ndarray:
        return np.broadcast_to(np.float32(0), self.shape)

    def _types(self, dy: Typed) -> list[Spec]:
        check_like("dy", dy, self.moved.infer({"x": self._input()})["y"][0])
        return [(self.shape, FLOAT)]

    def _compute(self, dy: np.ndarray) -> list[np.ndarray]:
        [part] = self.moved.picked({"x": self._input()})
        places = np.arange(self._input().size).reshape(part.split).transpose(part.order)
        for axis in part.indices:
            picks = part.picks(axis)
            outside = (picks == OUTSIDE).reshape((-1,) + (1,) * (places.ndim - 1 - axis))
            places = np.where(outside, OUTSIDE, places.take(np.maximum(picks, 0), axis))
        return [gradients.scatter_sum(dy.reshape(-1), places.reshape(-1), self._input().size).reshape(self.shape)]
