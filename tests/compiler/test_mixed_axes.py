"""Reshapes whose axes are parts of several in memory, and operands that stand in another order than what reads them."""

import numpy as np
import pytest
from random_workloads import briefly, interpret, random_configuration

import pearray as pe
from pearray.compiler.graph.graph import Graph, Node, Tensor
from pearray.compiler.operators import Lookup, Reshape


def chain(shape, operators, dtype=np.int8):
    """Graph of operators of one tensor, one behind the other, without the tensor."""
    names = ["x", *(f"t{index}" for index in range(len(operators)))]
    nodes = [Node(after, operator, {"x": before}, {"y": after})
             for operator, before, after in zip(operators, names, names[1:], strict=False)]
    return Graph(nodes, {"x": Tensor("x", shape, np.dtype(dtype))}, {}, ["x"], names[-1:])


def draw(rng, *shape):
    return rng.integers(-128, 128, shape).astype(np.int8)


@pytest.mark.parametrize("operators", [
    [Reshape((4, 2, 3, 4)), pe.MaxPool2d(2)],
    [pe.MaxPool2d(1), Reshape((4, 2, 3, 4)), pe.MaxPool2d(2)],
    [pe.MaxPool2d(1), Reshape((4, 2, 3, 4)), pe.Transpose((0, 2, 3, 1)), pe.MaxPool2d(2)],
    [pe.MaxPool2d(1), Reshape((4, 2, 3, 4)), pe.Transpose((0, 2, 3, 1)), Reshape((3, 4, 8, 1)), pe.MaxPool2d((2, 1))],
    [pe.MaxPool2d(1), Reshape((4, 2, 3, 4)), pe.Slice((1,), (3,), (0,))],
    [pe.MaxPool2d(1), Reshape((4, 2, 3, 4)), pe.Transpose((0, 2, 3, 1))]])
@pytest.mark.parametrize("keep", ["outputs", "all"])
def test_reshapes_that_mix_channels(rng, operators, keep):
    """Channels stand last in memory: 4 of 2 x 6 are no axis there, and only a copy in rows can be read so."""
    graph, config = chain((2, 6, 2, 4), operators), random_configuration(rng, (8,))
    interpret(graph, {"x": draw(rng, 2, 6, 2, 4)}, config, keep, **briefly(config))


def test_tables_of_columns_of_images(rng):
    """A table for each column of a matrix that stands in memory as an image: rows there have other lengths."""
    for _ in range(6):
        shape = tuple(int(size) for size in rng.choice([1, 2, 3, 4, 5, 7], 4))
        count, config = int(np.prod(shape)), random_configuration(rng, (8,))
        table = draw(rng, count, 256)
        graph = chain(shape, [Reshape((1, count)), Lookup(table), Reshape(shape)])
        interpret(graph, {"x": draw(rng, *shape)}, config, **briefly(config))


@pytest.mark.parametrize(("a", "b"), [((2, 6, 3, 4), (6, 3, 4)), ((2, 6, 3, 4), (3, 4)), ((6, 3, 4), (2, 6, 3, 1)),
                                      ((2, 3, 2, 3, 4), (3, 2, 1, 1)), ((2, 3, 2, 3, 4), (3, 2, 3, 4))])
@pytest.mark.parametrize("operator", [pe.Max(), pe.Add(0.5, np.int8(3), 0.25, np.int8(-4), 0.5, np.int8(1))])
def test_operands_of_fewer_dimensions(rng, a, b, operator):
    """Rows that meet images stand in another order in memory, and five axes are no image at all."""
    tensors = dict(zip(operator.required if "b" in operator.required else ("x0", "x1"), (draw(rng, *a), draw(rng, *b)),
                       strict=True))
    config = random_configuration(rng, (8,))
    interpret(Graph.of(operator, tensors), tensors, config, **briefly(config))


def test_an_output_of_transposed_parts_is_refused(rng):
    """It would be missing among the outputs without a word."""
    graph = chain((2, 6, 2, 4), [pe.MaxPool2d(1), Reshape((4, 2, 3, 4)), pe.Transpose((0, 2, 3, 1)), Reshape((12, 8))])
    with pytest.raises(pe.PearrayError, match="let the transposition be the output"):
        interpret(graph, {"x": draw(rng, 2, 6, 2, 4)}, random_configuration(rng, (8,)))
