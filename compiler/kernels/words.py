"""Sums and products of two tensors of 16 bits by TensorFlow Lite's rules, exact for all values.

A term of a sum is an operand times ``2**15``, multiplied by a factor of 31 bits and rounded, twice; it has about 30
bits, more than an output. But of a factor ``m = high * 2**(16 + s) + low``, where s is how far the second rounding
shifts, the part `high` multiplies without a rounding, so that a term is ``high * x`` and what the same two roundings
make of `low` alone: at most a word, whose halves lie where the whole term's do. So a sum is one kernel of two or more
words, behind one for each operand whose factor has a lower part.

A product meets each element of one operand with one of the other on the array's diagonal, where the second stand as
weights.
"""

from ...golden.elementwise import product_multiplier
from ...hdl.errors import PearrayError
from ...hdl.shell.commands import Rounding
from ..graph.graph import Node
from ..operators import Add, Mul, Sub
from ..operators.binary import Binary
from .context import Context, Located, tflite_entry
from .elementwise import columns_for
from .kernel import Access, Chain, Contraction, Finish, Index, Kernel, Product, Scaled
from .views import Axis, Buffer, View

__all__ = ["add_words", "multiply_words"]

#: Bits that a term's factor loses in the first rounding, and by which operands are shifted before.
_FIRST, _SHIFT = 16, 15

#: Indices of a row of pixels, of one pixel, and of the elements that its channels meet.
_ROW = {"w": Index({"q": 1}), "c": Index({"c": 1})}
_PIXEL, _CHANNELS = {"c": Index({"g": 1})}, {"m": Index({"g": 1})}


def add_words(context: Context, node: Node[Add] | Node[Sub]) -> list[Kernel]:
    """State a sum or a difference of tensors of one shape."""
    rule, found = node.operator.integer_rule(2), _alike(context, node)
    columns = columns_for(found[0].buffer, context.config.sum_columns)
    kernels: list[Kernel] = []
    terms: list[Scaled] = []
    for role, each, sign, (multiplier, shift) in zip("ab", found, (1, rule.sign), rule.factors, strict=True):
        high, low = divmod(multiplier, 1 << _FIRST - shift)
        operand = _rows(each.buffer, columns)
        terms += [Scaled(operand, sign * high)] if high else []
        if low:
            rest = Buffer(f"{node.name}:{role}", each.buffer.size // columns, columns, each.buffer.item)
            rest.expect_stores()
            context.made.append(rest)
            kernels.append(_chain(rest.name, [Scaled(operand, 1 << _SHIFT)], rest, _finish(low, shift)))
            terms.append(Scaled(_rows(rest, columns), sign))
    y = context.result(node, found[0].layout, columns=columns)
    return [*kernels, _chain(node.name, terms, y, _finish(rule.multiplier, rule.shift))]


def multiply_words(context: Context, node: Node[Mul]) -> list[Kernel]:
    """State a product of tensors of one shape."""
    a, b = _alike(context, node)
    size = a.buffer.size
    y = context.result(node, a.layout, columns=size)
    factor = product_multiplier(*(node.operator.stored(role)[0] for role in "aby"))
    pixels = [View.rows(each, "nhwc", (1, 1, 1, size)) for each in (a.buffer, y)]
    term = Product(Access(pixels[0], _PIXEL), Access(View(b.buffer, (Axis("m", size, 1),)), _CHANNELS))
    return [Contraction(name=node.name, ranks={"g": size}, terms=(term,), finish=_finish(*factor),
                        y=Access(pixels[1], _PIXEL))]


def _alike(context: Context, node: Node[Binary]) -> tuple[Located, Located]:
    """Operands, which stand alike in memory."""
    a, b = (context.operand(node, role) for role in "ab")
    if not a.layout.same_memory(b.layout):
        names = [context.graph.named(node.inputs[role]) for role in "ab"]
        raise PearrayError(f"{node.name}: {names[0]} and {names[1]} stand in memory in different orders; reshape both "
                           "or neither")
    return a, b


def _finish(multiplier: int, shift: int) -> Finish:
    """Outputs of 16 bits, rounded twice."""
    return Finish(Rounding.TFLITE_DOUBLE, 0, -(1 << 15), (1 << 15) - 1, tflite_entry(multiplier, shift))


def _rows(buffer: Buffer, columns: int) -> Access:
    """A whole buffer as rows of so many elements."""
    return Access(View.rows(buffer, "nhwc", (1, 1, buffer.size // columns, columns)), _ROW)


def _chain(name: str, terms: list[Scaled], y: Buffer, finish: Finish) -> Chain:
    return Chain(name=name, ranks={"q": y.rows, "c": y.columns}, terms=tuple(terms), finish=finish,
                 y=_rows(y, y.columns))
