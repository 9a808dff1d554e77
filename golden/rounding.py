"""Float32 numbers rounded to narrow formats, to the nearest or at random, by bits that hardware can repeat.

**Random bits.** Element i of a tensor that is rounded with a key gets the 16 high bits of ``mix(key ^ i)``, both of
32 bits. :func:`mix` is eleven steps, each an addition or an exclusive or with a shifted copy, the first six with a
constant (R. Jenkins' hash of integers, and five steps more, without which elements side by side are alike): a lane that
is given i makes a number every cycle, with a register behind each step, and no multiplier. Numbers depend on the key
and the place alone, not on which lane comes first or how many there are. :func:`key_of` makes keys, once for each
tensor and step.

**Rounding.** The magnitude is cut off to the format, whose subnormal numbers are as far apart as its least normal ones.
What is cut off is a fraction of the distance to the next number; its first 16 bits, as an integer, are compared with
the random one: if they are greater, the result is the next number. The expected result is the number itself, but for
what stands behind these 16 bits. What the format holds stays as it is, and what is beyond its greatest number, once
rounded, is infinite, or no number where a format has no infinity.
"""

import ml_dtypes
import numpy as np
import numpy.typing as npt

from .floating import rounded
from .tensors import Array, float_type, floating

__all__ = ["FORMATS", "by_bits", "key_of", "mix", "nearest", "random_bits", "stochastic"]

#: Formats by name.
FORMATS = {name: float_type(name) for name in ("bfloat16", "float16", "float8_e4m3fn", "float8_e5m2")}

#: Random bits for each element.
_BITS = 16


def mix(x: npt.ArrayLike) -> Array:
    """Hash of uint32 numbers, a bijection."""
    value = np.asarray(x, np.uint32)
    # Additions wrap at 32 bits.
    with np.errstate(over="ignore"):
        value = value + np.uint32(0x7ED55D16) + (value << np.uint32(12))
        value = value ^ np.uint32(0xC761C23C) ^ (value >> np.uint32(19))
        value = value + np.uint32(0x165667B1) + (value << np.uint32(5))
        value = (value + np.uint32(0xD3A2646C)) ^ (value << np.uint32(9))
        value = value + np.uint32(0xFD7046C5) + (value << np.uint32(3))
        value = value ^ np.uint32(0xB55A4F09) ^ (value >> np.uint32(16))
        value = value + (value << np.uint32(10))
        value = value ^ (value >> np.uint32(6))
        value = value + (value << np.uint32(3))
        value = value ^ (value >> np.uint32(11))
        value = value + (value << np.uint32(15))
    return value


def key_of(key: int, *parts: int) -> int:
    """Key that follows from another, or a seed, and numbers, such as those of a step and a tensor.

    ``key_of(k, p) = mix(mix(k) ^ p)``, all modulo 2**32, and one number after another if there are several.
    """
    for part in parts:
        key = int(mix(mix(np.uint32(key & 0xFFFFFFFF)) ^ np.uint32(part & 0xFFFFFFFF)))
    return key


def random_bits(key: int, count: int) -> Array:
    """Random numbers of elements 0 to `count` - 1: (count,) uint32, of 16 bits."""
    return mix(np.uint32(key) ^ np.arange(count, dtype=np.uint32)) >> np.uint32(32 - _BITS)


def _format(name: str) -> np.dtype:
    if name not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, not {name!r}")
    return FORMATS[name]


def nearest(x: Array, format: str) -> Array:
    """Round to the nearest number of a format, halves to the even one.

    Parameters
    ----------
    x : float array
        Numbers.
    format : str
        Name of :data:`FORMATS`.

    Returns
    -------
    array of the format's type and of the shape of `x`

    Raises
    ------
    ValueError
        If the type of `x` does not fit, or there is no such format.
    """
    return rounded(floating("x", x), _format(format))


def stochastic(x: Array, format: str, key: int) -> Array:
    """Round at random to a number of a format beside each number.

    Parameters
    ----------
    x : float array
        Numbers; elements are counted in C order.
    format : str
        Name of :data:`FORMATS`.
    key : int
        Key of the random bits.

    Returns
    -------
    array of the format's type and of the shape of `x`

    Raises
    ------
    ValueError
        If the type of `x` does not fit, or there is no such format.
    """
    values = floating("x", x)
    return by_bits(values, format, random_bits(key, values.size).reshape(values.shape))


def by_bits(values: Array, format: str, random: Array) -> Array:
    """Round float32 numbers to numbers of a format beside them, by random numbers of 16 bits, one for each.

    Raises
    ------
    ValueError
        If there is no such format.
    """
    kind = _format(format)
    info, shape = ml_dtypes.finfo(kind), values.shape
    values = np.atleast_1d(values)
    bits = values.view(np.uint32)
    magnitude = bits & np.uint32(0x7FFFFFFF)
    exponent = (magnitude >> np.uint32(23)).astype(np.int64)
    # With the leading one, in units of 2**(exponent - 150); subnormal numbers of float32 have those of exponent 1.
    whole = ((magnitude & np.uint32(0x7FFFFF)) | np.where(exponent > 0, 1 << 23, 0)).astype(np.int64)
    power = np.maximum(exponent, 1) - 150
    unit = np.maximum(power + 23 - info.nmant, info.minexp - info.nmant)
    # More than 40 bits cut off leave nothing of 24 to be compared.
    cut = np.clip(unit - power, 0, 40)
    rest = whole & ((np.int64(1) << cut) - 1)
    compared = np.where(cut > _BITS, rest >> np.maximum(cut - _BITS, 0), rest << np.maximum(_BITS - cut, 0))
    up = compared > random.reshape(bits.shape)
    magnitudes = np.ldexp(((whole >> cut) + up).astype(np.float64), unit)
    special = ~np.isfinite(values)
    result = np.where(special, values, np.copysign(magnitudes, values))
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        return np.asarray(result.astype(np.float32).astype(kind).reshape(shape))
