"""Attention: of floats in float32, and of int8 operands with scales in the integers of fused attention."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Annotated, Any, ClassVar

import numpy as np

from ...golden import attention, float_attention, fused_attention
from ...golden.tensors import is_float
from ...hdl.errors import PearrayError
from .fields import Flag, Scale, integers, whole
from .float_operators import Scores
from .operator import Operator, Quantisation, Spec, Typed

__all__ = ["Attention", "is_short_float"]

#: Ratios of the scales of v and y that a quotient holds.
_RATIOS = 2.0 ** -52, 2.0 ** 48


def is_short_float(tensor: Typed) -> bool:
    """Whether a tensor is of floats shorter than float32, as arrays multiply."""
    return is_float(tensor.dtype) and np.dtype(tensor.dtype).itemsize < 4


def _lengths(name: str, value: Any) -> tuple[int, ...]:
    found = integers(value, 0, fused_attention.MOST_KEYS)
    if not found:
        raise PearrayError(f"{name} must be an integer of 0..{fused_attention.MOST_KEYS}, or one for each head, "
                           f"not {value!r}")
    return found


@dataclass(frozen=True, eq=False)
class Attention(Scores):
    """``softmax(q k' * scale) v``.

    Without scales of the tensors it is the operator of floats over the last two axes: q (..., L, E), k (..., S, E),
    v (..., S, F). With all four, tensors are int8 without zero points: q (H, P, E), k (Hkv, M, E), v (Hkv, M, F) and
    y (H, P, F); H is a multiple of Hkv, and heads of queries that follow one another share keys. A query that sees no
    key gives zeros. Floats shorter than float32 are computed as arrays of floats do
    (:mod:`.golden.float_attention`), and may have all of this, too, but for `two_bytes` and a position.

    With `causal` a run may give the key at the place of the first query: its position, in the place of `offset`.

    Parameters
    ----------
    q_scale, k_scale, v_scale, y_scale : float, optional
        Scales.
    window : int, optional
        Let query p see keys whose distance from ``p + offset`` is less than this only.
    offset : int
        Key that stands at the place of the first query, for `causal` and `window`.
    lengths : int or sequence of int, optional
        Keys that there are for all heads, or for each head; M if absent.
    two_bytes : bool
        Let numerators of softmax have two bytes, for half as many cycles more.
    block, tile : int, optional
        Keys of a block, which have a maximum of their own, and products that are added before they are shifted: the
        columns and rows of the array. A compiled graph has those of its accelerator; alone they are 32, and a block.
    """

    q_scale: Scale = None
    k_scale: Scale = None
    v_scale: Scale = None
    y_scale: Scale = None
    window: Annotated[int | None, whole(1)] = None
    offset: Annotated[int, whole(-fused_attention.MOST_KEYS)] = 0
    lengths: Annotated[Any, _lengths] = None
    two_bytes: Flag = False
    block: Annotated[int | None, whole(1)] = None
    tile: Annotated[int | None, whole(1)] = None

    optional: ClassVar[tuple[str, ...]] = ("mask", "position")
    constants: ClassVar[tuple[str, ...]] = ("mask",)
    masks: ClassVar[tuple[str, ...]] = ("mask",)
    positions: ClassVar[tuple[str, ...]] = ("position",)

    def __post_init__(self) -> None:
        super().__post_init__()
        names = ["q_scale", "k_scale", "v_scale", "y_scale"]
        given = [name for name in names if getattr(self, name) is not None]
        if given and given != names:
            raise PearrayError("q_scale, k_scale, v_scale and y_scale must all be given or none")
        if given and not _RATIOS[0] <= self.v_scale / self.y_scale <= _RATIOS[1]:
            raise PearrayError(f"v_scale / y_scale must be in 2**-52..2**48, not {self.v_scale / self.y_scale}")
        if given and self.scale is not None and self.scale <= 0:
            raise PearrayError(f"scale must be above 0, not {self.scale}")

    @property
    def is_scaled(self) -> bool:
        """Whether scales are given."""
        return self.y_scale is not None

    def quantisation(self, role: str) -> Quantisation | None:
        """How a tensor is stored, if scales are given."""
        scale = getattr(self, f"{role}_scale", None)
        return None if scale is None else Quantisation(scale)

    def for_array(self, rows: int, cols: int) -> Operator:
        """The same with the block and the tile of an array.

        Raises
        ------
        PearrayError
            If it has others.
        """
        for name, value, what in (("block", self.block, cols), ("tile", self.tile, rows)):
            if value not in (None, what):
                raise PearrayError(f"{name} of Attention must be {what} on this array, or left out, "
                                   f"not {value}")
        return replace(self, block=cols, tile=rows)

    def factor(self, elements: int) -> float:
        """Factor of the scores of keys of some elements."""
        return elements ** -0.5 if self.scale is None else self.scale

    def bias(self, mask: np.ndarray, heads: int, queries: int, keys: int, elements: int) -> np.ndarray:
        """What a mask adds to sums of products of such queries and keys of some elements, int32.

        Raises
        ------
        PearrayError
            If it has no such number; see :func:`.golden.attention_masks.mask_bias`.
        """
        try:
            return fused_attention.mask_bias(fused_attention.mask_of_heads(mask, heads), self.unit(elements),
                                             self.bounds(heads, queries, keys))
        except ValueError as error:
            raise PearrayError(str(error)) from error

    def shows(self, mask: np.ndarray, heads: int, queries: int, keys: int, elements: int) -> np.ndarray:
        """Which keys a mask does not hide."""
        if self.is_scaled:
            found: np.ndarray = self.bias(mask, heads, queries, keys, elements) != fused_attention.MASK_BIAS
            return found
        return ~np.isneginf(self.addends(mask, heads, elements))

    def addends(self, mask: np.ndarray, heads: int, elements: int) -> np.ndarray:
        """What a mask adds to float32 sums of products of queries and keys of some elements."""
        return float_attention.score_addends(fused_attention.mask_of_heads(mask, heads), self.factor(elements))

    def float_score_scale(self, elements: int) -> np.float32:
        """Factor from float32 sums of products of such keys to scores in 1 / 256 of an octave."""
        return float_attention.float_score_scale(self.factor(elements))

    def unit(self, elements: int) -> float:
        """Score that a sum of products of 1 stands for, of keys of some elements."""
        return float(self.factor(elements) * self.q_scale * self.k_scale)

    def score_scale(self, elements: int) -> np.float32:
        """Factor from sums of products of such keys to scores in 1 / 256 of an octave."""
        return fused_attention.score_scale(self.factor(elements), self.q_scale, self.k_scale)

    @property
    def output_factor(self) -> np.float32:
        """Number whose quotient by the sum of a row's numerators is the scale of its outputs."""
        return fused_attention.output_factor(self.v_scale, self.y_scale)

    def bounds(self, heads: int, queries: int, keys: int, clipped: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """First key that each query sees, and that behind the last, both (heads, queries); in 0..keys if clipped."""
        low, high = fused_attention.key_bounds((heads, queries), keys, self.causal, self.window, self._ends,
                                               self.offset)
        if not clipped:
            return low, high
        return np.clip(low, 0, keys), np.clip(high, 0, keys)

    def most_position(self, tensors: Mapping[str, Typed]) -> int:
        """Greatest position at which every query has a key of its own."""
        return tensors["k"].shape[1] - tensors["q"].shape[1]

    @property
    def _ends(self) -> Any:
        return self.lengths if self.lengths is None or len(self.lengths) > 1 else self.lengths[0]

    def _types(self, q: Typed, k: Typed, v: Typed, mask: Typed | None = None,
               position: Typed | None = None) -> list[Spec]:
        if not self.is_scaled:
            return self._float_types(q, k, v, mask, position)
        for role, tensor in (("q", q), ("k", k), ("v", v)):
            if np.dtype(tensor.dtype) != np.int8:
                raise PearrayError(f"{role} must be of type int8 where scales are given, not {tensor.dtype}")
        shapes = tuple(q.shape), tuple(k.shape), tuple(v.shape)
        if (any(len(shape) != 3 or 0 in shape for shape in shapes) or shapes[0][2] != shapes[1][2]
                or shapes[1][:2] != shapes[2][:2] or shapes[0][0] % shapes[1][0]):
            raise PearrayError("q, k, v must have shapes (H, P, E), (Hkv, M, E), (Hkv, M, F), H a multiple of Hkv, "
                               f"not {shapes[0]}, {shapes[1]}, {shapes[2]}")
        (heads, queries, elements), keys = shapes[0], shapes[1][1]
        if elements > fused_attention.MOST_ELEMENTS or keys > fused_attention.MOST_KEYS:
            raise PearrayError(f"E must be at most {fused_attention.MOST_ELEMENTS} and M at most "
                               f"{fused_attention.MOST_KEYS}, not {elements} and {keys}")
        try:
            self.score_scale(elements)
        except ValueError as error:
            raise PearrayError(str(error)) from error
        self._check_seen(mask, (heads, queries, keys))
        self._check_position(position, queries, keys)
        return [((heads, queries, shapes[2][2]), np.dtype(np.int8))]

    def _check_position(self, position: Typed | None, queries: int, keys: int) -> None:
        if position is not None and (not self.causal or self.offset or self.lengths is not None or queries > keys):
            raise PearrayError(f"position needs causal = True, offset = 0, lengths = None and a key for each of "
                               f"{queries} queries, not {self.causal}, {self.offset}, {self.lengths} and {keys} keys")

    def _check_seen(self, mask: Typed | None, shape: tuple[int, ...]) -> None:
        """Check what hides keys of heads, queries and keys of some numbers."""
        if self.lengths is not None and (len(self.lengths) not in (1, shape[0]) or max(self.lengths) > shape[2]):
            raise PearrayError(f"lengths must be one number of 0..{shape[2]}, or one for each of {shape[0]} heads, "
                               f"not {self.lengths}")
        if mask is None:
            return
        own, heads = tuple(mask.shape), shape[0]
        fits = all(size in (1, whole) for size, whole in zip(own[:-3:-1], shape[:-3:-1], strict=False))
        fits &= len(own) < 3 or (len(own) == 3 and own[0] > 0 and heads % own[0] == 0)
        if not fits or not (np.dtype(mask.dtype).kind in "bf" or np.dtype(mask.dtype) == np.int32):
            raise PearrayError(f"mask must be of bool, float or int32 and broadcast to {shape}, but for a divisor of "
                               f"{heads} heads, not {mask.dtype} of shape {own}")

    def _float_types(self, q: Typed, k: Typed, v: Typed, mask: Typed | None, position: Typed | None) -> list[Spec]:
        shapes = tuple(q.shape), tuple(k.shape), tuple(v.shape)
        groups = [prod(shape[:-2]) for shape in shapes]
        is_short = is_short_float(q)
        shares = is_short and {len(shape) for shape in shapes} == {3} and groups[1] and groups[0] % groups[1] == 0
        if (min(map(len, shapes)) < 2 or shapes[0][-1] != shapes[1][-1] or shapes[1][-2] != shapes[2][-2]
                or shapes[1][:-2] != shapes[2][:-2] or (shapes[0][:-2] != shapes[1][:-2] and not shares)):
            raise PearrayError("q, k, v must have shapes (..., L, E), (..., S, E), (..., S, F), not "
                               f"{shapes[0]}, {shapes[1]}, {shapes[2]}")
        used = [name for name, given in (("position", position),) if given is not None]
        used += ["two_bytes"] * self.two_bytes
        if not shares:
            used += ["mask"] * (mask is not None)
            used += [name for name in ("window", "offset", "lengths") if getattr(self, name)]
        if used:
            raise PearrayError(f"{used[0]} needs q_scale, k_scale, v_scale and y_scale" + (
                "" if used[0] in ("position", "two_bytes") else ", or operands (H, L, E) of floats of 8 or 16 bits"))
        if is_short:
            self._check_short(q, k, v, mask)
        return [((*shapes[0][:-1], shapes[2][-1]), np.dtype(q.dtype))]

    def _check_short(self, q: Typed, k: Typed, v: Typed, mask: Typed | None) -> None:
        """Check what arrays of floats, and their golden model, ask for besides."""
        kinds, sizes = [np.dtype(each.dtype) for each in (q, k, v)], (prod(q.shape[:-2]), q.shape[-2], k.shape[-2])
        if len(set(kinds)) > 1:
            raise PearrayError(f"q, k and v must be of one type, not {', '.join(map(str, kinds))}")
        if 0 in (*q.shape, *k.shape, *v.shape) or sizes[2] > fused_attention.MOST_KEYS:
            raise PearrayError(f"q, k, v must have 1 to {fused_attention.MOST_KEYS} keys, and no size of 0, not shapes "
                               f"{tuple(q.shape)}, {tuple(k.shape)}, {tuple(v.shape)}")
        if mask is not None and np.dtype(mask.dtype) == np.int32:
            raise PearrayError("mask must be of bool or float for operands of floats, not int32")
        self._check_seen(mask, sizes)
        try:
            self.float_score_scale(q.shape[-1])
        except ValueError as error:
            raise PearrayError(str(error)) from error

    def _compute_short(self, q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        heads = [each.reshape(-1, *each.shape[-2:]) for each in (q, k, v)]
        y = float_attention.float_attention(
            *heads, scale=self.scale, causal=self.causal, mask=mask, window=self.window, lengths=self._ends,
            offset=self.offset, block=self.block or 32, tile=self.tile)
        return y.reshape(*q.shape[:-1], v.shape[-1])

    def _compute(self, q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None = None,
                 position: np.ndarray | None = None) -> list[np.ndarray]:
        if not self.is_scaled:
            if is_short_float(q):
                return [self._compute_short(q, k, v, mask)]
            return [attention.attention(q, k, v, scale=self.scale, causal=self.causal)]
        return [fused_attention.fused_attention(
            q, k, v, q_scale=self.q_scale, k_scale=self.k_scale, v_scale=self.v_scale, y_scale=self.y_scale,
            scale=self.scale, causal=self.causal, mask=mask, window=self.window, lengths=self._ends,
            offset=self.offset if position is None else int(position), block=self.block or 32, tile=self.tile,
            two_bytes=self.two_bytes)]

    def _macs(self, q: Typed, k: Typed, v: Typed, mask: Typed | None = None, position: Typed | None = None) -> int:
        """Products of keys that queries see; at the greatest position if it is not known yet."""
        width = q.shape[-1] + v.shape[-1]
        if not (self.is_scaled or is_short_float(q)):
            return prod(q.shape[:-1]) * v.shape[-2] * width
        offset = self.offset
        if position is not None:
            offset = int(position) if isinstance(position, np.ndarray) else k.shape[1] - q.shape[1]
        placed, sizes = replace(self, offset=offset), (prod(q.shape[:-2]), q.shape[-2], k.shape[-2])
        low, high = placed.bounds(*sizes)
        if not isinstance(mask, np.ndarray):
            return int(np.maximum(high - low, 0).sum()) * width
        shown, m = placed.shows(mask, *sizes, q.shape[-1]), np.arange(sizes[2])
        shown = np.broadcast_to(shown, (*(low.shape[0],) * (shown.ndim == 3), low.shape[1], m.size)).reshape(
            -1, low.shape[1], m.size)
        return width * sum(int((shown[head % len(shown)] & (m >= low[head, :, None]) & (m < high[head, :, None])).sum())
                           for head in range(len(low)))
