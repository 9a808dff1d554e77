"""Networks of drawn weights equal onnxruntime on every tensor, and those by name have the published shapes."""

import numpy as np
import pytest
from network_onnx import runtime_tensors

from pearray.compiler.operators import Conv2d
from pearray.workloads.drawn_network import DrawnNetwork
from pearray.workloads.image_networks import IMAGE_NETWORKS
from pearray.workloads.workload import load_workload


def _small(rng):
    """Every kind of layer, on ragged sizes."""
    network = DrawnNetwork(rng, 2, (3, 13, 11))
    x = network.conv("stem", network.image, 6, 3, stride=2, padding=1)
    x = network.max_pool("pool", x, 3, 2, 1)
    y = network.conv("depthwise", x, 6, 3, padding=1, groups=6, activation=("clip", 0.0, 6.0))
    y = network.conv("project", y, 6, 1, activation=None)
    x = network.add("sum", x, y, rectified=False)
    y = network.conv("grouped", x, 6, 3, padding=1, groups=2)
    x = network.add("rectified", x, y, rectified=True)
    x = network.flatten("flat", network.mean("mean", x))
    x = network.linear("hidden", x, 7)
    return network.finished(network.linear("classes", x, 5, activation=None))


def _assert_equal(graph, inputs):
    expected, found = runtime_tensors(graph, inputs), graph.golden(inputs)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_layers_equal_the_runtime(rng):
    """A scale or zero point that one layer gives and the next does not take would put a network off that still runs."""
    for _ in range(5):
        _assert_equal(*_small(rng))


def test_outputs_fill_their_range(rng):
    """Scales that lose what was drawn would leave networks of zeros, which any hardware computes right."""
    graph, inputs = _small(rng)
    for name, value in graph.golden(inputs).items():
        if name not in graph.inputs and name not in ("mean", "flat"):
            assert np.ptp(value.astype(int)) > 128, name


#: MACs of one image and weights: the lecture's table, of MobileNetV2 those that follow from its paper's table 2.
_PUBLISHED = {
    "alexnet": (724_406_816, 60_954_656),
    "vgg-16": (15_470_264_320, 138_344_128),
    "resnet-50": (3_857_973_248, 25_502_912),
    "mobilenet-v2": (300_774_272, 3_469_760),
}


def _weights(graph):
    return sum(graph.constants[node.inputs["w"]].size for node in graph.nodes if "w" in node.inputs)


@pytest.mark.parametrize("name", [name if name == "mobilenet-v2" else pytest.param(name, marks=pytest.mark.slow)
                                  for name in _PUBLISHED])
def test_published_shapes(name):
    """A layer that is missing or has another stride would flatter every figure of the network."""
    workload = load_workload(name)
    graph = workload.graph
    assert (sum(graph.macs(node) for node in graph.nodes), _weights(graph)) == _PUBLISHED[name]
    assert graph.tensors[graph.outputs[0]].shape == (1, 1000)


@pytest.mark.slow
@pytest.mark.parametrize("name", IMAGE_NETWORKS)
def test_whole_networks_equal_the_runtime(name, rng):
    """Rounding that differs in one of a network's millions of elements would be lost in its classes."""
    _assert_equal(*IMAGE_NETWORKS[name](rng, 1))


def test_batches(rng):
    """Images behind the first must be drawn and computed, not repeated."""
    graph, inputs = IMAGE_NETWORKS["mobilenet-v2"](rng, 2)
    first, second = inputs["image"]
    assert (first != second).any()
    assert sum(isinstance(node.operator, Conv2d) for node in graph.nodes) == 52
