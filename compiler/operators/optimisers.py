"""Steps of optimisers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ...golden import optimisers
from ...hdl.errors import PearrayError
from .fields import Number
from .floats import FLOAT, check_float, check_like
from .operator import Operator, Part, Spec, Typed

__all__ = ["SGD", "Adam", "AdamFactors", "Optimiser"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Optimiser(Operator):
    """Base of optimisers, which make a weight's next value of w and its gradient dw, and keep tensors like them.

    What is one number for a whole step may be an input of shape (), float32: `unscaled`, by which dw is multiplied
    (one over the factor of the loss), and the scalars of the kind, in place of numbers that the operator has itself.

    Parameters
    ----------
    lr : float
        Learning rate, at least 0.
    weight_decay : float
        Times w, is added to dw; at least 0.
    """

    lr: Number
    weight_decay: Number = 0.0

    #: Inputs of shape () that follow from a step's number and rate.
    scalars: ClassVar[tuple[str, ...]] = ()

    @property
    def state(self) -> tuple[str, ...]:
        """Roles of what is kept from step to step, zeros before the first."""
        raise NotImplementedError

    def scalars_of(self, step: int, lr: float | None = None) -> Mapping[str, float]:
        """Values of :attr:`scalars` for a step, counted from 1, of a rate; the operator's own if absent."""
        raise NotImplementedError

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("lr", "weight_decay"):
            if getattr(self, name) < 0:
                raise PearrayError(f"{name} must be at least 0, not {getattr(self, name)}")
            _check_held(name, getattr(self, name))

    def _check(self, w: Typed, others: Mapping[str, Typed]) -> None:
        """Check that all tensors are like w, but for scalars."""
        check_float(w=w)
        for role, tensor in others.items():
            check_like(role, tensor, () if role in ("unscaled", *self.scalars) else tuple(w.shape))


def _check_held(name: str, value: float) -> None:
    if value > float(np.finfo(np.float32).max):
        raise PearrayError(f"{name} must be a number that float32 holds, not {value}")


def _below_one(optimiser: Optimiser, *names: str) -> None:
    for name in names:
        if not 0 <= getattr(optimiser, name) < 1:
            raise PearrayError(f"{name} must be at least 0 and less than 1, not {getattr(optimiser, name)}")


@dataclass(frozen=True, eq=False, kw_only=True)
class SGD(Optimiser):
    """One step of gradient descent: w and dw of one shape, optional velocity v; outputs w and v.

    Parameters
    ----------
    lr : float
        Learning rate, unless a run gives `rate` ().
    momentum : float
        Factor of the velocity, at least 0 and less than 1: ``v = momentum * v + dw``, ``w = w - lr * v``.
    weight_decay : float
        Times w, is added to dw.
    """

    momentum: Number = 0.0

    required = ("w", "dw")
    optional = ("v", "rate", "unscaled")
    outputs = ("w", "v")
    scalars = ("rate",)

    def __post_init__(self) -> None:
        super().__post_init__()
        _below_one(self, "momentum")

    @property
    def state(self) -> tuple[str, ...]:
        """The velocity, if there is a momentum."""
        return ("v",) if self.momentum else ()

    def scalars_of(self, step: int, lr: float | None = None) -> Mapping[str, float]:
        """The rate."""
        return {"rate": self.lr if lr is None else lr}

    def _types(self, w: Typed, **others: Typed) -> list[Spec]:
        self._check(w, others)
        return [(tuple(w.shape), FLOAT)] * 2

    def _compute(self, w: np.ndarray, dw: np.ndarray, v: np.ndarray | None = None, rate: np.ndarray | None = None,
                 unscaled: np.ndarray | None = None) -> list[np.ndarray]:
        return [*optimisers.sgd(w, dw, self.lr if rate is None else float(rate), momentum=self.momentum, velocity=v,
                               weight_decay=self.weight_decay, unscaled=1.0 if unscaled is None else float(unscaled))]


@dataclass(frozen=True, eq=False, kw_only=True)
class AdamFactors(Operator):
    """Factors of a step of Adam, size and root () float32, of its number, step () int64; the host computes them.

    Parameters
    ----------
    lr, beta1, beta2 : float
        As for :class:`Adam`.
    """

    lr: Number
    beta1: Number
    beta2: Number

    at_edge = True
    required = ("step",)
    outputs = ("size", "root")

    def _types(self, step: Typed) -> list[Spec]:
        return [((), FLOAT)] * 2

    def _compute(self, step: np.ndarray) -> list[np.ndarray]:
        return [np.asarray(each, np.float32) for each in optimisers.adam_factors(
            self.lr, int(step), self.beta1, self.beta2)]


@dataclass(frozen=True, eq=False, kw_only=True)
class Adam(Optimiser):
    """One step of Adam: w, dw, and the running means m and v, all of one shape; outputs w, m and v.

    Besides it takes either `step` () int64, the step's number from 1, or `size` and `root` (), which
    :func:`.golden.optimisers.adam_factors` makes of that and the rate; see :func:`.golden.optimisers.adam_step`.

    Parameters
    ----------
    lr : float
        Learning rate, with `step`.
    beta1, beta2 : float
        How much of the means is kept, at least 0 and less than 1.
    epsilon, weight_decay : float
        Added to the divisor, more than 0; times w, added to dw.
    """

    beta1: Number = 0.9
    beta2: Number = 0.999
    epsilon: Number = 1e-8

    required = ("w", "dw", "m", "v")
    optional = ("step", "size", "root", "unscaled")
    outputs = ("w", "m", "v")
    scalars = ("size", "root")

    def __post_init__(self) -> None:
        super().__post_init__()
        _below_one(self, "beta1", "beta2")
        if not self.epsilon > 0:
            raise PearrayError(f"epsilon must be more than 0, not {self.epsilon}")
        _check_held("epsilon", self.epsilon)
        if not np.float32(self.epsilon):
            raise PearrayError(f"epsilon must be a number that float32 holds, not {self.epsilon}, which is 0 there")

    @property
    def state(self) -> tuple[str, ...]:
        """Both means."""
        return "m", "v"

    def scalars_of(self, step: int, lr: float | None = None) -> Mapping[str, float]:
        """Factors of the step."""
        made = optimisers.adam_factors(self.lr if lr is None else lr, step, self.beta1, self.beta2)
        return dict(zip(self.scalars, made, strict=True))

    def parts(self, tensors: Mapping[str, Typed]) -> list[Part]:
        """The factors of a step whose number is given, which the host computes, and the step by these."""
        if "step" not in tensors:
            return []
        factors = AdamFactors(lr=self.lr, beta1=self.beta1, beta2=self.beta2)
        others = {role: role for role in tensors if role != "step"}
        return [Part("size", factors, {"step": "step"}), Part("w", self, others | {"size": "size", "root": "root"})]

    def _types(self, w: Typed, step: Typed | None = None, **others: Typed) -> list[Spec]:
        self._check(w, others)
        given = [role for role in self.scalars if role in others]
        if len(given) != (len(self.scalars) if step is None else 0):
            raise PearrayError("either step or both size and root must be given")
        if step is not None and (tuple(step.shape), np.dtype(step.dtype)) != ((), np.int64):
            raise PearrayError(f"step must be int64 of shape (), not {step.dtype} of shape {tuple(step.shape)}")
        return [(tuple(w.shape), FLOAT)] * 3

    def _compute(self, w: np.ndarray, dw: np.ndarray, m: np.ndarray, v: np.ndarray, step: np.ndarray | None = None,
                 size: Any = None, root: Any = None, unscaled: np.ndarray | None = None) -> list[np.ndarray]:
        factors = self.scalars_of(int(step)).values() if step is not None else (float(size), float(root))
        return [*optimisers.adam_step(w, dw, *factors, first=m, second=v, beta1=self.beta1, beta2=self.beta2,
                                      epsilon=self.epsilon, weight_decay=self.weight_decay,
                                      unscaled=1.0 if unscaled is None else float(unscaled))]
