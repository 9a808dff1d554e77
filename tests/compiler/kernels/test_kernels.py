"""What operators are stated as, computed in NumPy straight from indices and views, against golden."""

import numpy as np
import pytest
from kernel_model import evaluate
from random_workloads import (
    NARROW_OPERATORS,
    OPERATORS,
    PAIR_OPERATORS,
    ROW_OPERATORS,
    configuration,
    operands,
    pooled_conv,
)

from pearray import PearrayError
from pearray.compiler.graph.graph import Graph
from pearray.compiler.kernels.context import Context
from pearray.compiler.kernels.kernel import Access, Chain, Contraction, Finish, Index, Product, Scaled
from pearray.compiler.kernels.lowerings import LOWERINGS
from pearray.compiler.kernels.nest import Nest
from pearray.compiler.kernels.verify import Written
from pearray.compiler.kernels.views import Buffer, View


@pytest.mark.parametrize(("name", "pairs"), [*((name, 0) for name in [*OPERATORS, *NARROW_OPERATORS]),
                                             ("residual", 1), *((name, 1) for name in PAIR_OPERATORS),
                                             ("pooled_conv", 0)])
def test_operators_are_their_kernels(rng, name, pairs):
    """An index, a stride or a phase that is wrong here is wrong on every kind of array alike."""
    makers = OPERATORS | NARROW_OPERATORS | PAIR_OPERATORS | ROW_OPERATORS | {"pooled_conv": pooled_conv}
    for _ in range(6):
        operator, tensors, constants = makers[name](rng, 8)
        graph = Graph.of(operator, tensors, constants)
        context = Context(graph, configuration(pairs=pairs, products=pairs), False)
        for given in graph.inputs:
            context.locate(given, bias=given in ("b", "c") and given != operator.required[-1])
        (node,) = graph.nodes
        kernels = LOWERINGS[type(operator)](context, node)
        memory = {}
        for tensor, located in context.located.items():
            if tensor in tensors:
                memory[located.buffer] = located.layout.to_memory(np.asarray(tensors[tensor])).astype(np.int64)
        written = evaluate(kernels, memory)
        expected = graph.golden({key: tensors[key] for key in graph.inputs})
        for tensor in node.outputs.values():
            made = context.located[tensor]
            assert (written[made.buffer] == 1).all()
            np.testing.assert_array_equal(made.layout.from_memory(memory[made.buffer]), expected[tensor])


def _weight_gradient(rng, stride, padding):
    """The gradient of a convolution's weights as a kernel: a contraction over pixels of two activations."""
    x, dy = operands(rng, (2, 7, 6, 3)), operands(rng, (2, (7 + 2 * padding - 3) // stride + 1,
                                                      (6 + 2 * padding - 2) // stride + 1, 4))
    buffers = [Buffer(name, array.size // array.shape[-1], array.shape[-1], 1) for name, array in
               (("x", x), ("dy", dy))]
    dw = Buffer("dw", 4 * 3 * 2, 3, 4)
    image = View.rows(buffers[0], "nhwc", x.shape)
    a = Access(image, {"n": Index({"n": 1}), "h": Index({"p": stride, "r": 1}, -padding),
                       "w": Index({"q": stride, "s": 1}, -padding), "c": Index({"c": 1})})
    w = Access(View.rows(buffers[1], "nhwc", dy.shape), {"n": Index({"n": 1}), "h": Index({"p": 1}),
                                                         "w": Index({"q": 1}), "c": Index({"m": 1})})
    y = Access(View.rows(dw, "mrsc", (4, 3, 2, 3)), {rank: Index({rank: 1}) for rank in "mrsc"})
    ranks = {"m": 4, "r": 3, "s": 2, "c": 3, "n": 2, "p": dy.shape[1], "q": dy.shape[2]}
    kernel = Contraction(name="grad", ranks=ranks, y=y, terms=(Product(a, w),), finish=Finish())
    expected = np.zeros((4, 3, 2, 3), np.int64)
    padded = np.pad(x.astype(np.int64), ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    for r in range(3):
        for s in range(2):
            part = padded[:, r:r + stride * dy.shape[1]:stride, s:s + stride * dy.shape[2]:stride]
            expected[:, r, s] = np.einsum("npqm,npqc->mc", dy.astype(np.int64), part)
    return kernel, dict(zip(buffers, (x.reshape(-1).astype(np.int64), dy.reshape(-1).astype(np.int64)), strict=True)), \
        dw, expected


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 1)])
def test_contraction_over_pixels(rng, stride, padding):
    """The level must carry gradients of weights: both operands in memory, ranks of pixels summed, strides, padding."""
    kernel, memory, dw, expected = _weight_gradient(rng, stride, padding)
    evaluate([kernel], memory)
    np.testing.assert_array_equal(memory[dw].reshape(expected.shape), expected)
    assert str(kernel).startswith("grad: dw[m, r, s, c] = sum(n < 2, p < ")
    with pytest.raises(PearrayError, match=r"^grad: no array of this kind computes "):
        Nest.of(kernel, 8)


def test_moves_and_parts(rng):
    """A part of a tensor and the place where it goes are views: a copy between them, and none where one will do."""
    source, target = Buffer("x", 6, 8, 1), Buffer("y", 6, 5, 1)
    x = View.rows(source, "nhwc", (1, 1, 6, 8)).part("c", 3, 2)
    y = View.rows(target, "nhwc", (1, 1, 6, 5)).part("c", 1, 2)
    row = {"w": Index({"q": 1}), "c": Index({"c": 1})}
    move = Chain(name="split", ranks={"q": 6, "c": 2}, terms=(Scaled(Access(x, row)),), y=Access(y, row))
    values = operands(rng, (6, 8)).astype(np.int64)
    memory = {source: values.reshape(-1)}
    evaluate([move], memory)
    np.testing.assert_array_equal(memory[target].reshape(6, 5)[:, 1:3], values[:, 3:5])
    nest = Nest.of(move, 8)
    assert (nest.channelwise, nest.ng, nest.q, nest.x.address - source.address) == (True, 2, 6, 3)
    assert x.rows_of("w", 2, 4) == (source, 19, 29)


def test_views_that_leave_their_buffer_are_refused():
    """An index that leaves its buffer would read another tensor."""
    buffer, out = Buffer("x", 4, 4, 1), Buffer("y", 4, 4, 1)
    row = {"w": Index({"q": 1}), "c": Index({"c": 1})}
    good = Chain(name="one", ranks={"q": 4, "c": 4}, y=Access(View.rows(out, "wc", (4, 4)), row),
                 terms=(Scaled(Access(View.rows(buffer, "wc", (4, 4)), row)),))
    good.check()
    with pytest.raises(PearrayError, match=r"^one: view x\+1\[w:4@4, c:4@1\] leaves its buffer of 16 elements$"):
        Chain(name="one", ranks={"q": 4, "c": 4}, y=good.y,
              terms=(Scaled(Access(View(buffer, View.rows(buffer, "wc", (4, 4)).axes, 1), row)),)).check()
    with pytest.raises(PearrayError, match=r"^one: y\[q, c\] leaves axis w of 4 elements$"):
        Chain(name="one", ranks={"q": 5, "c": 4}, y=good.y, terms=good.terms).check()
    with pytest.raises(PearrayError, match=r"^one: y\[q, c\] has no rank c$"):
        Chain(name="one", ranks={"q": 4}, y=good.y, terms=good.terms).check()


def test_what_has_been_stored(rng):
    """A load must wait for every row that it touches, and for no other."""
    buffer = Buffer("x", 6, 4, 1)
    assert buffer.ready(0, 24) == 0
    buffer.expect_stores()
    buffer.note_store(slice(0, 3), 4, 5)
    buffer.note_store(np.array([4, 5]), 2, 7)
    assert [buffer.ready(0, 12), buffer.ready(3, 9), buffer.ready(11, 13), buffer.ready(7, 7)] == [5, 5, None, 0]
    buffer.note_store(np.array([4, 5]), 2, 9)
    assert (buffer.ready(16, 24), buffer.ready(0, 24)) == (9, None)


def test_views_of_what_is_not_written_are_refused():
    """A kernel that reads what none before it writes would read what stood in memory before."""
    given, middle, out = Buffer("x", 4, 4, 1), Buffer("h", 4, 4, 1), Buffer("y", 4, 4, 1)
    middle.expect_stores()
    out.expect_stores()
    row = {"w": Index({"q": 1}), "c": Index({"c": 1})}

    def copy(name, source, target):
        x, y = (Access(View.rows(buffer, "wc", (4, 4)), row) for buffer in (source, target))
        return Chain(name=name, ranks={"q": 4, "c": 4}, terms=(Scaled(x),), y=y)

    first, second = copy("first", given, middle), copy("second", middle, out)
    Written().verify("node", [first, second], [middle, out])
    for kernels, outputs, message in (
            ([second, first], [out], r"^second: h\[q, c\] is read before a kernel writes it$"),
            ([first], [middle, out], "^node: no kernel writes 16 of 16 elements of y$"),
            ([first, first], [middle], r"^first: h\[q, c\] is written more than once$")):
        with pytest.raises(PearrayError, match=message):
            Written().verify("node", kernels, outputs)
    weights = Access(View.rows(given, "cm", (4, 4)), {"c": Index({"c": 1}), "m": Index({"m": 1})})
    biased = Contraction(name="biased", ranks={"q": 4, "m": 4, "c": 4}, y=Access(View.rows(out, "wc", (4, 4)), {
        "w": Index({"q": 1}), "c": Index({"m": 1})}), terms=(Product(first.accesses[0], weights),),
        finish=Finish(bias=View.rows(middle, "wc", (4, 4))))
    with pytest.raises(PearrayError, match=r"^biased: h is read before a kernel writes it$"):
        Written().verify("node", [biased], [out])


def test_parts_of_what_is_read_and_written_count():
    """A phase of a transposed convolution that is lost, or a read of a half-written tensor, is no whole tensor."""
    given, middle, out = Buffer("x", 8, 4, 1), Buffer("h", 8, 4, 1), Buffer("y", 8, 4, 1)
    middle.expect_stores()
    out.expect_stores()

    def part(source, target, rows, *, shift=0):
        x, y = (View.rows(buffer, "wc", (8, 4)) for buffer in (source, target))
        row = Index({"q": rows.step}, rows.start)
        return Chain(name=f"rows {rows.start}", ranks={"q": len(rows), "c": 4},
                     terms=(Scaled(Access(x, {"w": row, "c": Index({"c": 1}, shift)})),),
                     y=Access(y, {"w": row, "c": Index({"c": 1})}))

    even, odd = (part(given, middle, range(start, 8, 2)) for start in (0, 1))
    Written().verify("node", [even, odd, part(middle, out, range(0, 8))], [middle, out])
    for kernels, outputs, message in (
            ([even], [middle], "^node: no kernel writes 16 of 32 elements of h$"),
            ([even, part(middle, out, range(0, 2))], [], r"^rows 0: h\[q, c\] is read before a kernel writes it$"),
            ([part(given, out, range(0, 8), shift=9)], [], r"^rows 0: x\[q, c \+ 9\] leaves axis c of 4 elements$")):
        with pytest.raises(PearrayError, match=message):
            Written().verify("node", kernels, outputs)
