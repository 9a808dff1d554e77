"""Attention: softmax of products of queries and keys, times values, as one kernel."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from ...hdl.errors import PearrayError
from ..graph.graph import Node
from ..operators import Attention as AttentionOperator
from .context import Context
from .kernel import Access, Index, Kernel
from .layout import Layout
from .masks import Mask
from .views import Axis, Buffer, View

__all__ = ["MOST_MOVING", "Attention", "attention"]

#: Keys whose numbers, and distances from one to another, a command's bounds hold.
MOST_MOVING = (1 << 15) - 1


@dataclass(kw_only=True, eq=False)
class Attention(Kernel):
    """``y[g, h, p, f] = sum(m) softmax(m)(sum(e) q[g, h, p, e] k[g, m, e] * scale + mask) v[g, m, f]``.

    Ranks are g and h of heads that have keys of their own and of heads that share them, p of queries, m of keys, e and
    f of their elements and those of values; before all b of batches, if heads of one do not stand as far from those of
    another as they do from one another.

    Parameters
    ----------
    q, k, v : Access
        Operands, int8 or floats.
    scale, unit : float
        Factor from sums of products to scores, and that of the values' sums to outputs, which is 1 of floats.
    is_float : bool
        Whether operands are floats.
    low, high : ndarray of shape (G * H, P)
        First key that each query sees, and that behind the last.
    mask : Mask or None
        What is added to sums of products.
    two_bytes : bool
        Whether numerators have two bytes.
    position : str or None
        Position of the graph, which is added to `high`; then no bound is cut off at the ends of the keys.
    slides : bool
        Whether it is added to `low`, too.
    reach : int
        Keys of which some query sees one at some position; all where there is none.
    """

    terms: tuple[()] = ()
    combine: str = "softmax"
    q: Access
    k: Access
    v: Access
    scale: np.float32
    unit: np.float32
    low: np.ndarray
    high: np.ndarray
    mask: Mask | None = None
    two_bytes: bool = False
    is_float: bool = False
    position: str | None = None
    slides: bool = False
    reach: int

    @property
    def accesses(self) -> tuple[Access, ...]:
        """Operands in memory."""
        return self.q, self.k, self.v

    @property
    def buffers(self) -> Iterator[Buffer]:
        """Buffers that are read, that of a mask included."""
        yield from super().buffers
        if self.mask is not None and isinstance(self.mask.values, Buffer):
            yield self.mask.values

    @property
    def groups(self) -> int:
        """Groups of heads that share keys, of all batches."""
        return self.ranks.get("b", 1) * self.ranks["g"]

    def element(self, view: View, group: int, **indices: int) -> int:
        """Element of a view at some indices, of a group of heads, those of all batches counted one after another."""
        batch, own = divmod(group, self.ranks["g"])
        return view.element(g=own, **indices, **({"b": batch} if "b" in self.ranks else {}))

    def __str__(self) -> str:
        mask = "" if self.mask is None else " + mask"
        seen = "" if not self.low.any() and (self.high == self.ranks["m"]).all() else " of those seen"
        if self.position is not None:
            seen = f" of those seen at {self.position}"
        sizes = ", ".join(f"{rank} < {self.ranks[rank]}" for rank in "em")
        finish = "; rounded" if self.is_float else f"; requantise onnx * {self.unit}"
        return (f"{self.name}: {self.y} = sum({sizes}) softmax(m{seen})({self.q} {self.k} * {self.scale}{mask}) "
                f"{self.v}{finish}")


def attention(context: Context, node: Node[AttentionOperator]) -> list[Kernel]:
    """State Attention of int8 operands, or of floats, as a kernel of its own."""
    operator, config, tensors = node.operator, context.config, context.graph.tensors
    where = context.graph.where(node)
    if not (operator.is_scaled or config.has_floats):
        raise PearrayError(f"{where}Attention without scales has no lowering for this accelerator yet: give q_scale, "
                           "k_scale, v_scale and y_scale, and int8 operands")
    if not (config.has_softmax and config.has_moves):
        raise PearrayError(f"{where}Attention needs post.softmax = 1 and scratchpads.moves = 1, not "
                           f"{int(config.has_softmax)} and {int(config.has_moves)}")
    (heads, queries, elements), (groups, keys, width) = (_matrices(tensors[node.inputs[role]].shape) for role in "qv")
    layout = _stands(context, node.outputs["y"], groups)
    found = {role: context.operand(node, role) for role in "qkv"}
    layouts = {role: each.layout for role, each in found.items()} | {"y": layout}
    layouts = {role: each.reshaped(_matrices(each.shape)) for role, each in layouts.items()}
    batches = next((count for count in range(1, groups + 1) if groups % count == 0 and all(
        _strides(each, count) is not None for each in layouts.values())), 0)
    if not batches:
        role = next(role for role, each in layouts.items() if _strides(each, groups) is None)
        raise context.rows_apart(node, role)
    ranks = {"g": groups // batches, "h": heads // groups, "p": queries, "m": keys, "e": elements, "f": width}
    ranks = {"b": batches} | ranks if batches > 1 else ranks

    def access(role: str, names: str) -> Access:
        buffer = context.result(node, layout) if role == "y" else found[role].buffer
        names = "b" * (batches > 1) + names
        return Access(_heads(buffer, layouts[role], names, ranks), {name: Index({name: 1}) for name in names})

    is_float = config.has_floats

    position = node.inputs.get("position")
    mask = _mask(context, node, (heads, queries, keys))
    is_known = mask is not None and not isinstance(mask.values, Buffer)
    if position is not None and (is_known or keys > MOST_MOVING):
        raise PearrayError(f"{where}Attention of a position needs a mask of None, or one that a run gives, and at most "
                           f"{MOST_MOVING} keys, not {'a constant mask' if is_known else keys}")
    low, high = operator.bounds(heads, queries, keys, position is None)
    shown = None if mask is None or isinstance(mask.values, Buffer) else _shown(mask.values, mask.hidden)
    if shown is not None:
        mask, low, high = None, np.maximum(low, shown[0]), np.minimum(high, shown[1])
    return [Attention(
        name=node.name, ranks=ranks, q=access("q", "ghpe"), k=access("k", "gme"), v=access("v", "gmf"),
        y=access("y", "ghpf"), scale=(operator.float_score_scale if is_float else operator.score_scale)(elements),
        unit=np.float32(1) if is_float else operator.output_factor, is_float=is_float, low=low, high=high, mask=mask,
        two_bytes=operator.two_bytes, position=position, slides=operator.window is not None,
        reach=keys if position is None or context.most is None else min(keys, context.most + queries))]


def _matrices(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Heads, rows and elements of a tensor, all of whose axes but the last two are heads."""
    *heads, rows, elements = shape
    return prod(heads), rows, elements


def _stands(context: Context, name: str, groups: int) -> Layout:
    """How outputs (H, P, F) stand: rows of all heads of a batch side by side if that is what every view of them wants.

    Batches are as many as some view has, if they divide the groups of heads.
    """
    shape = context.graph.tensors[name].shape
    usual = Layout(shape, tuple(range(len(shape))), shape)
    if name in context.graph.outputs or len(shape) != 3:
        return usual
    heads, rows, width = shape
    graph = context.graph
    views = [view for view in graph.views if graph.source(view) == name]
    for count in sorted({graph.tensors[view].shape[0] for view in views} | {1}):
        beside = Layout((count, rows, heads // count, width), (0, 2, 1, 3), (heads, rows, width))
        if groups % count == 0 and views and _are_rows(context, name, beside):
            return beside
    return usual


def _are_rows(context: Context, name: str, layout: Layout) -> bool:
    """Whether all views of a tensor that no other is a view of are row-major if it stands in some layout."""
    read = {*context.graph.views.values()}
    try:
        views = context.views(name, layout)
    except PearrayError:
        return False
    return all(found.same_memory(Layout(found.shape, tuple(range(len(found.shape))), found.shape))
               for view, found in views.items() if view not in read)


def _strides(layout: Layout, batches: int) -> tuple[int, ...] | None:
    """Strides of a tensor (heads, rows, elements) as (batches, heads of each, rows, elements); None if they differ."""
    heads, rows, width = layout.shape
    strides = layout.reshaped((batches, heads // batches, rows, width)).strides()
    return None if strides is None or strides[3] > 1 else strides


def _heads(buffer: Buffer, layout: Layout, names: str, ranks: Mapping[str, int]) -> View:
    """View of a tensor (heads, rows, elements), whose heads may be several ranks."""
    batches = ranks.get("b", 1)
    strides = _strides(layout, batches)
    assert strides is not None
    # Of an axis of one index any stride will do.
    row = strides[2] or ranks[names[-1]]
    head = strides[1] or row * ranks[names[-2]]
    batch = strides[0] or head * (layout.shape[0] // batches)
    steps = {"b": batch, "g": head * (ranks["h"] if "h" in names else 1), "h": head, names[-2]: row, names[-1]: 1}
    return View(buffer, tuple(Axis(name, ranks[name], steps[name]) for name in names))


def _mask(context: Context, node: Node[AttentionOperator], shape: tuple[int, int, int]) -> Mask | None:
    """What is added to sums of products, alike for all heads, and queries, where it may be; None for no mask."""
    if "mask" not in node.inputs:
        return None
    name, operator = node.inputs["mask"], node.operator
    value, is_float = context.constant(name), context.config.has_floats
    if value is None:
        masks, rows, keys = context.graph.tensors[name].shape
        return Mask(context.located[name].buffer, (masks, rows, keys), *shape[:2])
    elements = context.graph.tensors[node.inputs["q"]].shape[-1]
    if is_float:
        # Zeros of both signs are one.
        bias = np.atleast_1d(operator.addends(value, shape[0], elements) + np.float32(0)).view(np.int32)
    else:
        bias = np.atleast_1d(operator.bias(value, *shape, elements))
    masks, rows = (1, 1, *bias.shape)[-3:-1]
    own = shape[0] if masks > 1 else 1, shape[1] if rows > 1 else 1, shape[2]
    hidden = {"hidden": int(np.float32(-np.inf).view(np.int32))} if is_float else {}
    return Mask(np.broadcast_to(bias, own), own, *shape[:2], **hidden)


def _shown(mask: np.ndarray, hidden: int) -> tuple[np.ndarray, np.ndarray] | None:
    """First key that a mask shows each query, and that behind the last, if it adds nothing and shows all between."""
    shown = mask == 0
    if not (shown | (mask == hidden)).all():
        return None
    count = shown.sum(axis=-1)
    first, last = shown.argmax(axis=-1), mask.shape[-1] - shown[..., ::-1].argmax(axis=-1)
    last = np.where(count > 0, last, first)
    return (first, last) if (last - first == count).all() else None
