"""A whole encoder layer as one program: the interpreter gives golden's bytes, and finds races between its parts."""

import numpy as np
import pytest
from encoder_layers import drawn_layer, layer_array
from random_workloads import interpret


@pytest.mark.parametrize("number", range(4))
def test_drawn_layers_equal_golden(number, seed):
    """A part that began too early, or an operator that read another's tensor, would give other bytes."""
    config = layer_array()
    workload = drawn_layer(np.random.default_rng([seed, number]), config)
    compiled = interpret(workload.graph, workload.inputs, config, keep=["outputs", "all"][number % 2])
    assert [layer.kind for layer in compiled.layers] == [
        "Linear", "Linear", "Linear", "Attention", "Linear", "Add", "LayerNorm", "Linear", "Linear", "Add", "LayerNorm"]
    assert sum(layer.macs for layer in compiled.layers) == sum(map(workload.graph.macs, workload.graph.nodes))
