"""Contractions over pixels on the systolic array."""

from random_workloads import configuration, interpret, operands

from pearray.compiler.graph.graph import Graph, Node, Tensor
from pearray.compiler.kinds import compiler_for
from pearray.compiler.operators import Conv2d, Conv2dGrad


def _filters(rng, x, w, config, **window):
    """Program of the gradient of filters alone, checked, and its cycles."""
    tensors = {"x": operands(rng, x), "w": operands(rng, w)}
    tensors["dy"] = operands(rng, Conv2d(**window).infer(tensors)["y"][0])
    node = Node("grad", Conv2dGrad(**window), {role: role for role in tensors}, {"dw": "dw"})
    inputs = {role: tensors[role] for role in ("x", "dy")}
    graph = Graph([node], {role: Tensor(role, value.shape, value.dtype) for role, value in inputs.items()},
                  {"w": tensors["w"]}, list(inputs), ["dw"])
    program = interpret(graph, inputs, config).program
    return program, compiler_for(config).cycles(config, program)


def test_groups_share_what_is_loaded(rng):
    """Rows of one channel take as long as rows of eight: loaded for each group they would take eight times that."""
    program, _ = _filters(rng, (1, 24, 9, 9), (24, 1, 3, 3), configuration(), padding=1, groups=24)
    assert program.counts["execute"] >= 24
    assert program.counts["load"] < 24


def test_cycles(rng):
    """The array has no more to do than for the convolution itself; pixels that do not fold take eight times that."""
    for window in ({"padding": 1}, {"padding": 1, "stride": 2}, {"padding": 2, "dilation": 2}):
        config = configuration()
        _, cycles = _filters(rng, (1, 32, 16, 16), (32, 32, 3, 3), config, **window)
        pixels = 64 if window.get("stride") == 2 else 256
        assert cycles < 1.15 * pixels * 32 * 32 * 9 / config.pes, window
