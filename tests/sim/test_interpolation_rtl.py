"""Interpolation by matrices of shares on the RTL, against the golden model, which equals LiteRT and onnxruntime."""

import numpy as np
import pytest
from kinds import SMALL

import pearray as pe
from pearray.compiler.kernels import interpolation


@pytest.mark.parametrize("on", ["systolic-8x8", SMALL["row-stationary-8"]], ids=["systolic-8x8", "row-stationary"])
@pytest.mark.parametrize(("operator", "dtype"), [
    (pe.Interpolate((11, 9), "align_corners", rounding="tflite"), np.int8),
    (pe.Interpolate((5, 13), "align_corners", rounding="onnx"), np.int8),
    (pe.Interpolate((9, 13), "align_corners", rounding="float", zero_point=np.uint8(131)), np.uint8)],
    ids=["tflite", "onnx", "float"])
def test_matrices_of_shares(rng, monkeypatch, operator, dtype, on):
    """Sums that are stored and read again as bytes, of both signs of rounding, and halves that go to even outputs."""
    monkeypatch.setattr(interpolation, "_KERNELS", 0)
    info = np.iinfo(dtype)
    x = rng.integers(info.min, info.max, (2, 3, 3, 4), dtype, endpoint=True)
    settings = {"effort": 0} if on == "systolic-8x8" else {}
    np.testing.assert_array_equal(pe.run(operator, {"x": x}, on=on, **settings).outputs["y"],
                                  operator.golden({"x": x})["y"])
