"""Rotary embedding as users state it: shapes, types, positions, and the one-line errors of bad input."""

import numpy as np
import pytest

import pearray as pe
from pearray.golden.rotary import rotary_tables, rotated

SCALES = {"x_scale": 0.1, "y_scale": 0.1}
COS, SIN = rotary_tables(6, 8)


def _tensors(shape=(2, 3, 8), dtype=np.int8, **other):
    """Tensors of six positions, whose heads have eight elements."""
    return {"x": np.zeros(shape, dtype), "cos": COS, "sin": SIN} | other


def test_rows_are_those_of_their_positions(rng):
    """A row that took another's angles would be turned by them; floats are turned as they are."""
    x = rng.normal(size=(2, 3, 8)).astype(np.float32)
    found = pe.golden_run(pe.RotaryEmbedding(offset=3), _tensors() | {"x": x})["y"]
    for p in range(3):
        np.testing.assert_array_equal(found[:, p:p + 1], rotated(x[:, p:p + 1], COS[3 + p:4 + p], SIN[3 + p:4 + p]))


@pytest.mark.parametrize(("fields", "tensors", "message"), [
    ({}, {"x": np.zeros((3, 8), np.int8)}, r"^x must have shape \(H, P, E\), no axis of 0, not \(3, 8\)$"),
    ({}, {"x": np.zeros((1, 3, 8), np.int16)}, "^x must be of type int8 or uint8 where scales are given, not int16$"),
    ({}, {"cos": COS[:5]}, r"^cos and sin must be of float and of one shape \(T, R / 2\), R at most 8, not float32 of"),
    ({}, {"x": np.zeros((1, 3, 7), np.int8)}, r"^cos and sin must be .* R at most 7, not float32 of shape \(6, 4\)"),
    ({}, {"sin": SIN.astype(np.int8)}, "^cos and sin must be of float .* and int8 of shape"),
    ({"offset": 4}, {}, "^cos and sin must have a row for each of 3 positions from 4 on, not 6$"),
    ({"y_zero_point": np.uint8(3)}, {}, "^y_zero_point must be int8, as x is, not uint8$"),
])
def test_wrong_tensors_are_named(fields, tensors, message):
    """A wrong shape must not come to light as wrong outputs."""
    with pytest.raises(pe.PearrayError, match=message):
        pe.golden_run(pe.RotaryEmbedding(**SCALES, **fields), _tensors(**tensors))


@pytest.mark.parametrize(("fields", "message"), [
    ({"offset": -1}, r"^offset must be an integer in 0\.\.65535, not -1$"),
    ({"x_scale": 0}, r"^x_scale must be finite and above 0, not 0"),
    ({"y_scale": None}, "^x_scale and y_scale must all be given or none$"),
    ({"interleaved": "no"}, "^interleaved must be "),
])
def test_wrong_fields_are_named(fields, message):
    """A wrong parameter must not come to light as wrong outputs."""
    with pytest.raises(pe.PearrayError, match=message):
        pe.RotaryEmbedding(**SCALES | fields)


def test_wrong_accelerators_are_named():
    """What an accelerator can't do is said when a program is compiled, not by its results."""
    with pytest.raises(pe.PearrayError, match=r"^x must be of an integer type of at most 8 bits"):
        pe.run(pe.RotaryEmbedding(), _tensors(dtype=np.float32), on="systolic-8x8")
    narrow = pe.load_config("systolic-8x8", overrides={"array.operand_bits": 4})
    with pytest.raises(pe.PearrayError, match=r"needs an array of integers of array\.operand_bits = 8, not 4$"):
        pe.compile(pe.RotaryEmbedding(**SCALES), _tensors(), on=narrow)
