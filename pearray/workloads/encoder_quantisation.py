"""Encoder layers of int8 that compute what float layers do: where their numbers lie is learnt from sentences.

What is done to the float layer first changes none of its outputs:

* A number added to an element of all keys adds the same to all scores of a query, which softmax takes away. One added
  to an element of all values is added to the outputs, and so to the biases behind them. So both lie around zero.
* An element of the queries may be multiplied by what the same element of the keys is divided by, so that both fill
  their range; one of the values may be, with the weights that meet it.

Then each tensor has the scale and the zero point with which least of it is lost, rows of sums in proportion to what
LayerNorm makes of them; weights have a scale for each output. Biases of the second product make up for what the mean of
each sum has lost so far.

**The first token.** [CLS] has sums of 222 in one element behind the first layers, a hundred times those of all other
tokens: with a scale that holds them, nothing is left of the others. But up to there it hardly depends on the sentence.
Where its outputs differ less between sentences than rounding changes them, they are constants of the program: the
layer's sums are stored as those of the other tokens want it, and the row of each [CLS] is put in its place behind it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..compiler.graph.graph import Node
from ..compiler.operators import Add, LayerNorm, Linear, Mul, MultiHeadAttention, Requant
from .encoder import EncoderLayer
from .stored import Stored, fitted, gelu_stored, weights

__all__ = ["FloatLayer", "QuantisedLayer", "computed", "quantised_layer"]

#: How much more the first token of a sentence counts than another in the range of outputs: all others look at it.
_FIRST_COUNTS = 4.0


@dataclass(frozen=True, eq=False)
class FloatLayer:
    """A layer of real numbers, and what it has computed.

    Parameters
    ----------
    parameters : mapping of str to ndarray
        Weights, biases, gains, by the names of :meth:`.encoder.EncoderLayer.nodes`.
    seen : mapping of str to ndarray of shape (P, ...)
        Tensors by the names there, the queries, keys and values q, k and v, outputs of attention av, what is before
        GELU, and the outputs y.
    heads : int
        Heads.
    """

    parameters: Mapping[str, np.ndarray]
    seen: Mapping[str, np.ndarray]
    heads: int


@dataclass(frozen=True, eq=False)
class QuantisedLayer:
    """A layer of int8.

    Parameters
    ----------
    layer : EncoderLayer
        Its operators.
    constants : dict of str to ndarray
        Their constants, by the names of :meth:`.encoder.EncoderLayer.nodes`.
    y : Stored
        How outputs are stored.
    first : (D,) int8 array, or None
        What stands in the place of the outputs of first tokens.
    """

    layer: EncoderLayer
    constants: dict[str, np.ndarray]
    y: Stored
    first: np.ndarray | None = None

    def nodes(self, x: str, y: str, prefix: str, mask: str) -> list[Node]:
        """Nodes from the tensor `x` to `y`; see :meth:`.encoder.EncoderLayer.nodes`."""
        if self.first is None:
            return self.layer.nodes(x, y, prefix, mask)
        scale, zero = self.y
        kept = Mul(A_scale=scale, A_zero_point=zero, B_scale=1.0, C_scale=scale, C_zero_point=zero)
        put = Add(A_scale=scale, A_zero_point=zero, B_scale=scale, B_zero_point=zero, C_scale=scale, C_zero_point=zero)
        made, others = f"{prefix}y", f"{prefix}others"
        return [*self.layer.nodes(x, made, prefix, mask),
                Node(f"{prefix}keep", kept, {"a": made, "b": f"{prefix}kept"}, {"y": others}),
                Node(f"{prefix}put", put, {"a": others, "b": f"{prefix}put"}, {"y": y})]

    def all_constants(self, prefix: str, is_first: np.ndarray) -> dict[str, np.ndarray]:
        """Constants of :meth:`nodes` for rows of which some are first tokens."""
        named = {f"{prefix}{name}": value for name, value in self.constants.items()}
        if self.first is None:
            return named
        shape = len(is_first), len(self.first)
        put = np.where(is_first[:, None], self.first, np.int8(self.y.zero)).astype(np.int8)
        return named | {f"{prefix}put": put,
                        f"{prefix}kept": np.broadcast_to(~is_first[:, None], shape).astype(np.int8)}


def computed(nodes: Sequence[Node], tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """All tensors when nodes have computed theirs, in order, from NumPy alone."""
    made = dict(tensors)
    for node in nodes:
        found = node.operator.golden({role: made[name] for role, name in node.inputs.items()})
        made |= {name: found[role] for role, name in node.outputs.items()}
    return made


def quantised_layer(real: FloatLayer, x: np.ndarray, stored: Stored, mask: np.ndarray,
                    is_first: np.ndarray) -> tuple[QuantisedLayer, np.ndarray]:
    """Quantise a layer.

    Parameters
    ----------
    real : FloatLayer
        The layer.
    x : (P, D) int8 array
        What the quantised layers before have made of the inputs of `real`.
    stored : Stored
        How `x` is stored.
    mask : (P, P) array of bool
        Keys that each query sees.
    is_first : (P,) array of bool
        First tokens.

    Returns
    -------
    QuantisedLayer
        The layer.
    (P, D) int8 array
        Its outputs for `x`.
    """
    real = _level(real)
    seen = real.seen
    counts = np.where(is_first, _FIRST_COUNTS, 1.0)
    y = fitted(seen["y"], importance=counts)
    is_fixed = bool(seen["y"][is_first].std(axis=0).mean() < y.scale / 12 ** 0.5)
    used = ~is_first if is_fixed else np.ones(len(x), bool)
    ranges = {"x": stored, "y": y, "wide": gelu_stored(seen["before_gelu"][used])}
    ranges |= {name: fitted(seen[name], symmetric=True) for name in ("q", "k", "v", "av")}
    ranges |= {name: fitted(seen[name][used]) for name in ("z", "h")}
    for name in ("sum_1", "sum_2", "narrow"):
        sums = seen["sum_2" if name == "narrow" else name][used]
        ranges[name] = fitted(seen[name][used], importance=1 / sums.var(axis=1))
    constants, requants = _products(real.parameters, ranges)
    layer = _operators(real.heads, ranges, requants)
    nodes = layer.nodes("x", "y", mask="mask")
    made = computed(nodes[:4], {**constants, "x": x, "mask": mask})
    scale = ranges["wide"].scale * requants["2"][1].astype(np.float64)
    sums = (made["wide"].astype(np.float64) - ranges["wide"].zero) @ constants["w_2"].T + constants["b_2"]
    lost = (seen["sum_2"] - ranges["h"].real(made["h"]) - sums * scale)[used].mean(axis=0)
    constants["b_2"] = np.rint(constants["b_2"] + lost / scale).astype(np.int32)
    found = QuantisedLayer(layer, constants, y, y.integers(seen["y"][is_first].mean(axis=0)) if is_fixed else None)
    outputs = computed(nodes[4:], {**made, "b_2": constants["b_2"]})["y"]
    return found, outputs if found.first is None else np.where(is_first[:, None], found.first, outputs)


def _level(real: FloatLayer) -> FloatLayer:
    """The same layer with keys and values around zero, and queries, keys and values that fill their ranges."""
    given, seen = dict(real.parameters), dict(real.seen)

    def middle(name: str) -> np.ndarray:
        return np.asarray((seen[name].max(axis=0) + seen[name].min(axis=0)) / 2)

    def greatest(name: str) -> np.ndarray:
        return np.maximum(np.abs(seen[name]).max(axis=0), 1e-6)

    def scaled(name: str, factor: np.ndarray) -> None:
        given[f"w_{name}"] = given[f"w_{name}"] * factor[:, None]
        given[f"b_{name}"] = given[f"b_{name}"] * factor
        seen[name] = seen[name] * factor

    middles = {name: middle(name) for name in "kv"}
    for name, value in middles.items():
        given[f"b_{name}"], seen[name] = given[f"b_{name}"] - value, seen[name] - value
    seen["av"] = seen["av"] - middles["v"]
    given["b_z"] = given["b_z"] + given["w_z"] @ middles["v"]
    factor = np.sqrt(greatest("k") / greatest("q"))
    scaled("q", factor)
    scaled("k", 1 / factor)
    factor = greatest("v")
    scaled("v", 1 / factor)
    seen["av"], given["w_z"] = seen["av"] / factor, given["w_z"] * factor
    return FloatLayer(given, seen, real.heads)


#: Tensors that each product reads and makes.
_PRODUCTS = {"q": ("x", "q"), "k": ("x", "k"), "v": ("x", "v"), "z": ("av", "z"), "1": ("h", "wide"),
             "2": ("wide", "narrow")}


def _products(parameters: Mapping[str, np.ndarray], ranges: Mapping[str, Stored]
              ) -> tuple[dict[str, np.ndarray], dict[str, tuple[Requant, np.ndarray]]]:
    """Constants of a layer, and the requantisation and the scales of the weights of each product."""
    constants = {name: value.astype(np.float32) for name, value in parameters.items() if name[:2] in ("ga", "be")}
    requants = {}
    for name, (given, made) in _PRODUCTS.items():
        x, y = ranges[given], ranges[made]
        constants[f"w_{name}"], scales = weights(parameters[f"w_{name}"])
        constants[f"b_{name}"] = np.rint(parameters[f"b_{name}"] / (x.scale * scales.astype(np.float64))
                                         ).astype(np.int32)
        requants[name] = Requant.onnx(x.scale, x.zero, scales, 0, y.scale, y.zero), scales
    return constants, requants


def _operators(heads: int, ranges: Mapping[str, Stored],
               requants: Mapping[str, tuple[Requant, np.ndarray]]) -> EncoderLayer:
    def add(*names: str) -> Add:
        fields: dict[str, Any] = {}
        for letter, name in zip("ABC", names, strict=True):
            fields |= {f"{letter}_scale": ranges[name].scale, f"{letter}_zero_point": ranges[name].zero}
        return Add(**fields)

    def norm(x: str, y: str) -> LayerNorm:
        return LayerNorm(x_scale=ranges[x].scale, y_scale=ranges[y].scale, y_zero_point=ranges[y].zero, epsilon=1e-12)

    projections: dict[str, Any] = {f"requant_{name}": requants[name][0] for name in "qkvz"}
    attention = MultiHeadAttention(heads=heads, av_scale=ranges["av"].scale, **projections)
    return EncoderLayer(
        attention=attention, add_1=add("x", "z", "sum_1"), norm_1=norm("sum_1", "h"),
        linear_1=Linear(requant=requants["1"][0], activation="gelu"), linear_2=Linear(requant=requants["2"][0]),
        add_2=add("h", "narrow", "sum_2"), norm_2=norm("sum_2", "y"))
