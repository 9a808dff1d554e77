"""Multi-head attention with its projections, and a whole encoder layer around it, with seeded weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..compiler.graph.graph import Graph, Node, Tensor
from ..compiler.operators import Add, LayerNorm, Linear, MultiHeadAttention, Requant
from .draws import STEPS_PER_DEVIATION, UNIT, drawn

__all__ = ["EncoderLayer", "attention_deviation", "encoder_layer", "multi_head_attention"]

#: A step of tensors with a deviation of 1.
STEP = 1 / STEPS_PER_DEVIATION

#: Root of the mean square of GELU's outputs for normal inputs with a deviation of 1.
GELU_DEVIATION = 0.652


def attention_deviation(keys: int) -> float:
    """Deviation of what attention makes of so many values with a deviation of 1: of few keys one counts most."""
    return min(1.0, np.e / keys) ** 0.5


def _weights(rng: np.random.Generator, outputs: int, inputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights over the full range, then biases of a few steps."""
    return drawn(rng, (outputs, inputs)), drawn(rng, (outputs,)).astype(np.int32)


def multi_head_attention(rng: np.random.Generator, sizes: tuple[int, int, int], groups: int,
                         options: Mapping[str, Any]) -> tuple[MultiHeadAttention, dict[str, np.ndarray]]:
    """Draw x (P, D), w_q, b_q, and so on to w_z, b_z, in this order, and give the operator that fits them.

    x has a deviation of 1, and so have its projections; outputs have that of :func:`attention_deviation`.

    Parameters
    ----------
    rng : numpy.random.Generator
        What the tensors are drawn from.
    sizes : (int, int, int)
        P, D, and the heads, which divide D.
    groups : int
        Heads of keys and values.
    options : mapping of str to Any
        Further parameters of the operator.
    """
    p, d, heads = sizes
    tensors = {"x": drawn(rng, (p, d))}
    for role, outputs in (("q", d), ("k", d // heads * groups), ("v", d // heads * groups), ("z", d)):
        tensors[f"w_{role}"], tensors[f"b_{role}"] = _weights(rng, outputs, d)
    weight, made = UNIT / d ** 0.5, attention_deviation(p) * STEP
    requants: dict[str, Any] = {f"requant_{role}": Requant.onnx(UNIT, 0, weight, 0, STEP, 0) for role in "qkv"}
    return MultiHeadAttention(heads=heads, kv_heads=groups, **requants, av_scale=made,
                              requant_z=Requant.onnx(made, 0, weight, 0, made, 0), **options), tensors


@dataclass(frozen=True, eq=False, kw_only=True)
class EncoderLayer:
    """Operators of an encoder layer that normalises behind its sums, as BERT's.

    ``h = norm_1(x + attention(x))``, ``y = norm_2(h + linear_2(linear_1(h)))``.
    """

    attention: MultiHeadAttention
    add_1: Add
    norm_1: LayerNorm
    linear_1: Linear
    linear_2: Linear
    add_2: Add
    norm_2: LayerNorm

    def nodes(self, x: str, y: str, prefix: str = "", mask: str | None = None) -> list[Node]:
        """Nodes from the tensor `x` to `y`; names of all others begin with `prefix`, that of `mask` is as it is.

        Weights and biases are w_q, b_q, and so on to w_z, b_z, then w_1, b_1, w_2, b_2; those of the norms are gamma_1,
        beta_1, gamma_2, beta_2.
        """
        named = {role: f"{prefix}{role}" for role in self.attention.constants if role != "mask"}
        if mask is not None:
            named["mask"] = mask
        made = {name: f"{prefix}{name}" for name in ("z", "sum_1", "h", "wide", "narrow", "sum_2")}

        def linear(number: int, given: str, output: str) -> Node:
            return Node(f"{prefix}linear_{number}", getattr(self, f"linear_{number}"),
                        {"x": made[given], "w": f"{prefix}w_{number}", "b": f"{prefix}b_{number}"},
                        {"y": made[output]})

        def add(number: int, a: str, b: str) -> Node:
            return Node(f"{prefix}add_{number}", getattr(self, f"add_{number}"), {"a": a, "b": made[b]},
                        {"y": made[f"sum_{number}"]})

        def norm(number: int, output: str) -> Node:
            return Node(f"{prefix}norm_{number}", getattr(self, f"norm_{number}"),
                        {"x": made[f"sum_{number}"], "gamma": f"{prefix}gamma_{number}",
                         "beta": f"{prefix}beta_{number}"}, {"y": output})

        return [Node(f"{prefix}attention", self.attention, {"x": x, **named}, {"y": made["z"]}),
                add(1, x, "z"), norm(1, made["h"]), linear(1, "h", "wide"), linear(2, "wide", "narrow"),
                add(2, made["h"], "narrow"), norm(2, y)]


def encoder_layer(rng: np.random.Generator, sizes: tuple[int, int, int, int], groups: int,
                  options: Mapping[str, Any]) -> tuple[Graph, dict[str, np.ndarray]]:
    """Draw an encoder layer that normalises behind its sums, as BERT's: its graph, and its input x (P, D).

    ``h = LayerNorm(x + MultiHeadAttention(x))``, ``y = LayerNorm(h + W2 gelu(W1 h))``. Tensors are drawn in the order
    of :func:`multi_head_attention`, then gains and biases of the first LayerNorm, w_1, b_1, w_2, b_2, and gains and
    biases of the second. The scale of each tensor is that of its deviation.

    Parameters
    ----------
    rng : numpy.random.Generator
        What the tensors are drawn from.
    sizes : (int, int, int, int)
        P, D, the heads, and the width between the last two products.
    groups : int
        Heads of keys and values.
    options : mapping of str to Any
        Further parameters of the attention.
    """
    p, d, heads, wide = sizes
    attention, tensors = multi_head_attention(rng, (p, d, heads), groups, options)
    x = tensors.pop("x")
    tensors["gamma_1"], tensors["beta_1"] = _gains(rng, d)
    tensors["w_1"], tensors["b_1"] = _weights(rng, wide, d)
    tensors["w_2"], tensors["b_2"] = _weights(rng, d, wide)
    tensors["gamma_2"], tensors["beta_2"] = _gains(rng, d)
    made = attention_deviation(p)
    sum_1, sum_2 = STEP * (1 + made ** 2) ** 0.5, STEP * 2 ** 0.5
    first = Linear(requant=Requant.onnx(STEP, 0, UNIT / d ** 0.5, 0, STEP, 0), activation="gelu")
    second = Linear(requant=Requant.onnx(STEP, 0, UNIT / (wide ** 0.5 * GELU_DEVIATION), 0, STEP, 0))
    layer = EncoderLayer(
        attention=attention, add_1=Add(A_scale=UNIT, B_scale=made * STEP, C_scale=sum_1),
        norm_1=LayerNorm(x_scale=sum_1, y_scale=STEP), linear_1=first, linear_2=second,
        add_2=Add(A_scale=STEP, B_scale=STEP, C_scale=sum_2), norm_2=LayerNorm(x_scale=sum_2, y_scale=STEP))
    nodes = layer.nodes("x", "y")
    return Graph(nodes, {"x": Tensor("x", x.shape, x.dtype)}, tensors, ["x"], ["y"]), {"x": x}


def _gains(rng: np.random.Generator, elements: int) -> tuple[np.ndarray, np.ndarray]:
    """Gains about 1, then biases about 0."""
    return rng.normal(1, 0.1, elements).astype(np.float32), rng.normal(0, 0.1, elements).astype(np.float32)
