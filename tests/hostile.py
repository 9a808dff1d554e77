"""Values that no field should be given, or hardly any, for tests that give each of them to every field."""

from decimal import Decimal

import numpy as np

__all__ = ["VALUES", "refused_or"]

#: One of each kind that has been mistaken for a number, a flag or a word.
VALUES = [
    None, True, np.True_, "1", "abc", b"1", 1.5, float("nan"), float("inf"), 1e-300, -1, 0, 1, 2, 3, 100, 70_000,
    1 << 31, 1 << 33, 1 << 63, 1 << 70, np.int8(2), np.uint64(3), np.float32(0.25), np.array(1), np.array([1, 2]),
    np.array([[1, 2], [3, 4]]), np.zeros(0, np.int64), np.array(["relu", "x"]), np.array([None, 1]), [], [1], [[1]],
    [2, 2], [[1], [1, 2]], (1, 2, 3), (1, -1), (True, 1), ("clip", 0, float("nan")), ("clip", "0", 1), ("clip",), {},
    {"a": 1}, {1}, object(), len, range(2), 1j, Decimal(1), np.datetime64(1, "s"),
    np.ma.array([1, 2], mask=[False, True]), np.ma.masked,
]


def refused_or(action, error):
    """Return what an action gives, or None if it is refused, which must be in one line that says what is allowed."""
    try:
        return action()
    except error as refusal:
        text = str(refusal)
        assert text
        assert "\n" not in text
        return None
