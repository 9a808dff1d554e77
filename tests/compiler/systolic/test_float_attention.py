"""Fused attention of floats as commands: each bit golden's in the interpreter, and what is refused."""

import ml_dtypes
import numpy as np
import pytest
from attention_draws import check_tiles, drawn_float_attention
from drawn_floats import FORMATS, float_configuration, same_bits

import pearray as pe
from pearray.compiler.compile import compile_graph
from pearray.compiler.graph.graph import Graph
from pearray.compiler.kinds import interpreter
from pearray.hdl.errors import PearrayError

BF16 = ml_dtypes.bfloat16


def _array(**overrides):
    """A small array of floats that can do attention."""
    return float_configuration(**overrides).hardware


def _interpreted(operator, tensors, config):
    """Outputs of a program, and those of the golden model."""
    graph = Graph.of(operator, tensors)
    compiled = compile_graph(graph, config)
    inputs = {name: tensors[name] for name in graph.inputs}
    machine = interpreter(config, compiled.memory_bytes)
    machine.write(compiled.segments + compiled.bind(inputs))
    machine.run(compiled.program_address)
    check_tiles(config, compiled.program)
    return compiled.extract("y", machine.read), compiled.graph.golden(inputs)["y"]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("number", range(6))
def test_drawn_attention_equals_golden(form, number, seed):
    """Every shape, mask and array gives golden's bits, and no command reads what another has yet to write."""
    rng = np.random.default_rng([seed, number, FORMATS.index(form)])
    cols = int(rng.choice([4, 6, 8]))
    config = _array(
        array__operands=form, array__rows=int(rng.integers(2, 9)), array__cols=cols,
        array__sum_cycles=int(rng.integers(1, 9)), post__lanes=int(rng.choice([1, 2])),
        accumulators__depth=int(rng.choice([16, 32, 64])), scratchpads__weight_bytes=int(rng.choice([1024, 4096])),
        scratchpads__activation_bytes=4096)
    operator, tensors = drawn_float_attention(rng, config)
    found, wanted = _interpreted(operator, tensors, config)
    assert same_bits(found, wanted), (operator, {name: tensor.shape for name, tensor in tensors.items()})


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_leading_axes_are_heads(rng, shape):
    """Attention as libraries call it, of a matrix or of batches of heads, would be refused or mix its heads."""
    tensors = {role: rng.standard_normal((*shape, rows, 5)).astype(BF16)
               for role, rows in (("q", 7), ("k", 9), ("v", 9))}
    found, wanted = _interpreted(pe.Attention(causal=True), tensors, _array())
    assert found.shape == (*shape, 7, 5)
    assert same_bits(found, wanted)


def test_what_no_array_of_floats_has_is_refused_in_one_line(rng):
    """A user would get a traceback, or silently something else."""
    tensors = {role: rng.standard_normal((2, 6, 5)).astype(BF16) for role in "qkv"}
    cases = [
        (pe.Attention(), tensors, {"post__softmax": 0, "scratchpads__moves": 0}, "post.softmax = 1"),
        (pe.Attention(two_bytes=True), tensors, {}, "two_bytes needs q_scale"),
        (pe.Attention(window=2), {role: each.astype(np.float32) for role, each in tensors.items()}, {},
         "window needs q_scale"),
        (pe.Attention(), tensors | {"mask": np.zeros((6, 6), np.int32)}, {}, "mask must be of bool or float"),
        (pe.Attention(), tensors | {"k": tensors["k"].astype(np.float16)}, {}, "must be of one type"),
        (pe.Attention(scale=-1.0), tensors, {}, "scale must be above 0"),
        (pe.Attention(block=5), tensors, {}, "block of Attention must be 4"),
        (pe.Attention(), {role: each.astype(np.float16) for role, each in tensors.items()}, {},
         "must be of type bfloat16"),
    ]
    for operator, given, overrides, message in cases:
        with pytest.raises(PearrayError, match=message) as error:
            compile_graph(Graph.of(operator, given), _array(**overrides))
        assert "\n" not in str(error.value)
    graph = Graph.of(pe.Attention(), tensors | {"mask": np.ones((6, 6), bool)}, constants=())
    with pytest.raises(PearrayError, match="mask must be a constant"):
        compile_graph(graph, _array())
