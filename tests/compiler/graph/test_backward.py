"""Backward graphs against PyTorch's autograd in float64, and what a budget of memory changes."""

import numpy as np
import pytest

import pearray as pe
from pearray.compiler import operators as op
from pearray.compiler.graph.derivatives import DERIVATIVES
from pearray.compiler.graph.passes import backward
from pearray.compiler.graph.passes.apart import operators_apart
from pearray.compiler.graph.passes.backward import differentiated

torch_graph = pytest.importorskip("torch_graph")


def golden(found, graph, inputs, by, factor=1.0):
    """Everything that a differentiated graph makes."""
    given = {name: graph.constants[name] for name in by if name in graph.constants}
    return found.graph.golden(inputs | given | {found.seed: np.float32(factor)})


def check(graph, inputs, by):
    """Compare loss and gradients with PyTorch's, and gradients of any budget with one another."""
    depends = [*by]
    while True:
        try:
            found = differentiated(graph, "loss", depends)
            break
        except pe.PearrayError as error:
            # What a drawn graph has cut off does not count.
            name = str(error).removeprefix("loss must depend on ").partition(" ")[0]
            depends.remove(name)
    assert depends
    made = golden(found, graph, inputs, depends)
    loss, theirs = torch_graph.gradients(graph, inputs, "loss", depends)
    assert abs(made["loss"] - loss) <= 1e-5 * max(1, abs(loss))
    for name in depends:
        ours = made[found.gradients[name]]
        assert ours.shape == theirs[name].shape
        # Hundreds of terms, whose magnitudes add up to about one, may leave nothing.
        bound = 1e-5 * max(np.abs(theirs[name]).max(), 0.3)
        assert np.abs(ours - theirs[name]).max() <= bound, (name, str(graph))
    for budget in (found.kept_bytes // 2, 0):
        less = differentiated(graph, "loss", depends, budget)
        assert less.kept_bytes <= budget
        again = golden(less, graph, inputs, depends)
        for name in depends:
            np.testing.assert_array_equal(again[less.gradients[name]], made[found.gradients[name]])


@pytest.mark.parametrize("number", range(25))
def test_drawn_images(seed, number):
    """If it failed, a network of images would be trained along another direction than its loss falls."""
    check(*torch_graph.drawn_images(np.random.default_rng((seed, number))))


@pytest.mark.parametrize("number", range(25))
def test_drawn_rows(seed, number):
    """If it failed, a transformer would be trained along another direction than its loss falls."""
    check(*torch_graph.drawn_rows(np.random.default_rng((seed, number, 1))))


def test_draws_have_every_rule():
    """If it failed, a rule would be compared with nothing."""
    drawn = [draw(np.random.default_rng((0, number, *more)))[0] for number in range(25)
             for draw, more in ((torch_graph.drawn_images, ()), (torch_graph.drawn_rows, (1,)))]
    seen = {type(node.operator) for graph in drawn for node in operators_apart(graph).nodes}
    # Those that move elements have a test of their own, and roundings are in the networks that are trained.
    assert set(DERIVATIVES) - seen <= {op.DepthToSpace, op.Expand, op.Gather, op.Pad, op.Resize, op.Rounded,
                                       op.SpaceToDepth, op.Tile}


@pytest.mark.parametrize("operator", [
    op.DepthToSpace(2), op.SpaceToDepth(2), op.Expand((3, 2, 8, 4, 6)), op.Resize(sizes=(2, 8, 7, 3)),
    op.Pad((0, 1, 2, 0, 0, 0, 1, 3), mode="reflect"), op.Pad((0, 1, 0, -1, 0, 0, 0, 2), mode="edge"),
    op.Pad((0, 0, 1, 0, 0, 0, 0, 2)), op.Slice((3, 5), (-5, 0), (2, 3), (-1, -2)), op.Tile((1, 2, 1, 3)),
    op.Gather([[3, 3], [0, -1]], 1), op.Transpose((3, 0, 2, 1)),
], ids=lambda operator: operator.kind)
def test_moved_elements_get_their_gradients_back(rng, operator):
    """If it failed, a gradient would not be the transpose of what was moved: y . dy must be x . dx, in integers."""
    graph = pe.Graph()
    x = rng.integers(-9, 10, (2, 8, 4, 6)).astype(np.float32)
    y = graph.add("y", operator, x=graph.input("x", x.shape, "float32"))
    graph.output(y)
    found = differentiated(graph, y, ["x"])
    dy = rng.integers(-9, 10, graph.tensors[y].shape).astype(np.float32)
    made = found.graph.golden({"x": x, found.seed: dy})
    assert (made[y] * dy).sum() == (x * made[found.gradients["x"]]).sum()
    assert made[found.gradients["x"]].any()


def _small():
    """A layer, its softmax and the loss of both."""
    graph = pe.Graph()
    graph.input("x", (2, 3), "float32")
    graph.input("labels", (2,), "int64")
    graph.constant("w", np.ones((4, 3), np.float32))
    graph.constant("other", np.ones(3, np.float32))
    graph.add("rows", op.Linear(activation="gelu"), x="x", w="w")
    graph.add("best", op.Max(), x0="rows", x1="rows")
    graph.add("loss", op.SoftmaxCrossEntropy(), x="rows", labels="labels")
    graph.output("loss")
    return graph


def test_what_is_kept_is_told():
    """If it failed, nobody could tell how much memory stands between the forward and the backward pass."""
    found = differentiated(_small(), "loss", ["w", "x"])
    assert found.kept == ("rows", "rows:sums")
    assert (found.kept_bytes, found.again) == (64, ())
    # The function is less work than the layer.
    less = differentiated(_small(), "loss", ["w", "x"], 63)
    assert (less.kept, less.kept_bytes, less.again) == (("rows:sums",), 32, ("rows",))
    none = differentiated(_small(), "loss", ["w", "x"], 0)
    assert (none.kept, none.kept_bytes, none.again) == ((), 0, ("rows:sums", "rows"))
    assert found.graph.inputs == ["x", "labels", "w", "gradient of loss"]
    assert found.graph.outputs == ["loss", *found.gradients.values()]


def test_a_long_chain_is_computed_again(rng):
    """If it failed, a deep network would end in a traceback as soon as memory is scarce."""
    graph = pe.Graph()
    graph.input("x", (3,), "float32")
    graph.constant("b", rng.normal(size=3).astype(np.float32))
    name = "x"
    # Additions need nothing of the forward pass, so that all of them are behind one tensor that is kept.
    for number in range(1200):
        name = graph.add(f"sum {number}", op.Add(), a=name, b="b")
    graph.output(graph.add("loss", op.ReduceSum(keepdims=False), x=graph.add("y", op.Function("tanh"), x=name)))
    inputs = {"x": rng.normal(size=3).astype(np.float32)}
    found, less = (differentiated(graph, "loss", ["x"], budget) for budget in (None, 0))
    assert (len(found.kept), less.kept, len(less.again)) == (2, (), 1201)
    np.testing.assert_array_equal(*(golden(each, graph, inputs, ["x"])[each.gradients["x"]] for each in (found, less)))


def test_tensors_without_elements_are_kept():
    """If it failed, a batch of nothing would end in a traceback; computing it again spares no byte."""
    graph = pe.Graph()
    graph.constant("x", np.zeros((0, 3), np.float32))
    graph.input("z", (1, 3), "float32")
    graph.add("h", op.Function("tanh"), x="x")
    graph.add("row", op.Function("tanh"), x="z")
    assert backward._dropped(graph, 2, {"h", "row"}, 0) == {"row"}


@pytest.mark.parametrize(("loss", "by", "budget", "message"), [
    ("x", ["w"], None, "^loss must be a tensor of float32 that a node makes, not 'x'$"),
    ("loss", ["rows"], None, "^'rows' must be an input or a constant of float32 to be differentiated by$"),
    ("loss", ["labels"], None, "^'labels' must be an input or a constant of float32 to be differentiated by$"),
    ("loss", ["w", "other"], None, "^loss must depend on other to be differentiated by it$"),
    ("loss", ["w", "x", "w"], None, "^'w' must be named once to be differentiated by, not 2 times$"),
    ("loss", ["w"], -1, "^budget must be at least 0 bytes, not -1$"),
    ("best", ["w"], None, r"^best: operator must be one that has a derivative \(Add, .*\), not Max$"),
])
def test_what_cannot_be_differentiated_is_named(loss, by, budget, message):
    """If it failed, a mistake would end in a traceback, or in gradients of something else."""
    with pytest.raises(pe.PearrayError, match=message):
        differentiated(_small(), loss, by, budget)
