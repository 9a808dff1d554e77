"""Networks whose tensors are put together, taken apart and turned, whole on the interpreter, on every kind of array."""

import pytest
from kinds import SMALL
from moved_networks import NETWORKS
from onnx_models import check, load
from random_workloads import briefly, configuration, interpret

#: By the kind's name; one with all functions of the vector engine that these networks need.
ARRAYS = {"systolic": configuration(products=1, pairs=1, averages=1), "moves": configuration(moves=1, products=1),
          "row-stationary": SMALL["row-stationary-8"]}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_tensor_equals_the_runtime(rng, tmp_path, name):
    """A tensor that stands in another order than its reader thinks, or is written over, shows in all that follow."""
    model, inputs = NETWORKS[name](rng)
    assert check(model, inputs, tmp_path) >= len(model.graph.node) - 2
    graph = load(model, tmp_path).graph()
    for kind, config in ARRAYS.items():
        if name == "squeeze" and kind == "row-stationary":
            continue
        interpret(graph, inputs, config, **briefly(config))
        interpret(graph, inputs, config, keep="all", **briefly(config))
