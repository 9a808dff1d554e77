"""TensorFlow Lite models on the RTL, element for element with LiteRT's reference kernels."""

from pathlib import Path

import numpy as np
import pytest
from kinds import SMALL as ACCELERATORS

import pearray as pe

pytest.importorskip("ai_edge_litert", reason="LiteRT has no wheel for this platform")
pytest.importorskip("tflite")

from tflite_draw import values
from tflite_draw_moves import FAMILIES, draw
from tflite_draw_words import WORDS, draw_words
from tflite_models import reference
from tflite_networks import NETWORKS

#: Built by other tests as well.
SMALL = pe.load_config(Path(__file__).parents[1] / "cocotb" / "configuration.toml",
                       {"post.row_softmax": 1, "post.float_softmax": 1}).hardware


def check(path, content, inputs, keep=None, on=SMALL):
    """Run a model, and compare each tensor that is kept with LiteRT's."""
    path.write_bytes(content)
    theirs = reference(content, inputs)
    outputs = pe.run(pe.load_tflite(path), inputs, on=on, keep=keep, effort=0).outputs
    assert outputs
    for name in outputs.keys() & theirs.keys():
        np.testing.assert_array_equal(outputs[name], theirs[name], name)


@pytest.mark.parametrize("families", [[*FAMILIES][first::4] for first in range(4)], ids="0123")
def test_operators_equal_litert(families, rng, tmp_path):
    """An operator that the interpreter and the hardware carry out in different ways shows as an element."""
    for family in families:
        # What is only another view of a tensor has nothing to run.
        if family not in ("reshape", "squeeze"):
            check(tmp_path / "model.tflite", *draw(family, rng))


def test_operators_of_words_equal_litert(rng, tmp_path):
    """As above, of activations of 16 bits."""
    for name in WORDS:
        check(tmp_path / "model.tflite", *draw_words(name, rng), on=ACCELERATORS["systolic-16"])


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("keep", [None, pytest.param("all", marks=pytest.mark.slow)])
def test_networks_equal_litert(name, keep, rng, tmp_path):
    """Layers that run one behind the other could meet tensors before these are stored, or after."""
    net = NETWORKS[name](rng)
    tensor = net.tensors[net.input]
    inputs = {tensor.name: values(rng, (2, *tensor.shape[1:]), tensor.dtype)}
    check(tmp_path / "model.tflite", net.file(), inputs, keep)
