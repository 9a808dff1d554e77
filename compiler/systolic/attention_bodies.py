"""Bodies of the commands of fused attention; see ``hdl/shell/functions.py`` and ``hdl/systolic/commands.py``."""

import numpy as np

from ...hdl.shell.commands import Rounding

__all__ = ["moved", "normalise_body", "numerators_body", "scores_body", "values_body"]

#: A field of 16 bits, in two's complement.
_HALF = 1 << 16


def scores_body(*, rows: int, elements: tuple[int, int], pitch: int, a_base: int, w_base: int, row: int,
                bank: int) -> dict[str, int]:
    """EXECUTE of queries and keys: elements from the first to that behind the last of each, `pitch` of which a row has.

    `a_base` and `w_base` are the places of the rows' first elements, in operands.
    """
    first, end = elements
    return {"left": 1, "first": int(first == 0), "bank": bank, "m_count0": rows, "m_count1": 1, "m_count2": 1,
            "k_total": end - first, "run": end - first, "run_count": 1, "n_count": 1, "a_base": a_base + first,
            "m_step0": pitch, "w_base": w_base + first, "w_pitch": pitch, "acc_base": row}


def values_body(*, rows: int, keys: int, cols: int, width: int, tiles: tuple[int, int], a_base: int, w_base: int,
                row: int, tile_rows: int, shift_base: int, is_first: bool, is_low: bool) -> dict[str, int]:
    """EXECUTE of numerators and values, for tiles of columns from the first to that behind the last.

    Rows of values are `width` elements, sums of a tile begin `tile_rows` behind those of the one before, and `row` is
    that of the first of all tiles. `a_base` and `w_base` are in operands.
    """
    first, end = tiles
    return {"first": int(is_first), "bank": 1, "a_unsigned": 1, "m_count0": rows, "m_count1": 1, "m_count2": 1,
            "k_total": keys, "run": keys, "run_count": 1, "n_count": end - first, "a_base": a_base, "m_step0": cols,
            "w_base": w_base + first * cols, "w_pitch": width, "w_nstep": cols, "acc_base": row + first * tile_rows,
            "acc_nstep": tile_rows, "rescale": 1, "low_part": int(is_low), "shift_base": shift_base}


def numerators_body(*, rows: int, bank: int, row: int, low: int, high: int, slope: int, number: np.float32,
                    shift_base: int, state_base: int, out_base: int, pitch: int, opens: bool,
                    byte: int | None) -> dict[str, int]:
    """POST of scores: their numerators, or the upper (0) or lower (1) byte of those of two bytes.

    Rows of numerators are `pitch` bytes apart. `number` is that of the command, a factor of outputs, or of scores.
    """
    bits = int(np.float32(number).view(np.uint32))
    form = {} if byte is None else {"two_bytes": 1, "low_byte": byte}
    return {"rounding": Rounding.ONNX.value, "softmax": 1, "opens": int(opens), "slope": slope, **form, "bank": bank,
            "n_count": 1, "m_count": rows, "acc_base": row, "acc_nstep": high % _HALF, "bias_nstep": low % _HALF,
            "scale_nstep": shift_base, "out_nstep": state_base, "low": bits % _HALF, "high": bits // _HALF,
            "out_base": out_base, "out_mstep": pitch}


def normalise_body(*, rows: int, tiles: tuple[int, int], row: int, tile_rows: int, quotients: int, out_base: int,
                   tile_bytes: int, pitch: int, bounds: tuple[int, int] | None) -> dict[str, int]:
    """POST of outputs of some tiles of columns, `tile_bytes` each, whose rows come to stand `pitch` bytes apart."""
    first, end = tiles
    low, high = bounds or (0, 0)
    return {"rounding": Rounding.ONNX.value, "normalise": 1, "bank": 1, "low": low, "high": high,
            "n_count": end - first, "m_count": rows, "acc_base": row + first * tile_rows, "acc_nstep": tile_rows,
            "scale_base": quotients, "out_base": out_base + first * tile_bytes, "out_nstep": tile_bytes,
            "out_mstep": pitch}


def moved(destination: int, address: int, target: int, length: int) -> dict[str, int]:
    """MOVE of bytes that follow one another."""
    return {"destination": destination, "address": address, "target": target, "length": length, "count1": 1,
            "step1": 0, "target_step1": 0, "count2": 1, "step2": 0, "target_step2": 0}
