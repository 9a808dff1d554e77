"""Programs of interpolation, against its golden model."""

import numpy as np
import pytest
from random_workloads import configuration, interpret

import pearray as pe
from pearray.compiler.graph.graph import Graph


@pytest.mark.parametrize(("size", "sizes", "mode"), [
    ((2, 2), (3, 3), "asymmetric"), ((4, 2), (5, 6), "half_pixel"), ((3, 5), (7, 4), "align_corners")])
def test_shares_of_any_denominator(rng, size, sizes, mode):
    """Digits are taken from a sum by factors beyond a byte: one that is cut off would show in most elements."""
    x = rng.integers(-128, 128, (1, 2, *size), dtype=np.int8)
    operator = pe.Interpolate(sizes, mode, rounding="tflite")
    interpret(Graph.of(operator, {"x": x}), {"x": x}, configuration(), effort=0)
