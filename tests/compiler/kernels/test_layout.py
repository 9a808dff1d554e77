"""Layouts under other shapes and orders of axes: the same bytes, seen otherwise."""

import numpy as np
import pytest

from pearray.compiler.kernels.layout import Layout
from pearray.hdl.errors import PearrayError


def _splits(rng, size):
    """Factors of a size, in any order, ones among them."""
    found = []
    while size > 1:
        found.append(int(rng.choice([each for each in range(2, size + 1) if size % each == 0])))
        size //= found[-1]
    return [*found, 1] if rng.integers(3) == 0 else found or [1]


def test_reshapes_and_transpositions_are_those_of_numpy(rng):
    """A view that pointed to another element would compute with wrong operands, and nobody would notice but golden."""
    followed = 0
    for _ in range(300):
        shape = tuple(rng.integers(1, 7, rng.integers(1, 5)).tolist())
        layout, memory = Layout.of(shape), np.arange(np.prod(shape))
        tensor = layout.from_memory(memory)
        for _ in range(int(rng.integers(1, 5))):
            if rng.integers(2):
                sizes = tuple(part for size in tensor.shape for part in _splits(rng, size))
                layout, tensor = layout.reshaped(sizes), tensor.reshape(sizes)
            else:
                order = tuple(rng.permutation(tensor.ndim).tolist())
                layout, tensor = layout.transposed(order), tensor.transpose(order)
            followed += 1
            np.testing.assert_array_equal(layout.positions(), tensor)
            np.testing.assert_array_equal(layout.from_memory(memory), tensor)
            np.testing.assert_array_equal(layout.to_memory(np.ascontiguousarray(tensor)), memory)
            _check_strides(layout, tensor)
    assert followed > 300


def _check_strides(layout, tensor):
    """Strides say where each element is, and there are none only where no stride says it."""
    steps = [np.diff(tensor, axis=axis).reshape(-1) for axis in range(tensor.ndim)]
    found = layout.strides()
    if found is None:
        assert any(step.size and (step != step[0]).any() for step in steps)
        return
    for step, stride in zip(steps, found, strict=True):
        assert (step == stride).all()
        assert step.size or stride == 0


def test_what_splits_an_axis_in_memory_cannot_be_transposed():
    """Three of every four elements in memory are no axis; a copy would be needed."""
    with pytest.raises(PearrayError, match=r"^a tensor of shape \(3, 8\) whose elements stand in memory as \(4, 6\) "):
        Layout.of((4, 6)).reshaped((3, 8)).transposed((1, 0))
    assert Layout.of((4, 6)).reshaped((3, 8)).strides() is None
