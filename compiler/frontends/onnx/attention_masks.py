"""Masks of attention in ONNX networks: sums of constants and of what a run gives."""

from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ....hdl.errors import PearrayError
from ...operators import Given, Reshape
from .builder import Builder, OnnxNode
from .floats import Floats

__all__ = ["Known", "Term", "hidden_behind", "lengthened", "near", "of_heads", "padding", "seen_up_to", "stored_mask"]


class Known(NamedTuple):
    """What is known of tensors that meet scores.

    Members
    -------
    floats : Floats
        Float tensors before the node.
    graph : Builder
        Graph under construction.
    """

    floats: Floats
    graph: Builder

    def value(self, name: str) -> np.ndarray | None:
        """Value of a constant, dequantised where it is stored, or None."""
        return self.floats.value(name)

    def term(self, what: str, name: str, change: Callable[[np.ndarray], np.ndarray] | None = None) -> "Term":
        """Term of a mask, from a constant or what a run gives.

        Raises
        ------
        PearrayError
            If the tensor is neither.
        """
        value = self.value(name)
        if value is None and name not in self.graph.given:
            raise PearrayError(f"{what} {name!r} must be a constant, or follow from inputs of the network alone")
        return Term(self.graph.given[name] if value is None else "", value, change)

    def typed(self, name: str) -> tuple[tuple[int, ...], np.dtype]:
        """Shape and type of a constant, or of what a run gives."""
        value = self.value(name)
        found: Any = self.graph.tensor(self.graph.given[name]) if value is None else value
        return tuple(found.shape), np.dtype(found.dtype)

    def rows(self, node: OnnxNode, place: int) -> int:
        """Queries, or keys, which the first two inputs of a node are."""
        return self.graph.tensor(self.floats.operand("qk"[place], node.inputs[place])[0]).shape[-2]


class Term(NamedTuple):
    """A term of a mask: the name of what a run gives, or a value, and what is made of it before it is added."""

    name: str
    value: np.ndarray | None
    change: Callable[[np.ndarray], np.ndarray] | None = None


def padding(lengths: np.ndarray, keys: int, value: float) -> np.ndarray:
    """What com.microsoft's key_padding_mask adds: for each batch the number of keys, or for each key whether it is."""
    shown = hidden_behind(lengths, keys) if lengths.ndim == 1 else lengths[:, None, None, :] != 0
    return np.where(shown, np.float32(0), np.float32(value))


def hidden_behind(lengths: np.ndarray, keys: int) -> np.ndarray:
    """Mask (N, 1, 1, keys) of as many keys as each batch has."""
    return np.arange(keys) < lengths.astype(np.int64).reshape(-1, 1, 1, 1)


def seen_up_to(last: np.ndarray, keys: int) -> np.ndarray:
    """Mask (N, 1, 1, keys) of the keys up to the last of each batch."""
    return hidden_behind(last + 1, keys)


def lengthened(mask: np.ndarray, keys: int) -> np.ndarray:
    """Mask that hides the keys behind those that it has."""
    missing = [(0, 0)] * (mask.ndim - 1) + [(0, keys - mask.shape[-1])]
    return np.pad(mask, missing, constant_values=False if mask.dtype == bool else -np.inf)


def near(ends: np.ndarray, queries: int, keys: int, left: int, right: int) -> np.ndarray:
    """Mask (N, 1, queries, keys) of keys no further from a query than this to either side, -1 for as far as you like.

    The last query of each batch stands at the last of as many keys.
    """
    own = np.arange(queries)[:, None] - queries + ends.astype(np.int64).reshape(-1, 1, 1, 1)
    far = np.arange(keys) - own
    return ((left == -1) | (far >= -left)) & ((right == -1) | (far <= right))


def _sum(terms: list[np.ndarray]) -> np.ndarray:
    """Sum of masks; those of bool hide."""
    try:
        np.broadcast_shapes(*(each.shape for each in terms))
    except ValueError:
        shapes = " and ".join(str(each.shape) for each in terms)
        raise PearrayError(f"masks must broadcast to one another, not be of shapes {shapes}") from None
    shown = [each for each in terms if each.dtype == bool]
    added = [each for each in terms if each.dtype != bool]
    hide = np.logical_and.reduce(np.broadcast_arrays(*shown)) if shown else None
    if not added:
        assert hide is not None
        return np.asarray(hide)
    with np.errstate(over="ignore"):
        total = added[0]
        for each in added[1:]:
            total = total + each
    return total if hide is None else np.where(hide, total, -np.inf).astype(total.dtype)


def stored_mask(graph: Builder, node: OnnxNode, terms: list[Term],
                combine: Callable[[list[np.ndarray]], np.ndarray] = _sum) -> str:
    """Name of a mask made of some terms: a constant, what a run gives, or what the host makes of it.

    `combine` makes one of all.
    """
    names = tuple(dict.fromkeys(term.name for term in terms if term.name))

    def made(**given: np.ndarray) -> np.ndarray:
        values = [given[term.name] if term.value is None else term.value for term in terms]
        return combine([value if term.change is None else term.change(value)
                        for term, value in zip(terms, values, strict=True)])

    if not names:
        return graph.store(f"{node.outputs[0]}:mask", made())
    if len(terms) == 1 and terms[0].change is None and combine is _sum:
        return names[0]
    tensors = {name: graph.tensor(name) for name in names}
    sample = made(**{name: np.zeros(tensor.shape, tensor.dtype) for name, tensor in tensors.items()})
    result = graph.inner(node.outputs[0], "mask")
    graph.add(node, Given(made, names, sample.shape, sample.dtype, of_masks=True), {name: name for name in names},
              result)
    return result


def of_heads(node: OnnxNode, graph: Builder, name: str, scores: tuple[int, ...]) -> str:
    """Mask as attention takes it: one for all heads of all batches, or one for as many as follow one another.

    `scores` is their shape: all leading dimensions, queries, keys.
    """
    shape = graph.tensor(name).shape
    fits = len(shape) <= len(scores) and all(
        size in (1, whole) for size, whole in zip(shape[::-1], scores[::-1], strict=False))
    if not fits:
        raise PearrayError(f"mask must broadcast to the scores {scores}, not be of shape {shape}")
    if len(shape) < 3:
        return name
    own = (*(1,) * (len(scores) - len(shape)), *shape[:-2])

    def repeated(**given: np.ndarray) -> np.ndarray:
        (mask,) = given.values()
        return np.ascontiguousarray(np.broadcast_to(mask, (*scores[:-2], *shape[-2:])).reshape(-1, *shape[-2:]))

    value = graph.constants.get(name)
    if value is not None:
        full = value.reshape(shape[-2:]) if max(own) == 1 else repeated(mask=value)
        return graph.store(f"{name}:heads", np.ascontiguousarray(full))
    made = graph.inner(name, "heads")
    if any(size < whole and max(own[axis:]) > 1 for axis, (size, whole) in enumerate(zip(own, scores, strict=False))):
        # Masks of heads that don't follow one another, or of heads that are alike in all batches.
        sizes = (prod(scores[:-2]), *shape[-2:])
        graph.add(node, Given(repeated, (name,), sizes, graph.tensor(name).dtype, of_masks=True), {name: name}, made)
        return made
    graph.add(node, Reshape((-1, *shape[-2:])), {"x": name}, made)
    return made
