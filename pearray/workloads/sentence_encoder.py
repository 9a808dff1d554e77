"""Sentences through the quantised MiniLM encoder: one graph of all layers, and how near its embeddings come to float32.

Sentences stand behind one another in the rows of one tensor, without padding: each sees its own tokens. The host looks
up embeddings of tokens, adds and normalises them, and takes the mean of a sentence's outputs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..compiler.graph.graph import Graph, Node, Tensor
from .encoder_quantisation import FloatLayer, QuantisedLayer, quantised_layer
from .minilm import HEADS, LAYERS, Weights, embedded, encoder_layer, tokens
from .stored import Stored, fitted

__all__ = ["Batch", "Encoder", "float_layer", "float_outputs", "quantised_encoder"]

#: Names of the file for those of :meth:`.encoder.EncoderLayer.nodes`.
_NAMES = {"q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value",
          "z": "attention.output.dense", "1": "intermediate.dense", "2": "output.dense"}
_NORMS = {"1": "attention.output.LayerNorm", "2": "output.LayerNorm"}


@dataclass(frozen=True, eq=False)
class Batch:
    """Sentences behind one another.

    Parameters
    ----------
    sentences : tuple of str
        Their text.
    lengths : tuple of int
        Tokens of each, of which the first is [CLS].
    x : (P, D) float32 array
        Embeddings of all tokens.
    """

    sentences: tuple[str, ...]
    lengths: tuple[int, ...]
    x: np.ndarray

    @classmethod
    def of(cls, weights: Weights, sentences: Sequence[str], length: int) -> "Batch":
        """Embed sentences of at most `length` tokens."""
        found = [embedded(weights, tokens(sentence, length)) for sentence in sentences]
        return cls(tuple(sentences), tuple(map(len, found)), np.concatenate(found))

    @property
    def mask(self) -> np.ndarray:
        """Whether each token sees another, (P, P)."""
        owner = np.repeat(np.arange(len(self.lengths)), self.lengths)
        return np.asarray(owner[:, None] == owner)

    @property
    def is_first(self) -> np.ndarray:
        """First tokens, (P,)."""
        found = np.zeros(len(self.x), bool)
        found[np.cumsum((0, *self.lengths[:-1]))] = True
        return found

    def split(self, rows: np.ndarray) -> list[np.ndarray]:
        """Rows of each sentence."""
        return np.split(rows, np.cumsum(self.lengths)[:-1])

    def embeddings(self, y: np.ndarray) -> np.ndarray:
        """Mean of the outputs of each sentence, with a length of 1."""
        means = np.stack([rows.mean(axis=0) for rows in self.split(y)])
        return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True))


def float_layer(weights: Weights, prefix: str, x: np.ndarray, mask: np.ndarray, heads: int) -> FloatLayer:
    """Layer of float32 with what it makes of x (P, D)."""
    def named(kind: str, letter: str, names: Mapping[str, str]) -> dict[str, np.ndarray]:
        return {f"{letter}_{name}": weights[f"{prefix}{part}.{kind}"].astype(np.float64)
                for name, part in names.items()}

    parameters = (named("weight", "w", _NAMES) | named("bias", "b", _NAMES)
                  | named("weight", "gamma", _NORMS) | named("bias", "beta", _NORMS))
    y, products = encoder_layer(weights, prefix, x, heads, mask)
    a, b = ({product.name: operand for product, operand in zip(products, side, strict=True)}
            for side in zip(*((product.a, product.b) for product in products), strict=True))
    seen = {"q": _beside(a["QK"]), "k": _beside(b["QK"].swapaxes(1, 2)), "v": _beside(b["AV"]), "av": a["Z"],
            "z": a["Z"] @ b["Z"] + parameters["b_z"], "h": a["FF1"],
            "before_gelu": a["FF1"] @ b["FF1"] + parameters["b_1"],
            "narrow": a["FF2"] @ b["FF2"] + parameters["b_2"], "y": y}
    seen |= {"sum_1": x + seen["z"], "sum_2": seen["h"] + seen["narrow"]}
    return FloatLayer(parameters, seen, heads)


def _beside(heads: np.ndarray) -> np.ndarray:
    """Heads (H, P, E) side by side."""
    return np.concatenate([*heads], axis=1)


@dataclass(frozen=True, eq=False)
class Encoder:
    """Quantised layers.

    Parameters
    ----------
    x : Stored
        How inputs are stored.
    layers : list of QuantisedLayer
        In order.
    """

    x: Stored
    layers: list[QuantisedLayer]

    def graph(self, batch: Batch) -> Graph:
        """One graph of all layers for sentences of these lengths, from x (P, D) to the outputs of each layer."""
        nodes: list[Node] = []
        mask, given = "mask", "x"
        constants: dict[str, np.ndarray] = {mask: batch.mask}
        outputs = []
        for number, layer in enumerate(self.layers, 1):
            prefix, made = f"{number} ", f"layer {number}"
            nodes += layer.nodes(given, made, prefix, mask)
            constants |= layer.all_constants(prefix, batch.is_first)
            given = made
            outputs.append(made)
        return Graph(nodes, {"x": Tensor("x", batch.x.shape, np.dtype(np.int8))}, constants, ["x"], outputs)


def quantised_encoder(weights: Weights, batch: Batch, layers: int = LAYERS, heads: int = HEADS) -> Encoder:
    """Quantise the first layers of the encoder by what they make of sentences."""
    stored = fitted(batch.x)
    found: list[QuantisedLayer] = []
    x, made, y = batch.x, stored.integers(batch.x), stored
    for number in range(layers):
        real = float_layer(weights, _prefix(number), x, batch.mask, heads)
        layer, made = quantised_layer(real, made, y, batch.mask, batch.is_first)
        found.append(layer)
        x, y = real.seen["y"], layer.y
    return Encoder(stored, found)


def float_outputs(weights: Weights, batch: Batch, layers: int = LAYERS, heads: int = HEADS) -> np.ndarray:
    """Outputs (P, D) of the encoder in float32."""
    x = batch.x
    for number in range(layers):
        x, _ = encoder_layer(weights, _prefix(number), x, heads, batch.mask)
    return x


def _prefix(number: int) -> str:
    """What names of a layer's weights begin with."""
    return f"encoder.layer.{number}."
