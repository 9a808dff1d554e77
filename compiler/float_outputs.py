"""What POSTs of an accelerator of floats make of sums."""

from typing import Any

import numpy as np

from ..golden.floating import rounded
from ..hdl.arithmetic.floating import FloatArithmetic
from ..hdl.post.float_lane import bound_of
from ..hdl.shell.commands import Rounding
from ..hdl.shell.config import Config
from .cells import ProgramError

__all__ = ["biased", "float_bits", "float_outputs"]

#: What is no number in float32, as hardware makes it.
_NO_NUMBER = 0x7FC00000


def biased(sums: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """Float32 sums (rows, columns) with biases, if there are any, whose bits are int32."""
    with np.errstate(all="ignore"):
        return sums if bias is None else sums + bias.view(np.float32)


def float_outputs(config: Config, sums: np.ndarray, body: dict[str, Any],
                  scales: np.ndarray | None = None) -> np.ndarray:
    """Bits of the outputs of a POST.

    Parameters
    ----------
    config : Config
        Accelerator.
    sums : (rows, columns) float32 ndarray
        Sums with their biases.
    body : dict
        Fields of the POST.
    scales : (rows,) float32 ndarray or None
        What rows are multiplied by.

    Raises
    ------
    ProgramError
        If a field is set that only integers have.
    """
    arithmetic = config.arithmetic
    assert isinstance(arithmetic, FloatArithmetic)
    for name in ("zero_point", "per_channel", "scale_nstep"):
        if body[name]:
            raise ProgramError(f"{name} must be zero on an accelerator of floats")
    if scales is not None:
        with np.errstate(all="ignore"):
            sums = sums * scales[:, None]
    if body["rounding"] is Rounding.NONE:
        values = np.where(sums < 0, np.float32(0), sums) if body["table"] else sums
        return float_bits(values, np.float32, _NO_NUMBER)
    if body["table"]:
        raise ProgramError("table must be zero on an accelerator of floats where outputs are rounded")
    form = arithmetic.format
    low, high = (arithmetic.words(np.array(bits), False, 0) if is_set else None
                 for bits, is_set in (bound_of(body[name]) for name in ("low", "high")))
    if low is not None:
        sums = np.where(sums < low, low, sums)
    if high is not None:
        sums = np.where(sums > high, high, sums)
    return float_bits(rounded(sums, form.dtype), form.dtype, form.no_number)


def float_bits(values: np.ndarray, dtype: Any, no_number: int) -> np.ndarray:
    """Bits of numbers as int64, all that is no number alike."""
    bits = values.view(f"u{np.dtype(dtype).itemsize}").astype(np.int64)
    return np.where(np.isnan(values), no_number, bits)
