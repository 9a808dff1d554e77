"""How sum, difference and product of two tensors are stated as kernels."""

from dataclasses import replace
from typing import Any

import numpy as np

from ...golden.elementwise import product_multiplier
from ...golden.quantised import first_is_spread
from ...hdl.errors import PearrayError
from ...hdl.shell.commands import Rounding
from ..graph.graph import Node
from ..operators import Add, Gelu, Logistic, Lookup, Max, Min, Mul, Silu, Sub
from ..operators.binary import Binary
from ..operators.channelwise import every_value
from .addition import Addition, Multiplication
from .context import Context, tflite_entry
from .elementwise import clamped, elementwise, whole
from .kernel import Finish, Kernel
from .layout import Layout
from .pairs import find_pair
from .products import find_product
from .residual import find_residual
from .words import add_words, multiply_words

__all__ = ["add", "gate", "greatest", "least", "lookup", "multiply", "subtract"]


def lookup(context: Context, node: Node[Lookup] | Node[Logistic]) -> list[Kernel]:
    """State Lookup, or a function that has a table, as a table."""
    return _table(context, node, "x", node.operator.table)


def gate(context: Context, node: Node[Gelu] | Node[Silu]) -> list[Kernel]:
    """State GELU or SiLU of a quantised tensor as a table."""
    return _table(context, node, "x", node.operator.table(context.graph.tensors[node.inputs["x"]].dtype))


def _table(context: Context, node: Node, role: str, table: np.ndarray) -> list[Kernel]:
    """Chain that looks each element up, perhaps in a table of its channel."""
    name = node.inputs[role]
    found = context.operand(node, role)
    shape = found.layout.shape
    if table.ndim == 2 and not (found.is_plain() and len(shape) in (2, 4)):
        stands = f"shape {shape}" if found.is_plain() else f"shape {shape} of a tensor that stands in another order"
        raise PearrayError(f"{node.name}: {name} must be (N, C) or (N, C, H, W), with its channels last in memory, for "
                           f"a table of each channel, not {stands}")
    # Axes in memory may be parts of the one along which tables differ, or several as one.
    columns = len(table) if table.ndim == 2 else 0
    return elementwise(context, node, (role,), whole(context.graph.tensors[name].dtype, table), columns=columns)


def greatest(context: Context, node: Node[Max]) -> list[Kernel]:
    """State Max of two tensors as their greatest elements."""
    dtype = context.graph.tensors[node.outputs["y"]].dtype
    return elementwise(context, node, ("x0", "x1"), whole(dtype), (1, 1), (0, 0), "max")


def least(context: Context, node: Node[Min]) -> list[Kernel]:
    """State Min of two tensors as the greatest of what turns the order of their values round, by a table."""
    dtype = context.graph.tensors[node.outputs["y"]].dtype
    if dtype not in (np.int8, np.uint8):
        raise PearrayError(f"{node.name}: tensors must be of type int8 or uint8 for Min, not {dtype}")
    # The least value stands for the greatest, and so on.
    ends = sum(context.config.arithmetic.operand_range(dtype.kind == "u"))
    table = (ends - every_value(dtype).astype(np.int64)).astype(dtype)
    return elementwise(context, node, ("x0", "x1"), whole(dtype, table), (-1, -1), (ends, ends), "max")


def _constant(context: Context, node: Node[Binary]) -> list[Kernel] | None:
    """State an operator of which one operand is a constant, one number or one for each channel, as a table."""
    for role, other in (("a", "b"), ("b", "a")):
        value, tensor = context.constant(node.inputs[role]), context.graph.tensors[node.inputs[other]]
        if value is not None and node.operator.is_tabled(value, tensor):
            try:
                table = node.operator.constant_table(role, value, tensor)
            except PearrayError as error:
                raise PearrayError(f"{node.name}: {error}") from None
            return _table(context, node, other, table)
    return None


def _has_words(context: Context, node: Node[Binary]) -> bool:
    """Whether stored values have 16 bits."""
    return node.operator.is_scaled and context.graph.tensors[node.outputs["y"]].dtype.itemsize > 1


def _checked_zeros(context: Context, node: Node[Binary]) -> tuple[int, int]:
    """Zero points of a and b, which the array takes."""
    zeros = int(node.operator.A_zero_point), int(node.operator.B_zero_point)
    for role, zero in zip("ab", zeros, strict=True):
        context.checked_zero(node, f"{role.upper()}_zero_point", zero, node.inputs[role])
    return zeros


def _bounds(context: Context, node: Node) -> tuple[int, int]:
    """Least and greatest output."""
    info = np.iinfo(context.graph.tensors[node.outputs["y"]].dtype)
    return int(info.min), int(info.max)


def add(context: Context, node: Node[Add]) -> list[Kernel]:
    """State Add as a table if one operand is constant over each channel, else as a sum of pairs, or of integers."""
    if _has_words(context, node):
        return add_words(context, node)
    found = _constant(context, node)
    if found is not None:
        return found
    zeros = _checked_zeros(context, node)
    if not node.operator.is_scaled:
        return elementwise(context, node, "ab", Finish(), (1, 1), zeros)
    return _pairs(context, node) or _weights(context, node, zeros)


def subtract(context: Context, node: Node[Sub]) -> list[Kernel]:
    """State Sub as a table if one operand is constant over each channel, else as a sum of pairs."""
    if _has_words(context, node):
        return add_words(context, node)
    found = _constant(context, node) or _pairs(context, node)
    if found is None:
        scales = [float(node.operator.stored(role)[0]) for role in "aby"]
        raise PearrayError(
            f"{node.name}: a difference with scales {scales} can't be computed exactly by this accelerator: too many "
            "lie half-way between two outputs, where the runtime's float32 roundings decide; use other scales, or "
            "rounding='tflite'")
    return found


def _pairs(context: Context, node: Node[Add] | Node[Sub]) -> list[Kernel] | None:
    """Add or subtract by a table for each tensor; None if there are none (:mod:`.pairs`)."""
    operator, negative = node.operator, isinstance(node.operator, Sub)
    integer = operator.rounding == "tflite"
    if not context.config.has_pairs:
        if integer or negative:
            raise PearrayError(f"{node.name}: {operator.kind} with rounding {operator.rounding!r} needs an accelerator "
                               "with post.pairs = 1")
        return None
    if integer:
        rule = operator.integer_rule()
        tensors = (context.graph.tensors[node.inputs[role]] for role in "ab")
        terms = rule.terms(*(every_value(tensor.dtype) for tensor in tensors))
        finish = Finish(Rounding.TFLITE_DOUBLE, rule.zero_point, *_bounds(context, node),
                        tflite_entry(rule.multiplier, rule.shift), pair=np.stack(terms).astype(np.int32))
    else:
        tables = find_pair(_addition(context, node))
        if tables is None:
            return None
        finish = replace(clamped(*_bounds(context, node), point=tables.point, scale=tables.scale), pair=tables.tables)
    return elementwise(context, node, "ab", finish, (1, 1), (0, 0), "pair")


def _weights(context: Context, node: Node[Add], zeros: tuple[int, int]) -> list[Kernel]:
    """Add by integer weights (:mod:`.residual`)."""
    # Weights are unsigned, so that there are fewer of them.
    _, greatest = context.config.arithmetic.operand_range(is_unsigned=True)
    addition = _addition(context, node)
    shapes = [tuple(context.graph.tensors[node.inputs[role]].shape) for role in "ab"]
    found = find_residual(addition, greatest)
    if found is None:
        scales = [addition.a_scale, addition.b_scale, addition.y_scale]
        raise PearrayError(
            f"{node.name}: a sum with scales {scales} can't be computed exactly by this accelerator: too many sums lie "
            "half-way between two outputs, where the runtime's float32 additions decide; use a scale that is no "
            "simple multiple of the others, powers of two, or tensors of one type and post.pairs = 1")
    # The bias of each channel as it stands in memory.
    layout = context.operand(node, "a").layout if shapes[0] == shapes[1] else Layout.of(
        tuple(context.graph.tensors[node.outputs["y"]].shape))
    bias = np.full(layout.physical[-1] if layout.physical else 1, found.bias) if found.bias else None
    finish = clamped(*addition.bounds, point=found.point, scale=found.scale, bias=bias)
    return elementwise(context, node, "ab", finish, (found.m, found.n), zeros)


def _addition(context: Context, node: Node[Add] | Node[Sub]) -> Addition:
    """The addition that an operator's scales and zero points, and the types of its tensors, say."""
    tensors = {role: context.graph.tensors[name] for role, name in (*node.inputs.items(), *node.outputs.items())}
    a, b = tensors["a"], tensors["b"]
    return Addition(**_stored(node, tensors), spread=first_is_spread(tuple(a.shape), tuple(b.shape)),
                    fused=node.operator.is_fused(a=a, b=b), negative=isinstance(node.operator, Sub))


def _stored(node: Node[Binary], tensors: dict[str, Any]) -> dict[str, Any]:
    """Scale, zero point and type of a, b and y, as fields of :class:`Addition` and :class:`Multiplication`."""
    fields: dict[str, Any] = {}
    for role in "aby":
        scale, zero = node.operator.stored(role)
        fields |= {f"{role}_scale": float(scale), f"{role}_zero": zero, f"{role}_dtype": str(tensors[role].dtype)}
    return fields


def multiply(context: Context, node: Node[Mul]) -> list[Kernel]:
    """State Mul as a table if one operand is constant over each channel, else as integer products."""
    if _has_words(context, node):
        return multiply_words(context, node)
    found = _constant(context, node)
    if found is not None:
        return found
    operator = node.operator
    if not context.config.has_products:
        raise PearrayError(f"{node.name}: Mul of two tensors needs an accelerator with post.products = 1")
    _checked_zeros(context, node)
    tensors = {role: context.graph.tensors[name] for role, name in (*node.inputs.items(), *node.outputs.items())}
    if operator.rounding == "tflite":
        factor = product_multiplier(*(operator.stored(role)[0] for role in "aby"))
        finish = Finish(Rounding.TFLITE_DOUBLE, operator.stored("y")[1], *_bounds(context, node), tflite_entry(*factor))
        addend = 0
    else:
        fused = operator.is_fused(a=tensors["a"], b=tensors["b"])
        multiplication = Multiplication(**_stored(node, tensors), fused=fused)
        product = find_product(multiplication)
        if product is None:
            scales = [multiplication.a_scale, multiplication.b_scale, multiplication.y_scale]
            raise PearrayError(
                f"{node.name}: a product with scales {scales} can't be computed exactly by this accelerator: too many "
                "products lie half-way between two outputs, where the runtime's float32 roundings decide; use other "
                "scales, powers of two, another C_zero_point, or rounding='tflite'")
        finish = clamped(*_bounds(context, node), point=product.point, scale=product.scale)
        addend = product.addend
    # Operands are read as what they are above the least value of their type, so that they are bytes.
    least = tuple(int(np.iinfo(tensors[role].dtype).min) for role in "ab")
    first, second = (zero - low for zero, low in zip((operator.stored(role)[1] for role in "ab"), least, strict=True))
    return elementwise(context, node, "ab", replace(finish, product=(first, second, addend)), (1, 1), least, "product")
