"""Random interpolations of images, by each rule, that float32 or the runtime's integers define."""

import numpy as np

import pearray as pe
from pearray.golden.resize import COORDINATES

__all__ = ["interpolate"]

#: Coordinates that LiteRT has.
_TFLITE = ("asymmetric", "half_pixel", "align_corners")


def interpolate(rng, bits=8, most=5):
    """Interpolation of an image of up to so many rows and columns: operator, tensors, and no constants."""
    dtype = rng.choice([np.int8, np.uint8])
    while True:
        n, c, h, w = (int(size) for size in rng.integers(1, [3, 7, most + 1, most + 1]))
        rounding = str(rng.choice(["onnx", "float", "tflite"]))
        mode = str(rng.choice(_TFLITE if rounding == "tflite" else [*COORDINATES]))
        sizes = [int(rng.choice([size, 2 * size, 4 * size, 2 * size - 1, max(size // 2, 1), rng.integers(1, 2 * most)]))
                 for size in (h, w)]
        low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
        x = rng.integers(low, high, (n, c, h, w), dtype, endpoint=True)
        if rng.integers(3) == 0:
            # Sums at the ends of what there is, and many half-way between two outputs.
            x = np.where(rng.integers(0, 2, x.shape), dtype(low), dtype(high))
        zero = dtype(rng.integers(low, high) if rounding == "float" else 0)
        operator = pe.Interpolate(sizes, mode, rounding=rounding, zero_point=zero)
        try:
            operator.infer({"x": x})
        except pe.PearrayError:
            continue
        return operator, {"x": x}, None
