"""The decoder block against the same weights in transformers' Llama, in floats."""

import warnings

import numpy as np
import pytest

from pearray.workloads.decoder import BASE, EPSILON, DecoderShape, calibrated, decoder_block, drawn_weights, float_block

torch = pytest.importorskip("torch", reason="PyTorch is in the extra torch")
with warnings.catch_warnings():
    # What other packages deprecate of one another is no fault of the block.
    warnings.simplefilter("ignore")
    llama = pytest.importorskip("transformers.models.llama.modeling_llama", reason="transformers is in the extra torch")
    from transformers import LlamaConfig

NAMES = {"q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "z": "self_attn.o_proj",
         "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj"}


def theirs(x, weights, shape):
    """What transformers makes of tokens x (P, D)."""
    config = LlamaConfig(
        hidden_size=shape.width, intermediate_size=shape.wide, num_attention_heads=shape.heads,
        num_key_value_heads=shape.groups, num_hidden_layers=1, rms_norm_eps=EPSILON, rope_theta=BASE,
        max_position_embeddings=shape.context, attn_implementation="eager")
    layer = llama.LlamaDecoderLayer(config, 0).eval()
    tensors = {f"{name}.weight": weights[f"w_{key}"] for key, name in NAMES.items()}
    tensors |= {"input_layernorm.weight": weights["gamma_1"], "post_attention_layernorm.weight": weights["gamma_2"]}
    layer.load_state_dict({name: torch.tensor(value) for name, value in tensors.items()})
    rows, places = torch.tensor(x)[None], torch.arange(len(x))[None]
    mask = torch.full((len(x), len(x)), -torch.inf).triu(1)[None, None]
    with torch.no_grad():
        y = layer(rows, attention_mask=mask, position_ids=places,
                  position_embeddings=llama.LlamaRotaryEmbedding(config)(rows, places))
    return y[0].numpy()


@pytest.mark.parametrize("sizes", [(64, 4, 2, 176), (64, 4, 4, 100), (96, 6, 1, 128)])
def test_block_is_llama(sizes, rng):
    """A projection, an angle, a head or a residual that differs is no Llama; of bytes a cosine tells how near it is."""
    shape = DecoderShape(*sizes, 32)
    weights, x = drawn_weights(rng, shape), rng.normal(size=(32, shape.width)).astype(np.float32)
    real = theirs(x, weights, shape)
    np.testing.assert_allclose(float_block(x, weights, shape)["y"], real, atol=1e-5)
    scales = calibrated(x, weights, shape)
    inputs = {"x": np.rint(x / scales.tensors["x"]).astype(np.int8)}
    graph = decoder_block(weights, shape, scales, 32, False)
    inputs |= {name: np.zeros(graph.tensors[name].shape, np.int8) for name in graph.states}
    made = graph.golden(inputs)["y"] * scales.tensors["y"]
    assert (made * real).sum() / np.linalg.norm(made) / np.linalg.norm(real) > 0.9995
    # The block without what it adds to its tokens.
    made, real = made - x, real - x
    assert (made * real).sum() / np.linalg.norm(made) / np.linalg.norm(real) > 0.998
