"""Views of buffers."""

import numpy as np
import pytest

from pearray.compiler.kernels.views import Axis, Buffer, View


def test_bytes_of_elements_stand_side_by_side(rng):
    """A byte of another element, or another byte of the same, would be read."""
    rows, columns = (int(size) for size in rng.integers(1, 6, 2))
    values = rng.integers(-(1 << 31), 1 << 31, (rows, columns)).astype("<i4")
    view = View.rows(Buffer("sums", rows, columns, 4), "wc", values.shape).part("w", rows - 1, 1).as_bytes()
    found = [values.tobytes()[view.element(c=byte)] for byte in range(view.size("c"))]
    assert found == list(np.ascontiguousarray(values[-1]).tobytes())


@pytest.mark.parametrize("view", [
    View(Buffer("sums", 3, 4, 4), (Axis("c", 4, 1), Axis("w", 3, 4))),
    View.rows(Buffer("sums", 3, 4, 4), "wc", (3, 4)).as_bytes()], ids=["transposed", "of bytes"])
def test_other_views_are_not_read_as_bytes(view):
    """Bytes of elements that do not stand side by side, or of bytes, would be those of other elements."""
    with pytest.raises(AssertionError, match=r"^sums\+0\[.*\] can't be read as bytes: its last axis must"):
        view.as_bytes()
