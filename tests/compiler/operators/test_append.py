"""Append as users state it: what it gives, and the one-line errors of bad input."""

import numpy as np
import pytest

import pearray as pe

PAST, ROWS = np.zeros((2, 8, 4), np.int8), np.ones((2, 3, 4), np.int8)


def test_rows_take_the_place_of_others(rng):
    """Rows that came one further on would leave a gap of what was there before."""
    past, x = (rng.integers(-128, 128, shape).astype(np.int8) for shape in ((2, 8, 4), (2, 3, 4)))
    found = pe.golden_run(pe.Append(offset=1), {"past": past, "x": x, "position": 2})["present"]
    np.testing.assert_array_equal(found, np.concatenate([past[:, :3], x, past[:, 6:]], axis=1))


@pytest.mark.parametrize(("tensors", "message"), [
    ({"x": ROWS[:1]}, r"^past and x must have shapes \(H, T, E\) and \(H, P, E\), no axis of 0, not \(2, 8, 4\) and"),
    ({"x": ROWS[0]}, r"^past and x must have shapes "), ({"x": ROWS[:, :0]}, "^past and x must have shapes "),
    ({"x": ROWS.astype(np.uint8)}, "^past and x must be of one type, not int8 and uint8$"),
    ({"past": PAST[:, :4]}, "^past must have room for 3 rows from 2 on, not 4$"),
])
def test_wrong_tensors_are_named(tensors, message):
    """A wrong shape must not come to light as rows of something else."""
    with pytest.raises(pe.PearrayError, match=message):
        pe.golden_run(pe.Append(offset=2), {"past": PAST, "x": ROWS} | tensors)
