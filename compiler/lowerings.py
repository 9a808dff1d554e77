"""From a node of a graph to a problem for the array, one function for each operator."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..hdl.commands import Rounding
from ..hdl.config import Config
from ..hdl.errors import PearrayError
from .graph import Graph, Node
from .lower import lower
from .lower_columns import lower_columns
from .operator import padding4, pair
from .operators import AvgPool2d, Contraction, Conv2d, Gemm, Linear, Lookup, MaxPool2d, Operator, Relu, Requant
from .plan import Layout, MemoryPlan, Stored
from .problem import Finish, Matrix, Problem
from .schedule import Step
from .tiling import choose_tiling

__all__ = ["LOWERINGS", "Context"]


@dataclass
class Context:
    """What a lowering works with: the graph, the plan, and where tensors stand so far."""

    graph: Graph
    config: Config
    plan: MemoryPlan
    placed: dict[str, Any]
    stored: dict[str, Stored]
    place: Callable[..., None]

    def constant(self, name: str) -> np.ndarray | None:
        """Value of a constant tensor, else None."""
        return self.graph.constants.get(name)

    def operand(self, node: Node, role: str) -> Stored:
        """A tensor in memory that feeds the array; a constant is put there as it is."""
        name = node.inputs[role]
        if name not in self.stored:
            value = self.graph.constants[name]
            self.place(name)
            placed = self.placed[name]
            self.plan.segments.append((placed.address, placed.to_bytes(value)))
            self.plan.packed_bytes += placed.nbytes
        return self.stored[name]

    def result(self, node: Node) -> Stored:
        """The output's place in memory, which STOREs will fill."""
        name = next(iter(node.outputs.values()))
        self.place(name)
        self.stored[name].expect_stores()
        return self.stored[name]

    def fits(self, name: str, values: np.ndarray) -> np.ndarray:
        """Check that constant operands fit the array."""
        bits = self.config.array.operand_bits
        low, high = (0, (1 << bits) - 1) if values.dtype.kind == "u" else (-(1 << bits - 1), (1 << bits - 1) - 1)
        if values.size and (values.min() < low or values.max() > high):
            wrong = values.min() if values.min() < low else values.max()
            raise PearrayError(f"{name} must have values in {low}..{high} for this accelerator, not {wrong}")
        return values


def scale_entries(requant: Requant) -> np.ndarray:
    """Entries of the scale memory, one for all or one for each channel."""
    if requant.rounding is Rounding.ONNX:
        assert requant.scale is not None
        return np.atleast_1d(requant.scale).view(np.uint32).astype(np.uint64)
    assert requant.multiplier is not None
    assert requant.shift is not None
    multiplier, shift = np.broadcast_arrays(np.atleast_1d(requant.multiplier), np.atleast_1d(requant.shift))
    entries: np.ndarray = multiplier.astype(np.uint64) | ((-shift & 63).astype(np.uint64) << np.uint64(32))
    return entries


def _float_entry(value: Any) -> np.ndarray:
    return np.atleast_1d(np.float32(value)).view(np.uint32).astype(np.uint64)


def _finish(context: Context, node: Node, channels: int) -> Finish:
    operator = node.operator
    assert isinstance(operator, Contraction)
    bias: np.ndarray | Stored | None = None
    role = operator.roles[2]
    if role in node.inputs:
        name = node.inputs[role]
        value = context.constant(name)
        if value is not None and value.size == channels:
            if np.abs(value.astype(np.int64)).max() >= 1 << 31:
                raise PearrayError(f"{node.name}: {role} must have 32-bit values")
            bias = value.reshape(-1)
        else:
            if name not in context.stored:
                context.place(name, bias=True)
                placed = context.placed[name]
                assert value is not None
                context.plan.segments.append((placed.address, placed.to_bytes(value)))
                context.plan.packed_bytes += placed.nbytes
            bias = context.stored[name]
            if bias.pixels * bias.channels == channels:
                bias = bias.viewed(1, channels)
    x_dtype = context.graph.tensors[node.inputs[operator.roles[0]]].dtype
    requant = operator.requant
    if requant is None:
        if operator.activation is not None:
            raise PearrayError(f"{node.name}: activation {operator.activation!r} needs a requant on this accelerator")
        return Finish(bias=bias)
    low, high = operator.bounds(x_dtype)
    return Finish(requant.rounding, requant.y_zero_point, low, high, scale_entries(requant), bias,
                  operator.table(x_dtype))


def _operand_fields(context: Context, node: Node) -> dict[str, Any]:
    operator = node.operator
    assert isinstance(operator, Contraction)
    a, w = (context.graph.tensors[node.inputs[role]].dtype for role in operator.roles[:2])
    a_zero, w_zero = operator.zero_points
    for name, value in (("x_zero_point", a_zero), ("w_zero_point", w_zero)):
        if not -256 <= value <= 255:
            raise PearrayError(f"{node.name}: {name} must be in -256..255 on this accelerator, not {value}")
    return {"a_zero": a_zero, "w_zero": w_zero, "a_unsigned": a.kind == "u", "w_unsigned": w.kind == "u",
            "fill": a_zero}


def _run(context: Context, problem: Problem) -> list[Step]:
    return lower(problem, context.config, context.plan, choose_tiling(problem, context.config))


def _matrix_rows(context: Context, node: Node, role: str) -> tuple[Stored, np.ndarray | None]:
    """A two-dimensional operand as rows in memory, and the order in which a row's elements stand there."""
    stored = context.operand(node, role)
    layout: Layout = context.placed[node.inputs[role]].layout
    rows, columns = layout.shape
    stored = stored.viewed(rows, columns)
    if layout.same_memory(Layout((rows, columns), (0, 1), (rows, columns))):
        return stored, None
    positions = layout.positions()
    if not np.array_equal(positions, np.arange(rows)[:, None] * columns + positions[0]):
        raise PearrayError(f"{node.name}: {node.inputs[role]} has a layout in memory that mixes its rows; "
                           "reshape keeping the first axis")
    return stored, np.argsort(positions[0])


def _image(context: Context, node: Node) -> Stored:
    layout: Layout = context.placed[node.inputs["x"]].layout if node.inputs["x"] in context.placed else \
        Layout.of(context.graph.tensors[node.inputs["x"]].shape)
    if not layout.same_memory(Layout.of(layout.shape)):
        raise PearrayError(f"{node.name}: {node.inputs['x']} does not stand in memory as NHWC; a reshape to images "
                           "is possible only where channels stay last")
    n, c, h, w = layout.shape
    return context.operand(node, "x").viewed(n * h * w, c)


def lower_gemm(context: Context, node: Node) -> list[Step]:
    """Lower Gemm and Linear: one row of M pixels, a 1 x 1 filter."""
    operator = node.operator
    assert isinstance(operator, (Gemm, Linear))
    a_role, b_role, _ = operator.roles
    trans_a = isinstance(operator, Gemm) and operator.trans_a
    trans_b = isinstance(operator, Linear) or operator.trans_b
    a, b = (context.graph.tensors[node.inputs[role]].shape for role in (a_role, b_role))
    m, k = (a[1], a[0]) if trans_a else (a[0], a[1])
    n = b[0] if trans_b else b[1]
    stored, order = _matrix_rows(context, node, a_role)
    if trans_a and order is not None:
        raise PearrayError(f"{node.name}: {node.inputs[a_role]} must stand row-major in memory")
    value = context.constant(node.inputs[b_role])
    weights: np.ndarray | Matrix
    if value is not None:
        weights = context.fits(node.inputs[b_role], value).astype(np.int64)
        weights = weights.T if trans_b else weights
        weights = (weights if order is None else weights[order])[None]
    else:
        if order is not None:
            raise PearrayError(f"{node.name}: {node.inputs[b_role]} must be constant, since "
                               f"{node.inputs[a_role]} does not stand row-major in memory")
        matrix, b_order = _matrix_rows(context, node, b_role)
        if b_order is not None:
            raise PearrayError(f"{node.name}: {node.inputs[b_role]} must stand row-major in memory")
        weights = Matrix(matrix, trans_b)
    finish = _finish(context, node, n)
    y = context.result(node)
    problem = Problem(name=node.name, x=stored, y=y, width=m, q=m, cg=k, ng=n, weights=weights, finish=finish,
                      **_operand_fields(context, node))
    if trans_a:
        return lower_columns(problem, context.config, context.plan)
    return _run(context, problem)


def lower_conv(context: Context, node: Node) -> list[Step]:
    """Lower Conv2d: dense, grouped with groups joined to fill the array, or channel by channel."""
    operator = node.operator
    assert isinstance(operator, Conv2d)
    images, c, height, width = context.graph.tensors[node.inputs["x"]].shape
    value = context.constant(node.inputs["w"])
    if value is None:
        raise PearrayError(f"{node.name}: w must be constant")
    x = _image(context, node)
    w = context.fits(node.inputs["w"], value).astype(np.int64)
    m, cg, r, s = w.shape
    groups = operator.groups
    finish = _finish(context, node, m)
    y = context.result(node)
    _, _, p, q = context.graph.tensors[node.outputs["y"]].shape
    top, left, _, _ = padding4(operator.padding)
    common: dict[str, Any] = {
        "name": node.name, "x": x, "y": y, "images": images, "height": height, "width": width, "p": p, "q": q,
        "r": r, "s": s, "stride": pair("stride", operator.stride), "dilation": pair("dilation", operator.dilation),
        "top": top, "left": left, "finish": finish} | _operand_fields(context, node)
    if groups == m == c and groups > 1:
        # (M, 1, R, S) to (R * S, M).
        return _run(context, Problem(cg=c, ng=c, diagonal=True, weights=w.reshape(m, r * s).T, **common))
    ng = m // groups
    joined = _joined(groups, cg, ng, context.config)
    # (G / joined, joined, ng, cg, r, s) to block-diagonal (G / joined, r, s, joined, cg, joined, ng).
    blocks = w.reshape(groups // joined, joined, ng, cg, r, s)
    full = np.full((groups // joined, r, s, joined, cg, joined, ng), operator.zero_points[1], np.int64)
    for index in range(joined):
        full[:, :, :, index, :, index, :] = blocks[:, index].transpose(0, 3, 4, 2, 1)
    packed = full.reshape(groups // joined, r * s * joined * cg, joined * ng)
    if (r, s, common["stride"]) == (1, 1, (1, 1)) and (p, q) == (height, width):
        # A pointwise filter sees one long row of pixels.
        common |= {"images": 1, "height": 1, "width": images * p * q, "p": 1, "q": images * p * q, "top": 0, "left": 0}
    return _run(context, Problem(groups=groups // joined, cg=cg * joined, ng=ng * joined, weights=packed, **common))


def _joined(groups: int, cg: int, ng: int, config: Config) -> int:
    """Groups to compute together as one block-diagonal matrix: as many as the array has columns and rows for."""
    best = 1
    for joined in range(1, groups + 1):
        if groups % joined == 0 and joined * ng <= config.array.cols and joined * cg <= max(config.array.rows, cg):
            best = joined
    return best


def _pool(context: Context, node: Node, **fields: Any) -> list[Step]:
    operator = node.operator
    assert isinstance(operator, (MaxPool2d, AvgPool2d))
    tensor = context.graph.tensors[node.inputs["x"]]
    images, c, height, width = tensor.shape
    x = _image(context, node)
    y = context.result(node)
    _, _, p, q = context.graph.tensors[node.outputs["y"]].shape
    (r, s), stride = operator.window(tensor.shape)
    top, left, _, _ = padding4(operator.padding)
    dilation = pair("dilation", operator.dilation) if isinstance(operator, MaxPool2d) else (1, 1)
    return _run(context, Problem(
        name=node.name, x=x, y=y, images=images, height=height, width=width, p=p, q=q, cg=c, ng=c, r=r, s=s,
        stride=stride, dilation=dilation, top=top, left=left, a_unsigned=tensor.dtype.kind == "u", diagonal=True,
        **fields))


def _identity(dtype: np.dtype, config: Config, **fields: Any) -> Finish:
    """Outputs that are the sums, stored as operands."""
    info = np.iinfo(dtype)
    return Finish(Rounding.ONNX, 0, int(info.min), int(info.max), _float_entry(1.0), **fields)


def lower_max_pool(context: Context, node: Node) -> list[Step]:
    """Lower MaxPool2d: the diagonal multiplies by one and the accumulators compare."""
    dtype = context.graph.tensors[node.inputs["x"]].dtype
    bits = context.config.array.operand_bits
    least = 0 if dtype.kind == "u" else max(int(np.iinfo(dtype).min), -(1 << bits - 1))
    return _pool(context, node, maximum=True, fill=least, finish=_identity(dtype, context.config))


def _elementwise(context: Context, node: Node, finish: Finish, by_channel: bool) -> list[Step]:
    name = node.inputs["x"]
    tensor = context.graph.tensors[name]
    x = context.operand(node, "x")
    layout: Layout = context.placed[name].layout
    if by_channel:
        if not layout.same_memory(Layout.of(layout.shape)):
            raise PearrayError(f"{node.name}: {name} must stand in memory with its channels last")
    y = context.result(node)
    target = next(iter(node.outputs.values()))
    placed = context.placed[target]
    context.placed[target] = type(placed)(placed.name, placed.address, layout, placed.dtype, placed.item)
    channels = layout.physical[-1] if layout.physical else 1
    count = x.pixels * x.channels
    x, y_view = x.viewed(count // channels, channels), y
    if (y.pixels, y.channels) != (count // channels, channels):
        context.stored[target] = y_view = Stored(y.name, y.address, count // channels, channels, y.item)
        y_view.expect_stores()
    return _run(context, Problem(
        name=node.name, x=x, y=y_view, width=x.pixels, q=x.pixels, cg=channels, ng=channels, diagonal=True,
        a_unsigned=tensor.dtype.kind == "u", finish=finish))


def lower_relu(context: Context, node: Node) -> list[Step]:
    """Lower Relu: the identity, clamped at the zero point."""
    operator = node.operator
    assert isinstance(operator, Relu)
    info = np.iinfo(context.graph.tensors[node.inputs["x"]].dtype)
    return _elementwise(context, node, Finish(Rounding.ONNX, 0, max(operator.zero_point, int(info.min)),
                                              int(info.max), _float_entry(1.0)), False)


def lower_lookup(context: Context, node: Node) -> list[Step]:
    """Lower Lookup: the identity, then the table."""
    operator = node.operator
    assert isinstance(operator, Lookup)
    info = np.iinfo(context.graph.tensors[node.inputs["x"]].dtype)
    return _elementwise(context, node, Finish(Rounding.ONNX, 0, int(info.min), int(info.max), _float_entry(1.0),
                                              table=operator.table), operator.table.ndim == 2)


LOWERINGS: dict[type[Operator], Callable[[Context, Node], list[Step]]] = {
    Conv2d: lower_conv, Gemm: lower_gemm, Linear: lower_gemm, Lookup: lower_lookup, MaxPool2d: lower_max_pool,
    Relu: lower_relu,
}
