"""The quantised encoder of several layers: near the float one, one program, and sentences apart."""

import numpy as np
import pytest
from drawn_encoder import HEADS, HUGE, LAYERS, drawn_batch, drawn_weights
from random_workloads import interpret

import pearray as pe
from pearray.workloads.sentence_encoder import float_outputs, quantised_encoder


@pytest.fixture(scope="module")
def network():
    """Weights, the encoder, and sentences that it has not been calibrated on."""
    rng = np.random.default_rng(11)
    weights = drawn_weights(rng)
    seen = drawn_batch(rng, weights, [int(length) for length in rng.integers(6, 15, 24)])
    return weights, quantised_encoder(weights, seen, LAYERS, HEADS), drawn_batch(rng, weights, [9, 2, 14, 7])


def _embeddings(encoder, batch):
    made = encoder.graph(batch).golden({"x": encoder.x.integers(batch.x)})
    return batch.embeddings(encoder.layers[-1].y.real(made[f"layer {len(encoder.layers)}"]))


def test_float_network_is_that_of_onnxruntime(network):
    """Cosines would be with another network: each sentence alone gives what ours gives among others."""
    pytest.importorskip("onnxruntime")
    from float_encoder import run_encoder

    weights, _, batch = network
    for ours, x in zip(batch.split(float_outputs(weights, batch, LAYERS, HEADS)), batch.split(batch.x), strict=True):
        np.testing.assert_allclose(ours, run_encoder(weights, LAYERS, HEADS, x), rtol=0, atol=2e-5)


def test_embeddings_are_near_those_of_floats(network):
    """A scale, a zero point, a fold or a mask that is wrong turns embeddings elsewhere."""
    weights, encoder, batch = network
    wanted = batch.embeddings(float_outputs(weights, batch, LAYERS, HEADS))
    assert np.sum(_embeddings(encoder, batch) * wanted, axis=1).min() > 0.99


def test_first_tokens_that_are_alike_become_constants(network):
    """Their huge sums would take the steps of all others, and those of later layers are no constants."""
    weights, encoder, batch = network
    assert [layer.first is not None for layer in encoder.layers] == [True, False]
    real = float_outputs(weights, batch, 1, HEADS)
    first = encoder.layers[0]
    sums = first.layer.add_2
    assert 127 * sums.C_scale < 30, "the scale of the sums holds the huge ones"
    assert np.abs(first.y.real(first.first) - real[batch.is_first]).max() < 3 * first.y.scale
    assert np.abs(first.y.real(first.first))[HUGE] > 3
    made = encoder.graph(batch).golden({"x": encoder.x.integers(batch.x)})["layer 1"]
    np.testing.assert_array_equal(made[batch.is_first], np.tile(first.first, (4, 1)))
    assert np.abs(first.y.real(made) - real)[~batch.is_first].mean() < 1.5 * first.y.scale


def test_sentences_do_not_see_one_another(network):
    """A sentence alone has the embedding that it has among others; no mask of one would show in another."""
    _, encoder, batch = network
    among = encoder.graph(batch).golden({"x": encoder.x.integers(batch.x)})["layer 2"]
    for length, x, expected in zip(batch.lengths, batch.split(batch.x), batch.split(among), strict=True):
        alone = type(batch)(("",), (length,), x)
        found = encoder.graph(alone).golden({"x": encoder.x.integers(x)})["layer 2"]
        # Blocks of keys begin elsewhere, so numerators are rounded otherwise.
        assert np.abs(found.astype(int) - expected).max() <= 12
        assert np.abs(found.astype(int) - expected).mean() < 1.5


def test_all_layers_are_one_program(network):
    """The interpreter gives golden's bytes for every output of a layer, on the accelerator that the workload is for."""
    _, encoder, batch = network
    config = pe.load_config("systolic-16x16").hardware
    compiled = interpret(encoder.graph(batch), {"x": encoder.x.integers(batch.x)}, config, keep="outputs")
    assert [*compiled.outputs] == ["layer 1", "layer 2"]
    assert [layer.kind for layer in compiled.layers].count("Attention") == LAYERS
