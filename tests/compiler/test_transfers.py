"""Bodies of LOADs and STOREs."""

import numpy as np
import pytest

from pearray.compiler.transfers import ranges


@pytest.mark.parametrize("sizes", [(7,), (4, 3), (3, 1, 2), (2, 3, 4)])
def test_ranges_of_nested_loops(rng, sizes):
    """A range of a contraction that is cut at the wrong pixel would bring weights that meet others' activations."""
    steps = rng.permutation([1, 10, 100])[:len(sizes)].tolist()
    grid = np.zeros(sizes[::-1], int)
    for axis, (size, step) in enumerate(zip(sizes[::-1], steps[::-1], strict=True)):
        grid += (np.arange(size) * step).reshape([-1 if axis == each else 1 for each in range(len(sizes))])
    expected = grid.reshape(-1)
    for first in range(expected.size):
        for end in range(first, expected.size + 1):
            found = []
            for number, far, dims in ranges(list(zip(sizes, steps, strict=True)), first, end):
                assert number == first + len(found)
                places = np.array([far])
                for count, step in dims:
                    places = (places + np.arange(count)[:, None] * step).reshape(-1)
                found += places.tolist()
            assert found == expected[first:end].tolist()
