"""Operators on images that move pixels: other sizes, and channels that become blocks of pixels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...golden.resize import COORDINATES, NEAREST, SIMPLE, nearest_indices
from ...hdl.errors import PearrayError, check_choice
from .fields import MOST_ELEMENTS, Count, Integers, Scales
from .moved import Moved, Picked, PickedAlong
from .operator import Spec, Typed

__all__ = ["DepthToSpace", "Resize", "SpaceToDepth"]


@dataclass(frozen=True, eq=False)
class Resize(PickedAlong):
    """Another size of axes, each output the nearest element of x, as onnxruntime's Resize finds it.

    Parameters
    ----------
    scales : numbers, optional
        Outputs for each element of each axis, as float32; outputs are cut to a whole number.
    sizes : integers, optional
        Elements of each axis of the output. With `scales` besides these tell places only.
    coordinate_mode : str
        How an output's place in x is found: one of :data:`.golden.resize.COORDINATES`.
    nearest_mode : {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil", "simple"}
        Which element is the nearest to a place. ``simple`` is ``floor`` along axes that grow and ``ceil`` along others,
        with "asymmetric" the rule of ONNX before operator set 11.
    """

    scales: Scales = None
    sizes: Integers = None
    coordinate_mode: str = "half_pixel"
    nearest_mode: str = "round_prefer_floor"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scales is None and self.sizes is None:
            raise PearrayError("scales or sizes must be given")
        check_choice("coordinate_mode", self.coordinate_mode, (*COORDINATES,))
        check_choice("nearest_mode", self.nearest_mode, (*NEAREST, SIMPLE))

    def sizes_and_scales(self, shape: Sequence[int]) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """Elements of each axis of the output for an input of a shape, and how many there are for each of the input's.

        Raises
        ------
        PearrayError
            If there are none, too many, or not as many numbers as axes.
        """
        for name, given in (("scales", self.scales), ("sizes", self.sizes)):
            if given is not None and len(given) != len(shape):
                raise PearrayError(f"{name} must have a number for each of the {len(shape)} axes of x, not "
                                   f"{len(given)}")
        sizes, scales = self.sizes, self.scales
        if sizes is None:
            with np.errstate(over="ignore"):
                made = [np.float32(scale) * np.float32(size) for scale, size in zip(scales, shape, strict=True)]
            if max(made, default=0) > MOST_ELEMENTS:
                raise PearrayError(f"scales must make at most {MOST_ELEMENTS} elements of each axis of x of shape "
                                   f"{tuple(shape)}, not be {scales}")
            sizes = tuple(map(int, made))
        if min(sizes, default=1) < 1:
            raise PearrayError(f"scales or sizes must leave an element of each axis of x of shape {tuple(shape)}, not "
                               f"make {sizes}")
        if scales is None:
            scales = tuple(float(np.float32(made) / np.float32(size)) for made, size in zip(sizes, shape, strict=True))
        return sizes, scales

    def _indices(self, shape: Sequence[int]) -> dict[int, np.ndarray]:
        sizes, scales = self.sizes_and_scales(shape)
        if sizes == tuple(shape):
            # The runtime copies what keeps its shape, whatever the scales.
            return {}
        return {axis: nearest_indices(self.coordinate_mode, self.nearest_mode, scale, (size, made))
                for axis, (size, made, scale) in enumerate(zip(shape, sizes, scales, strict=True))
                if scale != 1 or made != size}

    def _types(self, x: Typed) -> list[Spec]:
        return [(self.sizes_and_scales(x.shape)[0], np.dtype(x.dtype))]


def _image(x: Typed) -> tuple[int, int, int, int]:
    if len(x.shape) != 4:
        raise PearrayError(f"x must have 4 dimensions (N, C, H, W), not shape {tuple(x.shape)}")
    n, c, h, w = x.shape
    return n, c, h, w


@dataclass(frozen=True, eq=False)
class DepthToSpace(Moved):
    """Channels of x (N, C, H, W) as blocks of pixels: y (N, C / B / B, H B, W B).

    Parameters
    ----------
    block : int
        Side B of a block.
    mode : {"DCR", "CRD"}
        Whether a channel's number counts blocks first, ``(row * B + column) * C' + c'``, or last,
        ``(c' * B + row) * B + column``.
    """

    block: Count
    mode: str = "DCR"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("mode", self.mode, ("DCR", "CRD"))

    def _types(self, x: Typed) -> list[Spec]:
        n, c, h, w = _image(x)
        if c % self.block**2:
            raise PearrayError(f"block must be one whose square divides the {c} channels of x, not {self.block}")
        return [((n, c // self.block**2, h * self.block, w * self.block), np.dtype(x.dtype))]

    def _form(self, x: Typed) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shape of x with its channels split, and the order of axes in which y has them."""
        (n, c, h, w), block = _image(x), self.block
        if self.mode == "DCR":
            return (n, block, block, c // block**2, h, w), (0, 3, 4, 1, 5, 2)
        return (n, c // block**2, block, block, h, w), (0, 1, 4, 2, 5, 3)

    def _compute(self, x: np.ndarray) -> list[np.ndarray]:
        [(shape, _)] = self._types(x)
        split, order = self._form(x)
        return [np.ascontiguousarray(x.reshape(split).transpose(order).reshape(shape))]

    def picked(self, tensors: Mapping[str, Typed]) -> list[Picked]:
        """All of x."""
        return [Picked.ordered("x", *self._form(tensors["x"]))]


#: Axes of images split into blocks, (N, C, H / B, B, W / B, B), in the order in which SpaceToDepth has them.
_SPACE_ORDER = (0, 3, 5, 1, 2, 4)


@dataclass(frozen=True, eq=False)
class SpaceToDepth(Moved):
    """Blocks of pixels of x (N, C, H, W) as channels: y (N, B B C, H / B, W / B).

    Parameters
    ----------
    block : int
        Side B of a block; channel ``(row * B + column) * C + c`` of y is channel c of x.
    """

    block: Count

    def _types(self, x: Typed) -> list[Spec]:
        n, c, h, w = _image(x)
        if h % self.block or w % self.block:
            raise PearrayError(f"block must divide height and width of x of shape {tuple(x.shape)}, not be "
                               f"{self.block}")
        return [((n, c * self.block**2, h // self.block, w // self.block), np.dtype(x.dtype))]

    def _split(self, x: Typed) -> tuple[int, ...]:
        n, c, h, w = _image(x)
        return n, c, h // self.block, self.block, w // self.block, self.block

    def _compute(self, x: np.ndarray) -> list[np.ndarray]:
        [(shape, _)] = self._types(x)
        return [np.ascontiguousarray(x.reshape(self._split(x)).transpose(_SPACE_ORDER).reshape(shape))]

    def picked(self, tensors: Mapping[str, Typed]) -> list[Picked]:
        """All of x."""
        return [Picked.ordered("x", self._split(tensors["x"]), _SPACE_ORDER)]
