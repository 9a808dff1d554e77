"""Run-length code of 16-bit words, as Eyeriss writes feature maps to DRAM.

A code word has 64 bits: three pairs of a run (5 bits, the zeros that come first, at most 31) and a
level (16 bits, the word behind them), and a last bit that marks the last word of a code (JSSC 2017,
section V-C). Pair i is in bits ``21 i .. 21 i + 20``, its run in the lower five; the mark is bit 63.
A run longer than 31 zeros is cut by levels that are themselves zero. Where the words end within the
three pairs of the last code word, the rest is zero, so a decoder must know how many words it wants.
"""

import numpy as np
import numpy.typing as npt

__all__ = ["CODE_BYTES", "decode", "encode", "encoded_bytes"]

#: Bytes of a code word.
CODE_BYTES = 8

_PAIRS, _PAIR_BITS, _RUN_BITS = 3, 21, 5
_LONGEST = (1 << _RUN_BITS) - 1
_LAST = np.uint64(1 << 63)


def encode(words: npt.NDArray[np.int16] | npt.NDArray[np.uint16]) -> npt.NDArray[np.uint64]:
    """Encode words.

    Parameters
    ----------
    words : int16 or uint16 array (length,)

    Returns
    -------
    uint64 array
        Code words, the last one marked; none for no words.

    Raises
    ------
    ValueError
        If `words` has another type or shape.
    """
    if words.dtype not in (np.int16, np.uint16) or words.ndim != 1:
        raise ValueError(f"words must be int16 or uint16 of shape (length,), not {words.dtype} of {words.shape}")
    if not len(words):
        return np.zeros(0, np.uint64)
    # Each level but for those that cut long runs: the words that are not zero, and the last one.
    at = np.flatnonzero(words)
    if not len(at) or at[-1] != len(words) - 1:
        at = np.append(at, len(words) - 1)
    cuts, runs = np.divmod(np.diff(at, prepend=-1) - 1, _LONGEST + 1)
    last_of = np.cumsum(cuts + 1) - 1
    pairs = np.full(last_of[-1] + 1, _LONGEST, np.uint64)
    pairs[last_of] = runs.astype(np.uint64) | words[at].view(np.uint16).astype(np.uint64) << np.uint64(_RUN_BITS)
    padded = np.zeros((-(-len(pairs) // _PAIRS), _PAIRS), np.uint64)
    padded.reshape(-1)[:len(pairs)] = pairs
    code = np.bitwise_or.reduce(padded << np.arange(0, 63, _PAIR_BITS, dtype=np.uint64), axis=1)
    code[-1] |= _LAST
    return code


def decode(code: npt.NDArray[np.uint64], length: int) -> npt.NDArray[np.uint16]:
    """Decode `length` words, the inverse of :func:`encode`.

    Parameters
    ----------
    code : uint64 array
        Code words.
    length : int
        Words that were encoded.

    Returns
    -------
    uint16 array (length,)

    Raises
    ------
    ValueError
        If the mark does not stand on the last code word only, or the code is too short or too long.
    """
    marks = np.flatnonzero(code & _LAST)
    if list(marks) != ([len(code) - 1] if len(code) else []):
        raise ValueError(f"code must mark its last word, {len(code) - 1}, and no other, not {marks.tolist()}")
    pairs = (code[:, None] >> np.arange(0, 63, _PAIR_BITS, dtype=np.uint64)).reshape(-1)
    runs = (pairs & np.uint64(_LONGEST)).astype(np.int64)
    levels = (pairs >> np.uint64(_RUN_BITS) & np.uint64(0xFFFF)).astype(np.uint16)
    at = np.cumsum(runs + 1) - 1
    words = np.zeros(length, np.uint16)
    inside = at < length
    held = int(at[-1]) + 1 if len(at) else 0
    if held < length:
        raise ValueError(f"code must hold {length} words, not {held}")
    if np.any(levels[~inside]) or np.count_nonzero(~inside) >= _PAIRS:
        raise ValueError(f"code must end after {length} words, not {held}")
    words[at[inside]] = levels[inside]
    return words


def encoded_bytes(words: npt.NDArray[np.int16] | npt.NDArray[np.uint16]) -> int:
    """Bytes of the code of `words`; see :func:`encode`."""
    return CODE_BYTES * len(encode(words))
