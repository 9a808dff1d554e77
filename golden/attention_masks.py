"""Masks of attention as integers, which are added to sums of products of queries and keys."""

import numpy as np
import numpy.typing as npt

from .tensors import Array

__all__ = ["HIDDEN", "MASK_BIAS", "mask_bias"]

#: What is added to the score of a key that a mask hides, and the score below which a key counts as hidden.
MASK_BIAS, HIDDEN = -(1 << 30), -(1 << 29)

#: What an additive mask adds to hide keys for good, whatever it adds to others, and what it adds to all keys of a row
#: at least to be counted from the greatest, so that scores keep their precision: before they end at their least value.
_FOR_GOOD, _LEAST = -2.0 ** 100, -2.0 ** 15


def mask_bias(mask: npt.ArrayLike, unit: float) -> Array:
    """Turn a mask into what is added to sums of products of queries and keys.

    Parameters
    ----------
    mask : bool or float array_like
        Whether a query sees a key, or what is added to its score.
    unit : float
        Score that a sum of 1 stands for: the factor of softmax times the scales of queries and keys.

    Returns
    -------
    int32 array of the shape of `mask`
        Rounded to nearest, and to the range of +-2**30. A key whose sum with it is less than -2**29 is hidden. Softmax
        does not change if the same is added to all keys of a row: a row (the last axis) whose greatest value is so
        small that all its keys would be hidden, or all scores the least that there is, is counted from that value,
        unless it is less than -2**100, which hides keys as minus infinity does.

    Raises
    ------
    ValueError
        If `mask` is neither bool nor float, or has a NaN.
    """
    values = np.asarray(mask)
    if values.dtype == bool:
        return np.where(values, 0, MASK_BIAS).astype(np.int32)
    if values.dtype.kind != "f" or np.isnan(values).any():
        raise ValueError(f"mask must be bool, or float without NaN, not {values.dtype}")
    added = values.astype(np.float64)
    greatest = added.max(axis=-1, keepdims=True, initial=-np.inf) if added.ndim else added
    if (relative := (greatest > _FOR_GOOD) & (greatest < max(HIDDEN / 2 * unit, _LEAST))).any():
        added = np.where(relative, added - np.where(relative, greatest, 0), added)
    with np.errstate(over="ignore"):
        return np.rint(np.clip(added / unit, MASK_BIAS, -MASK_BIAS)).astype(np.int32)
