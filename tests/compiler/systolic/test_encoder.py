"""A whole encoder layer as one program: the interpreter gives golden's bytes, and finds races between its parts."""

import numpy as np
import pytest
from encoder_layers import drawn_layer, layer_array
from random_workloads import interpret

from pearray import ledger
from pearray.compiler.compile import compile_graph
from pearray.workloads.workload import load_workload


@pytest.mark.parametrize("number", range(4))
def test_drawn_layers_equal_golden(number, seed):
    """A part that began too early, or an operator that read another's tensor, would give other bytes."""
    config = layer_array()
    workload = drawn_layer(np.random.default_rng([seed, number]), config)
    keep = ["outputs", "all"][number % 2]
    compiled = interpret(workload.graph, workload.inputs, config, keep=keep)
    normed = ["Add", "LayerNorm"] if keep == "all" else ["Add + LayerNorm"]
    assert [layer.kind for layer in compiled.layers] == [
        "Linear", "Linear", "Linear", "Attention", "Linear", *normed, "Linear", "Linear", *normed]
    assert sum(layer.macs for layer in compiled.layers) == sum(map(workload.graph.macs, workload.graph.nodes))


def test_predicted_ledger_knows_all_products():
    """Commands of parts that follow one another come by several streams: out of order, their cycles would be lost."""
    config = layer_array()
    compiled = compile_graph(load_workload("encoder-layer:24,32,4,64", 0, {}, config).graph, config)
    macs = sum(layer.macs for layer in compiled.layers)
    assert ledger.predicted(compiled)["useful"] == macs // config.pes
