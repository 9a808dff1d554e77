"""Attention of several heads whose queries, keys, values and outputs are projections."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Annotated, Any, ClassVar

import numpy as np

from ...golden import attention
from ...hdl.errors import PearrayError
from .attention import Attention
from .contractions import Linear
from .edges import Reshape
from .fields import Count, Flag, Scale, whole
from .float_operators import Scores
from .moves import Transpose
from .operator import Operator, Part, Quantisation, Spec, Typed
from .requant import Requant

__all__ = ["MultiHeadAttention"]

_REQUANTS = ("requant_q", "requant_k", "requant_v", "requant_z")


@dataclass(frozen=True, eq=False, kw_only=True)
class MultiHeadAttention(Scores):
    """Attention of `heads` heads.

    Without requantisations it is the operator of floats over q (N, L, D), k and v (N, S, D), each head D / heads wide;
    y (N, L, D).

    With all four it is quantised, projections included: x (P, D), and memory (M, C) for cross-attention, whose keys and
    values would else be those of x; weights w_q (H E, D), w_k (Hkv E, C), w_v (Hkv F, C), w_z (G, H F), and biases b_q,
    b_k, b_v, b_z, as :class:`.contractions.Linear` takes them; an optional mask, as :class:`.attention.Attention` takes
    it; y (P, G). It is four Linears and an Attention, which reads heads where the projections have them, side by side.

    Parameters
    ----------
    heads : int
        Heads of the queries, H.
    kv_heads : int, optional
        Heads of keys and values, Hkv, which divides H; H if absent.
    requant_q, requant_k, requant_v, requant_z : Requant, optional
        Requantisation of each projection, :meth:`.requant.Requant.onnx`. Queries, keys and values are int8 without zero
        points.
    av_scale : float
        Scale of what attention makes, int8 without a zero point, which is what w_z meets.
    window, two_bytes, block, tile
        As for :class:`.attention.Attention`.
    """

    heads: Count
    kv_heads: Annotated[int | None, whole(1)] = None
    requant_q: Requant | None = None
    requant_k: Requant | None = None
    requant_v: Requant | None = None
    requant_z: Requant | None = None
    av_scale: Scale = None
    window: Annotated[int | None, whole(1)] = None
    two_bytes: Flag = False
    block: Annotated[int | None, whole(1)] = None
    tile: Annotated[int | None, whole(1)] = None

    constants: ClassVar[tuple[str, ...]] = (*(f"{kind}_{name}" for kind in "wb" for name in "qkvz"), "mask")
    masks: ClassVar[tuple[str, ...]] = ("mask",)

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [*_REQUANTS, "av_scale"]
        given = [name for name in names if getattr(self, name) is not None]
        if given and given != names:
            raise PearrayError(f"{', '.join(names[:-1])} and {names[-1]} must all be given or none")
        if self.heads % self._groups:
            raise PearrayError(f"kv_heads must divide heads = {self.heads}, not be {self.kv_heads}")
        if not given:
            used = [name for name in ("kv_heads", "window", "two_bytes") if getattr(self, name)]
            if used:
                raise PearrayError(f"{used[0]} needs {', '.join(names)}")
            return
        # What it takes depends on whether it has projections.
        vars(self)["required"] = ("x", "w_q", "w_k", "w_v", "w_z")
        vars(self)["optional"] = ("memory", "b_q", "b_k", "b_v", "b_z", "mask")
        for name in _REQUANTS:
            self._check(name, getattr(self, name))
        self._attention()

    @staticmethod
    def _check(name: str, requant: Any) -> None:
        if not isinstance(requant, Requant) or requant.y_scale is None:
            raise PearrayError(f"{name} must be a Requant.onnx, not {requant!r}")
        if name != "requant_z" and (requant.y_zero_point or requant.dtype not in (None, np.dtype(np.int8))):
            raise PearrayError(f"{name} must have y_zero_point 0, an int8, not {requant.y_zero_point}")
        if name == "requant_z" and requant.x_zero_point:
            raise PearrayError(f"{name} must have x_zero_point 0, not {requant.x_zero_point}")

    @property
    def _groups(self) -> int:
        return self.kv_heads or self.heads

    @property
    def is_scaled(self) -> bool:
        """Whether it has projections."""
        return self.av_scale is not None

    def _attention(self) -> Attention:
        scales = {f"{name}_scale": getattr(self, f"requant_{name}").y_scale for name in "qkv"}
        return Attention(scale=self.scale, causal=self.causal, **scales, y_scale=self.av_scale, window=self.window,
                         two_bytes=self.two_bytes, block=self.block, tile=self.tile)

    def quantisation(self, role: str) -> Quantisation | None:
        """How the output is stored, if it has projections."""
        if role != "y" or self.requant_z is None or self.requant_z.y_scale is None:
            return None
        return Quantisation(float(np.float32(self.requant_z.y_scale)), self.requant_z.y_zero_point)

    def for_array(self, rows: int, cols: int) -> Operator:
        """The same with the block and the tile of an array; see :meth:`.attention.Attention.for_array`."""
        if not self.is_scaled:
            return self
        self._attention().for_array(rows, cols)
        return replace(self, block=cols, tile=rows)

    def parts(self, tensors: Mapping[str, Typed]) -> list[Part]:
        """Projections, attention of the heads that they make, and the projection of its outputs."""
        if not self.is_scaled:
            return []
        found = []
        memory = "memory" if "memory" in tensors else "x"
        for name, x, heads in (("q", "x", self.heads), ("k", memory, self._groups), ("v", memory, self._groups)):
            weights = tuple(tensors[f"w_{name}"].shape)
            if len(weights) != 2 or weights[0] % heads:
                raise PearrayError(f"w_{name} must have a row for each element of {heads} heads, not shape {weights}")
            split = Reshape((tensors[x].shape[0], heads, weights[0] // heads))
            found += [self._projection(name, name, x, tensors), Part(f"split {name}", split, {"x": name}),
                      Part(f"heads of {name}", Transpose((1, 0, 2)), {"x": f"split {name}"})]
        given = {name: f"heads of {name}" for name in "qkv"}
        if "mask" in tensors:
            given["mask"] = "mask"
        return [*found, Part("av", self._attention(), given), Part("split z", Transpose((1, 0, 2)), {"x": "av"}),
                Part("z", Reshape((tensors["x"].shape[0], -1)), {"x": "split z"}),
                self._projection("z", "y", "z", tensors)]

    def _projection(self, name: str, made: str, x: str, tensors: Mapping[str, Typed]) -> Part:
        given = {"x": x, "w": f"w_{name}"}
        if f"b_{name}" in tensors:
            given["b"] = f"b_{name}"
        requant = getattr(self, f"requant_{name}")
        # Whatever x is, attention takes int8.
        return Part(made, Linear(requant=requant if name == "z" else replace(requant, dtype=np.dtype(np.int8))), given)

    def _through(self, tensors: Mapping[str, Any], step: Callable[[Operator, dict[str, Any]], Any]) -> Any:
        """Go through the parts: `step` makes what each computes of what the ones before have made."""
        made = dict(tensors)
        for part in self.parts(tensors):
            try:
                made[part.name] = step(part.operator, {role: made[name] for role, name in part.inputs.items()})
            except PearrayError as error:
                raise PearrayError(f"{part.name}: {error}") from None
        return made["y"]

    def _types(self, **tensors: Any) -> list[Spec]:
        if not self.is_scaled:
            return self._float_types(**tensors)
        for role in ("x", "memory"):
            if role in tensors and len(tensors[role].shape) != 2:
                raise PearrayError(f"{role} must have 2 dimensions, not shape {tuple(tensors[role].shape)}")

        def step(operator: Operator, given: dict[str, Any]) -> np.ndarray:
            shape, dtype = operator.infer(given)["y"]
            return np.broadcast_to(np.zeros((), dtype), shape)

        y = self._through(tensors, step)
        return [(y.shape, y.dtype)]

    def _float_types(self, **tensors: Typed) -> list[Spec]:
        q, k, v = (tuple(tensors[role].shape) for role in self.required)
        if not len(q) == len(k) == len(v) == 3 or q[2] % self.heads or q[2] != k[2] or k[1] != v[1]:
            raise PearrayError(f"q, k, v must have shapes (N, L, D), (N, S, D), (N, S, D) with D a multiple of "
                               f"{self.heads} heads, not {q}, {k}, {v}")
        return [((*q[:2], v[2]), np.dtype(tensors["q"].dtype))]

    def _compute(self, **tensors: Any) -> list[np.ndarray]:
        if self.is_scaled:
            return [self._through(tensors, lambda operator, given: operator.golden(given)["y"])]
        # Heads stand side by side in the last axis.
        heads = [np.stack(np.split(tensors[role], self.heads, axis=-1), axis=1) for role in self.required]
        y = attention.attention(*heads, scale=self.scale, causal=self.causal)
        return [np.concatenate(list(np.moveaxis(y, 1, 0)), axis=-1)]

    def _macs(self, **tensors: Any) -> int:
        if not self.is_scaled:
            return 2 * prod(tensors["q"].shape) * int(tensors["k"].shape[1])
        count = 0

        def step(operator: Operator, given: dict[str, Any]) -> np.ndarray:
            nonlocal count
            count += operator.macs(given)
            shape, dtype = operator.infer(given)["y"]
            return np.broadcast_to(np.zeros((), dtype), shape)

        self._through(tensors, step)
        return count
