"""TensorFlow Lite's operators and networks, tensor by tensor: against LiteRT's reference kernels, and as programs."""

from pathlib import Path

import numpy as np
import pytest
from kinds import SMALL as ACCELERATORS
from random_workloads import interpret

import pearray as pe

pytest.importorskip("ai_edge_litert", reason="LiteRT has no wheel for this platform")
pytest.importorskip("tflite")

from tflite_draw import values
from tflite_draw_moves import FAMILIES, draw
from tflite_draw_words import WORDS, draw_words
from tflite_models import Tflite, reference
from tflite_networks import NETWORKS

#: Of 6 x 4 PEs with two lanes and softmax of rows, which other tests build as well.
SMALL = pe.load_config(Path(__file__).parents[2] / "cocotb" / "configuration.toml",
                       {"post.row_softmax": 1, "post.float_softmax": 1}).hardware


def load(folder, content):
    """Read a model from its bytes."""
    path = folder / "model.tflite"
    path.write_bytes(content)
    return pe.load_tflite(path)


def check(model, content, inputs):
    """Compare every tensor of the file that the network makes with LiteRT's; return the graph, and how many."""
    graph, theirs = model.graph_for(inputs), reference(content, inputs)
    ours = pe.golden_run(model, inputs, keep="all")
    found = ours.keys() & theirs.keys()
    assert {*graph.outputs} <= found
    for name in found:
        assert (ours[name].shape, ours[name].dtype) == (theirs[name].shape, theirs[name].dtype), name
        np.testing.assert_array_equal(ours[name], theirs[name], name)
    return graph, len(found)


@pytest.mark.parametrize("family", FAMILIES)
def test_operator_equals_litert(family, rng, tmp_path):
    """An option, type, scale or rounding of one operator that differs shows as an element, golden or compiled."""
    for number in range(8):
        content, inputs = draw(family, rng)
        graph, _ = check(load(tmp_path, content), content, inputs)
        if number < 2:
            interpret(graph, inputs, SMALL, "all", effort=0)


@pytest.mark.parametrize("name", WORDS)
def test_operator_of_words_equals_litert(name, rng, tmp_path):
    """Activations of 16 bits would be rounded by the rule of bytes, or biases of 64 bits be cut."""
    for number in range(6):
        content, inputs = draw_words(name, rng)
        graph, _ = check(load(tmp_path, content), content, inputs)
        if number < 2:
            interpret(graph, inputs, ACCELERATORS["systolic-16"], "all", effort=0)


@pytest.mark.parametrize("name", NETWORKS)
def test_network_equals_litert(name, rng, tmp_path):
    """Layers that fit alone could disagree about who has which order, and a batch of three about where images end."""
    net = NETWORKS[name](rng)
    content, tensor = net.file(), net.tensors[net.input]
    model = load(tmp_path, content)
    for batch in (1, 3):
        inputs = {tensor.name: values(rng, (batch, *tensor.shape[1:]), tensor.dtype)}
        graph, found = check(model, content, inputs)
        # A PAD that a convolution takes over is not made, nor are shapes.
        assert found == len([node for node in net.nodes if node[0] not in ("PAD", "SHAPE", "STRIDED_SLICE", "PACK")])
        interpret(graph, inputs, SMALL, effort=0)


@pytest.mark.parametrize("axis", [0, -1])
def test_words_are_looked_up_by_the_host(axis, rng, tmp_path):
    """A network of words would begin with a table that only a host between programs can read."""
    model = Tflite()
    words = model.tensor((2, 3), dtype="int32", name="words")
    table = model.constant(values(rng, (9, 9)), 0.1, 3)
    shape = (2, 3, 9) if axis == 0 else (9, 2, 3)
    found = model.tensor(shape, 0.1, 3)
    model.node("GATHER", [table, words], [found], "GatherOptions", axis=axis)
    y = model.node("RELU", [found], [model.tensor(shape, 0.07, -128)])
    content, inputs = model.content([words], [y]), {"words": rng.integers(0, 9, (2, 3)).astype(np.int32)}
    graph, _ = check(load(tmp_path, content), content, inputs)
    interpret(graph, inputs, SMALL, effort=0)
    with pytest.raises(pe.PearrayError, match=r"indices must be in -9\.\.8, not 0\.\.9"):
        graph.golden({"words": np.array([[0, 9, 1]] * 2, np.int32)})


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_operator_equals_litert_often(family, rng, tmp_path):
    """As above, over so many draws that options meet each other."""
    for _ in range(300):
        content, inputs = draw(family, rng)
        check(load(tmp_path, content), content, inputs)


@pytest.mark.slow
@pytest.mark.parametrize("name", WORDS)
def test_operator_of_words_equals_litert_often(name, rng, tmp_path):
    """As above, of 16 bits."""
    for _ in range(300):
        content, inputs = draw_words(name, rng)
        check(load(tmp_path, content), content, inputs)
