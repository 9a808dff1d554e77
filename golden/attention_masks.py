"""Masks of attention as integers, which are added to sums of products of queries and keys."""

import numpy as np
import numpy.typing as npt

from .tensors import Array

__all__ = ["HIDDEN", "MASK_BIAS", "mask_bias", "mask_of_heads"]

#: What is added to the score of a key that a mask hides, and the score below which a key counts as hidden.
MASK_BIAS, HIDDEN = -(1 << 30), -(1 << 29)

#: What an additive mask adds to hide keys for good, whatever it adds to others, and the magnitude of what it adds to
#: the keys of a row above which that is counted from the greatest, so that scores keep their precision until they end.
_FOR_GOOD, _MOST = -2.0 ** 100, 2.0 ** 15

#: How far below the greatest of a row a score is nothing, though there are as many of them as there may be keys.
_NOTHING = 24.0


def mask_bias(mask: npt.ArrayLike, unit: float, bounds: tuple[Array, Array] | None = None) -> Array:
    """Turn a mask into what is added to sums of products of queries and keys.

    Parameters
    ----------
    mask : bool, float or int32 array_like
        Whether a query sees a key, or what is added to its score; of int32 what is returned.
    unit : float
        Score that a sum of 1 stands for: the factor of softmax times the scales of queries and keys.
    bounds : (H, P) integer arrays, optional
        First key that each query sees besides, and the one behind the last; all if not given.

    Returns
    -------
    int32 array
        Rounded to nearest, and to the range of +-2**30. A key whose sum with it is less than -2**29 is hidden. Softmax
        does not change if the same is added to all keys of a row: a row (the last axis) whose greatest value among the
        keys within the bounds is so small that all its keys would be hidden, or so small or great that all scores would
        end at one value, is counted from that value, and what lies beyond the bounds hidden. A row whose greatest
        value is less than -2**100 is hidden, as minus infinity hides it. The shape is that of `mask`, or with bounds
        one to which it broadcasts.

    Raises
    ------
    ValueError
        If `mask` is neither bool, float nor int32, has a NaN, or integers beyond +-2**30, or adds to keys that a row
        does see what is beyond the range because a sum of 1 is so small a score.
    """
    values = np.asarray(mask)
    if values.dtype == np.int32:
        if values.size and (values.min() < MASK_BIAS or values.max() > -MASK_BIAS):
            raise ValueError(f"mask of int32 must be in {MASK_BIAS}..{-MASK_BIAS}, not "
                             f"{values.min()}..{values.max()}")
        return values
    if values.dtype == bool:
        return np.where(values, 0, MASK_BIAS).astype(np.int32)
    if values.dtype.kind != "f" or np.isnan(values).any():
        raise ValueError(f"mask must be bool, int32, or float without NaN, not {values.dtype}")
    added = values.astype(np.float64)
    with np.errstate(over="ignore"):
        counted = _relative(added, unit, bounds)
        _check_reach(counted, unit)
        return np.rint(np.clip(counted / unit, MASK_BIAS, -MASK_BIAS)).astype(np.int32)


def mask_of_heads(mask: npt.ArrayLike, heads: int) -> Array:
    """Give each head its mask: of masks of three dimensions fewer than heads, heads that follow one another share one.

    Parameters
    ----------
    mask : array_like
        A mask, which broadcasts to (heads, P, M), or has a divisor of the number of heads.
    heads : int
        Number of heads of queries.
    """
    values = np.asarray(mask)
    if values.ndim == 3 and 1 < len(values) < heads and heads % len(values) == 0:
        return np.repeat(values, heads // len(values), 0)
    return values


def _relative(added: Array, unit: float, bounds: tuple[Array, Array] | None) -> Array:
    """Additive mask, each row of great values counted from the greatest that is within the bounds."""
    most = min(-HIDDEN / 2 * unit, _MOST)

    def is_great(values: Array) -> Array:
        return (values > _FOR_GOOD) & (np.abs(values) > most) & np.isfinite(values)

    # Where it need not differ from row to row it does not, since it has memory for each.
    if not added.ndim or not is_great(added).any():
        return np.where(is_great(added), 0, added)
    shown = np.ones((), bool)
    if bounds is not None and added.shape[-1] > 1:
        # Rows of all heads are alike but for lengths of their own.
        low, high = (each[:1] if (each == each[:1]).all() else each for each in bounds)
        m = np.arange(added.shape[-1])
        shown = (m >= low[..., None]) & (m < high[..., None])
        shown = shown if len(shown) > 1 else shown[0]
    greatest = np.where(shown, added, -np.inf).max(axis=-1, keepdims=True, initial=-np.inf)
    if not (great := is_great(greatest)).any():
        return added
    with np.errstate(over="ignore", invalid="ignore"):
        counted = np.where(shown, added - greatest, -np.inf)
    return np.where(great, counted, added)


def _check_reach(counted: Array, unit: float) -> None:
    """Check that no key would be hidden that counts beside the greatest of its row, but for half of what hides one.

    Sums of products have the other quarter of the range.
    """
    least = 0.75 * HIDDEN * unit
    # No row's greatest is less than half of what hides a key.
    if not counted.ndim or least < HIDDEN / 2 * unit - _NOTHING:
        return
    kept = np.where(np.isfinite(counted) & (counted > _FOR_GOOD), counted, -np.inf)
    greatest = kept.max(axis=-1, keepdims=True, initial=-np.inf)
    lost = (kept < least) & (kept > greatest - _NOTHING)
    if lost.any():
        raise ValueError(f"mask must not add less than {least:.3g} to keys that count, not {kept[lost].min():.3g}: a "
                         f"sum of products of 1 is a score of {unit:.3g}, and 2**30 of them are all that there is room "
                         "for; with a greater q_scale or k_scale it fits")
