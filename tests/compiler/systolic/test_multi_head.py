"""Multi-head attention as one program: heads are read and written where projections have them, without a copy."""

import numpy as np
import pytest
from attention_draws import attention_array
from multi_head_draws import drawn_multi_head
from random_workloads import interpret

from pearray.compiler.graph.graph import Graph
from pearray.hdl.shell.commands import Opcode


@pytest.mark.parametrize("array", ["4x6", "6x4", "8x8"])
@pytest.mark.parametrize("number", range(2))
def test_drawn_cases_equal_golden(array, number, seed):
    """A stride or an offset of a head that is wrong reads another head's elements."""
    config, rng = attention_array(array), np.random.default_rng([seed, number])
    operator, tensors = drawn_multi_head(rng, config)
    graph = Graph.of(operator, tensors)
    inputs = {name: tensors[name] for name in graph.inputs}
    compiled = interpret(graph, inputs, config, keep=["outputs", "all"][number % 2])
    assert [layer.name.split(":")[1] for layer in compiled.layers] == ["q", "k", "v", "av", "y"]
    assert sum(layer.macs for layer in compiled.layers) == graph.macs(graph.nodes[0])


def test_no_tensor_is_copied(rng):
    """Five kernels, and no more bytes are stored than what the five make."""
    config = attention_array("8x8")
    operator, tensors = drawn_multi_head(rng, config)
    graph = Graph.of(operator, tensors)
    compiled = interpret(graph, {name: tensors[name] for name in graph.inputs}, config)
    assert len(compiled.kernels) == 5
    stored = 0
    for command in compiled.program.commands:
        if command.opcode is Opcode.STORE:
            body = command.body
            stored += body.get("length", 0) * body.get("count1", 1) * body.get("count2", 1)
    made = [compiled.graph.tensors[name].shape for layer in compiled.layers for name in layer.outputs]
    assert stored <= sum(int(np.prod(shape)) for shape in made)
