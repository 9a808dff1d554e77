"""Operators that take each tensor with a scale and a zero point of its own, as onnxruntime's QLinear operators do."""

from typing import Any, ClassVar

import numpy as np

from ...golden import quantised
from ...hdl.errors import PearrayError, check_choice
from .fields import check_stored, storage_dtype
from .operator import Operator, Typed

__all__ = ["Scaled"]


class Scaled(Operator):
    """Base of operators of which :attr:`stated` names a scale and a zero point for each tensor.

    Either all scales are given or none. The output, y, has the type of its zero point if that is a NumPy integer, else
    that of the first input.

    With `rounding` "onnx" and one type for all tensors they compute what onnxruntime's fused kernel does, which has the
    zero point of the output inside the rounding. For a mixture of types there is none, nor where y is limited before
    QuantizeLinear sees it: that is what `rounding` "float" says. Then DequantizeLinear, the float operator and
    QuantizeLinear follow one another, as the standard says.

    Attributes
    ----------
    roundings : tuple of str
        What `rounding` may be.
    """

    roundings: ClassVar[tuple[str, ...]] = ("onnx", "float")
    rounding: str = "onnx"

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [name for name, _ in self.stated.values()]
        given = [name for name in names if getattr(self, name) is not None]
        if given and given != names:
            raise PearrayError(f"{', '.join(names[:-1])} and {names[-1]} must all be given or none")
        check_choice("rounding", self.rounding, self.roundings)
        if given:
            try:
                quantised.check_reach(**{name: getattr(self, name) for name in names})
            except ValueError as error:
                raise PearrayError(str(error)) from None

    @property
    def _stored_types(self) -> tuple[type[np.integer], ...]:
        """Types that tensors may have where scales are given."""
        return np.int8, np.uint8

    @property
    def is_scaled(self) -> bool:
        """Whether scales are given."""
        return getattr(self, self.stated["y"][0]) is not None

    def stored(self, role: str) -> tuple[Any, int]:
        """Scale, as float32, and zero point of a tensor."""
        scale, zero_point = (getattr(self, name) for name in self.stated[role])
        return np.float32(scale), int(zero_point)

    def _kept_dtype(self, x: Typed) -> np.dtype:
        """Type of x and y, which is one: of 8 bits with scales, of floats without."""
        dtype = np.dtype(x.dtype)
        if self.is_scaled:
            made = self._output_dtype(x=x)
            if made != dtype:
                raise PearrayError(f"y_zero_point must be {dtype}, as x is, not {made}")
        elif dtype.kind != "f":
            raise PearrayError(f"x must be of a float type without scales, not {dtype}: give x_scale and y_scale")
        return dtype

    def is_fused(self, **tensors: Typed) -> bool:
        """Whether the rule for these inputs is that of the fused kernel."""
        dtypes = {np.dtype(tensor.dtype) for tensor in tensors.values()} | {self._output_dtype(**tensors)}
        return self.rounding == "onnx" and len(dtypes) == 1

    def _output_dtype(self, **tensors: Typed) -> np.dtype:
        """Type of y where scales are given, after checking types of tensors and that they can hold zero points."""
        own = storage_dtype(getattr(self, self.stated["y"][1]))
        dtypes = {role: np.dtype(tensor.dtype) for role, tensor in tensors.items()}
        dtypes["y"] = next(iter(dtypes.values())) if own is None else own
        for role, dtype in dtypes.items():
            allowed = self._stored_types
            if dtype not in allowed:
                names = " or ".join(each.__name__ for each in allowed)
                raise PearrayError(f"{role} must be of type {names} where scales are given, not {dtype}")
            name = self.stated[role][1]
            check_stored(name, getattr(self, name), dtype)
        return dtypes["y"]
