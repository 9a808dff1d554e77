"""What operands of drawn operators are on an accelerator, and what becomes of their sums."""

from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar

import numpy as np

from ..compiler.operators import Contraction, FixedPoint, Requant, Sums
from ..compiler.operators.fields import check_size
from .draws import STEPS_PER_DEVIATION, drawn
from .settings import Settings

__all__ = ["Int8", "Int16", "Operands", "floats_of"]


class Operands:
    """How tensors of operators are drawn, and, of an operator with its settings, what its sums become."""

    #: Whether they are floats.
    is_float: ClassVar[bool] = False

    def __init__(self, settings: Settings):
        raise NotImplementedError

    @classmethod
    def draw(cls, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Draw an operand."""
        raise NotImplementedError

    @classmethod
    def bias(cls, rng: np.random.Generator, length: int) -> np.ndarray:
        """Draw biases."""
        raise NotImplementedError

    def operator(self, kind: type[Contraction], tensors: Mapping[str, np.ndarray], **options: Any) -> Contraction:
        """Operator of these tensors."""
        raise NotImplementedError


class Int8(Operands):
    """int8 operands over the full range; outputs are requantised, or int32 sums."""

    def __init__(self, settings: Settings):
        self._out = settings.choice("out", "int8", "int32")

    @classmethod
    def draw(cls, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Draw over the full range."""
        return drawn(rng, shape)

    @classmethod
    def bias(cls, rng: np.random.Generator, length: int) -> np.ndarray:
        """Draw as operands are drawn."""
        return cls.draw(rng, (length,)).astype(np.int32)

    def operator(self, kind: type[Contraction], tensors: Mapping[str, np.ndarray], **options: Any) -> Contraction:
        """Choose the output's scale by the deviation of the sums."""
        plain = kind(**options)
        if self._out == "int32":
            return plain
        # A single sum has no deviation, and needs no scale.
        scale = float(np.std(plain.golden(tensors)["y"])) / STEPS_PER_DEVIATION or 1.0
        return kind(**options, requant=Requant.onnx(1.0, 0, 1.0, 0, scale, 0))


class Int16(Operands):
    """int16 operands over the full range, in fixed point, so that windows cut and sums wrap."""

    def __init__(self, settings: Settings):
        settings.choice("out", "int16")
        self._requant = FixedPoint(settings.integer("shift", 8, 0))

    @classmethod
    def draw(cls, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Draw over the full range."""
        return drawn(rng, shape, 16)

    @classmethod
    def bias(cls, rng: np.random.Generator, length: int) -> np.ndarray:
        """Draw as operands are drawn."""
        return cls.draw(rng, (length,))

    def operator(self, kind: type[Contraction], tensors: Mapping[str, np.ndarray], **options: Any) -> Contraction:
        """Cut each product at the bit that was set."""
        return kind(**options, requant=self._requant)


class _Floats(Operands):
    """Floats about zero, with a deviation of 1; outputs are of the same format, or float32 sums."""

    dtype: ClassVar[np.dtype]
    is_float = True

    def __init__(self, settings: Settings):
        self._out = settings.choice("out", self.dtype.name, "float32")

    @classmethod
    def draw(cls, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Draw from the normal distribution."""
        check_size("tensor of the workload", shape)
        return rng.standard_normal(shape).astype(cls.dtype)

    @classmethod
    def bias(cls, rng: np.random.Generator, length: int) -> np.ndarray:
        """Draw float32 numbers."""
        return rng.standard_normal(length).astype(np.float32)

    def operator(self, kind: type[Contraction], tensors: Mapping[str, np.ndarray], **options: Any) -> Contraction:
        """Round sums, or leave them."""
        return kind(**options, requant=Sums() if self._out == "float32" else None)


@cache
def floats_of(dtype: np.dtype) -> type[Operands]:
    """Operands of a type of floating point."""
    return type(dtype.name, (_Floats,), {"dtype": dtype})
