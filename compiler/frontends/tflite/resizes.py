"""Images of other sizes: the nearest elements, and what lies between two."""

import numpy as np

from ....hdl.errors import PearrayError
from ...operators import ConvTranspose2d, Interpolate, Pad, Requant
from .builder import BYTES, Builder, handles
from .file import FileOperator
from .moves import gathered, moved

__all__: list[str] = []


def _sizes(operator: FileOperator, graph: Builder) -> tuple[int, tuple[int, ...], list[int]]:
    """Number and shape of the images, and rows and columns of the output."""
    number, shape = moved(operator, graph)
    sizes = graph.integers(operator, 1, "size")
    if len(shape) != 4 or len(sizes) != 2 or min(sizes) < 1:
        raise PearrayError(f"x must have 4 dimensions, and size 2 integers of at least 1, not {shape} and {sizes}")
    return number, shape, sizes


@handles("RESIZE_NEAREST_NEIGHBOR")
def _resize_nearest(operator: FileOperator, graph: Builder) -> None:
    """Each output the element of x at its place, which is found in float32."""
    number, shape, sizes = _sizes(operator, graph)
    corners, half = graph.option(operator, "AlignCorners"), graph.option(operator, "HalfPixelCenters")
    indices = {}
    for axis, (size, made) in enumerate(zip(shape[1:3], sizes, strict=True), 1):
        aligned = corners and made > 1
        scale = np.float32(size - 1) / np.float32(made - 1) if aligned else np.float32(size) / np.float32(made)
        places = (np.arange(made, dtype=np.float32) + np.float32(0.5 if half else 0)) * scale
        whole = np.floor(places + np.float32(0.5)) if corners else np.floor(places)
        indices[axis] = np.minimum(whole.astype(np.int64), size - 1)
    gathered(operator, graph, number, indices)


def _shares(factor: int, half: bool) -> tuple[np.ndarray, int, int]:
    """How much of outputs is of one element, along an axis that becomes `factor` times as long.

    Returns
    -------
    shares : (taps,) array
        In parts of a unit.
    unit : int
        Parts of a whole.
    first : int
        Outputs before the first one, where an element stands before the image.
    """
    if factor == 1:
        return np.ones(1, np.int64), 1, 1
    if half:
        return 2 * factor - np.abs(2 * np.arange(2 * factor) + 1 - 2 * factor), 2 * factor, 3 * factor // 2
    return factor - np.abs(np.arange(2 * factor - 1) - (factor - 1)), factor, 2 * factor - 1


@handles("RESIZE_BILINEAR")
def _resize_bilinear(operator: FileOperator, graph: Builder) -> None:
    """Images of another size; those that are 1, 2 or 4 times as large are spread by a transposed convolution."""
    number, shape, sizes = _sizes(operator, graph)
    graph.stored(number, "x", *BYTES)
    half, corners = graph.option(operator, "HalfPixelCenters"), graph.option(operator, "AlignCorners")
    if half and corners:
        raise PearrayError("align_corners and half_pixel_centers must not both be True")
    factors = [made // size if made % size == 0 else 0 for size, made in zip(shape[1:3], sizes, strict=True)]
    found = [_shares(factor, half) for factor in factors if factor in (1, 2, 4, 8)]
    weights = 2 * np.multiply.outer(found[0][0], found[1][0]) if len(found) == 2 else np.full(1, 256)
    if weights.max() > 255 or (corners and factors != [1, 1]):
        mode = "align_corners" if corners else "half_pixel" if half else "asymmetric"
        graph.make_image(operator, Interpolate(tuple(sizes), mode, rounding="tflite"), {"x": graph.image(number)})
    else:
        _spread(operator, graph, factors, found, weights)


def _spread(operator: FileOperator, graph: Builder, factors: list[int], found: list[tuple[np.ndarray, int, int]],
            weights: np.ndarray) -> None:
    """Images that are repeated at their edges, spread by a transposed convolution with the shares of each element.

    Shares are doubled, which cancels the first of the two roundings; the second takes halves away from zero.
    """
    number, shape, sizes = _sizes(operator, graph)
    stored = graph.stored(number, "x", *BYTES)
    info, channels = np.iinfo(stored.dtype), shape[3]
    requant = Requant.tflite(1 << 30, -int(np.log2(found[0][1] * found[1][1])), 0, 0, stored.dtype.type(0), "double",
                             (int(info.min), int(info.max)))
    begins = [first for _, _, first in found]
    ends = [(size + 1) * factor + len(shares) - first - made for size, factor, (shares, _, first), made in
            zip(shape[1:3], factors, found, sizes, strict=True)]
    edged = graph.append(operator, Pad((0, 0, 1, 1) * 2, "edge"), {"x": graph.image(number)}, "edged")
    spread = ConvTranspose2d(stride=tuple(factors), groups=channels, padding=(*begins, *ends), requant=requant)
    name = graph.file.tensors[operator.outputs[0]].name
    shares = np.broadcast_to(weights.astype(np.uint8), (channels, 1, *weights.shape))
    graph.make_image(operator, spread, {"x": edged, "w": graph.store(f"{name}:shares", np.ascontiguousarray(shares))})
