"""A decoder block as LLaMA has it, with seeded weights: several tokens at once, or one after another.

Touvron et al. 2023: ``h = x + W_z attention(rotary(W_q n), rotary(W_k n), W_v n)`` with ``n = RMSNorm(x)``, and
``y = h + W_down (silu(W_gate m) * W_up m)`` with ``m = RMSNorm(h)``. Keys and values of tokens before are kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..compiler.graph.graph import Graph, Node, Tensor
from ..compiler.kernels.attention import MOST_MOVING
from ..compiler.operators import (
    Add,
    Append,
    Attention,
    Linear,
    Mul,
    Requant,
    Reshape,
    RMSNorm,
    RotaryEmbedding,
    Transpose,
)
from ..compiler.operators.fields import check_size
from ..compiler.operators.operator import Operator
from ..golden.activation import function_of
from ..golden.rotary import rotary_tables, rotated
from ..hdl.errors import PearrayError
from .draws import STEPS_PER_DEVIATION
from .made import Following
from .settings import Settings
from .stored import weights as stored_weights

__all__ = ["DecoderShape", "Scales", "calibrated", "decoder_block", "drawn_weights", "float_block",
           "llama_block"]

#: What is added to the mean of squares in RMSNorm, and the base of the angles of positions.
EPSILON, BASE = 1e-5, 10000.0

#: Greatest byte of a tensor without a zero point.
_GREATEST = 127

#: Tokens at least by which scales are found.
_SEEN = 32


@dataclass(frozen=True)
class DecoderShape:
    """Sizes of a block.

    Parameters
    ----------
    width, heads, groups, wide : int
        Elements of a token; heads of queries, and of keys and values; elements between the last products.
    context : int
        Tokens of which keys and values can be kept.
    """

    width: int
    heads: int
    groups: int
    wide: int
    context: int

    def __post_init__(self) -> None:
        if self.width % (2 * self.heads):
            raise PearrayError(f"workload.width must be a multiple of twice {self.heads} heads, not {self.width}")
        if self.heads % self.groups:
            raise PearrayError(f"workload.kv_heads must divide heads = {self.heads}, not be {self.groups}")
        for name, size in self.matrices.items():
            check_size(f"w_{name} of workload.width and wide", size)
        check_size("keys of workload.context, kv_heads and width", (self.groups, self.context, self.elements))
        # Of each position a matrix that turns elements of a head is kept.
        check_size("tables of workload.context, width and heads", (self.context, self.elements, self.elements))

    @property
    def elements(self) -> int:
        """Elements of a head."""
        return self.width // self.heads

    @property
    def matrices(self) -> dict[str, tuple[int, int]]:
        """Outputs and inputs of each product with weights, in their order."""
        inner = self.groups * self.elements
        return {"q": (self.width, self.width), "k": (inner, self.width), "v": (inner, self.width),
                "z": (self.width, self.width), "gate": (self.wide, self.width), "up": (self.wide, self.width),
                "down": (self.width, self.wide)}


def drawn_weights(rng: np.random.Generator, shape: DecoderShape) -> dict[str, np.ndarray]:
    """Draw float32 weights: normal matrices that keep the deviation of what they meet, and gains about 1.

    Names are ``w_`` and those of :attr:`DecoderShape.matrices`, in this order, then ``gamma_1`` and ``gamma_2``.
    """
    weights = {f"w_{name}": rng.normal(0, size[1] ** -0.5, size).astype(np.float32)
               for name, size in shape.matrices.items()}
    return weights | {name: rng.normal(1, 0.1, shape.width).astype(np.float32) for name in ("gamma_1", "gamma_2")}


def float_block(x: np.ndarray, weights: Mapping[str, np.ndarray], shape: DecoderShape) -> dict[str, np.ndarray]:
    """Compute a block of tokens x (P, D) from position 0 on, in float32: every tensor, by the names of its graph."""
    def norm(rows: np.ndarray, gamma: np.ndarray) -> np.ndarray:
        return rows / np.sqrt((rows ** 2).mean(axis=-1, keepdims=True) + np.float32(EPSILON)) * gamma

    def heads(rows: np.ndarray) -> np.ndarray:
        return rows.reshape(len(rows), -1, shape.elements).swapaxes(0, 1)

    made = {"n": norm(x, weights["gamma_1"])}
    made |= {name: made["n"] @ weights[f"w_{name}"].T for name in "qkv"}
    tables = rotary_tables(len(x), shape.elements, BASE)
    q, k = (rotated(heads(made[name]), *tables) for name in "qk")
    made["turned_q"], made["turned_k"] = q, k
    k, v = (np.repeat(each, shape.heads // shape.groups, axis=0) for each in (k, heads(made["v"])))
    scores = q @ k.swapaxes(1, 2) / np.float32(shape.elements) ** np.float32(0.5)
    scores = np.where(np.tri(len(x), dtype=bool), scores, -np.inf)
    numerators = np.exp(scores - scores.max(axis=-1, keepdims=True))
    made["a"] = (numerators / numerators.sum(axis=-1, keepdims=True) @ v).swapaxes(0, 1).reshape(len(x), -1)
    made["z"] = made["a"] @ weights["w_z"].T
    made["h"] = x + made["z"]
    made["m"] = norm(made["h"], weights["gamma_2"])
    made["before"] = made["m"] @ weights["w_gate"].T
    made["gate"], made["up"] = function_of("silu")(made["before"]), made["m"] @ weights["w_up"].T
    made["met"] = made["gate"] * made["up"]
    made["down"] = made["met"] @ weights["w_down"].T
    made["y"] = made["h"] + made["down"]
    return made


@dataclass(frozen=True)
class Scales:
    """Scales of a block: of each tensor by name, and of each matrix."""

    tensors: Mapping[str, float]
    matrices: Mapping[str, np.ndarray]


def _scale(values: np.ndarray) -> float:
    return float(np.abs(values).max()) / _GREATEST


def calibrated(x: np.ndarray, weights: Mapping[str, np.ndarray], shape: DecoderShape) -> Scales:
    """Scales that hold all of what some tokens make of a block; a matrix has one for each output."""
    made = float_block(x, weights, shape)
    # SiLU by a table has one scale in and out, and loses little of what is far below zero.
    made["gate"] = np.maximum(made["before"], made["gate"])
    tensors = {"x": _scale(x)} | {name: _scale(values) for name, values in made.items()}
    return Scales(tensors, {name: stored_weights(weights[f"w_{name}"])[1] for name in shape.matrices})


def decoder_block(weights: Mapping[str, np.ndarray], shape: DecoderShape, scales: Scales, tokens: int,
                  moves: bool) -> Graph:
    """Graph of a block for so many tokens x (P, D) at a time, which gives y (P, D), and keys and values of all so far.

    Parameters
    ----------
    weights : mapping of str to ndarray
        Float weights, as of :func:`drawn_weights`.
    shape : DecoderShape
        Sizes.
    scales : Scales
        Scales of all tensors.
    tokens : int
        Tokens of a run, P.
    moves : bool
        Whether each run tells the position of its first token; it is 0 otherwise.
    """
    builder = _Builder(shape, scales, tokens, moves)
    constants = {name: stored_weights(weights[name])[0] for name in (f"w_{matrix}" for matrix in shape.matrices)}
    constants |= {name: np.asarray(weights[name], np.float32) for name in ("gamma_1", "gamma_2")}
    constants |= dict(zip(("cos", "sin"), rotary_tables(shape.context, shape.elements, BASE), strict=True))
    cache = (shape.groups, shape.context, shape.elements)
    inputs = {"x": Tensor("x", (tokens, shape.width), np.dtype(np.int8))}
    inputs |= {name: Tensor(name, cache, np.dtype(np.int8)) for name in ("past_k", "past_v")}
    if moves:
        inputs["position"] = Tensor("position", (), np.dtype(np.int64))
    return Graph(builder.nodes(), inputs, constants, list(inputs), ["y", "present_k", "present_v"])


def llama_block(rng: np.random.Generator, settings: Settings) -> tuple[tuple[Graph, dict[str, np.ndarray]],
                                                                       Following | None]:
    """Draw a block and tokens of a deviation of 1: graph and inputs of a prompt, and of each token behind it.

    Weights are drawn first (:func:`drawn_weights`), then tokens, and if they are few, others up to 32: by all of them
    scales are found. Keys and then values of tokens before the first are drawn last, with a deviation of 40 steps.

    Parameters
    ----------
    rng : numpy.random.Generator
        What they are drawn from.
    settings : Settings
        ``tokens`` in all, and those of the ``prompt``, half of them unless it says so; how many came before, ``start``;
        those for which there is room, ``context``; ``width``, ``heads``, ``kv_heads`` and ``wide`` of the block.
    """
    tokens = settings.integer("tokens", 32, 1, 4096)
    prompt = settings.integer("prompt", -(-tokens // 2), 1, tokens)
    start, heads = settings.integer("start", 0, 0, 1 << 14), settings.integer("heads", 4)
    context = settings.integer("context", start + tokens, start + tokens, MOST_MOVING)
    shape = DecoderShape(settings.integer("width", 16 * heads), heads, settings.integer("kv_heads", -(-heads // 2)),
                         settings.integer("wide", 176), context)
    settings.finish()
    weights = drawn_weights(rng, shape)
    x = rng.normal(size=(max(tokens, _SEEN), shape.width)).astype(np.float32)
    scales = calibrated(x, weights, shape)
    stored = _stored(x / scales.tensors["x"])
    first = decoder_block(weights, shape, scales, prompt, start > 0)
    inputs = {"x": stored[:prompt]} | ({"position": np.array(start)} if start else {})
    for name in first.states:
        inputs[name] = np.zeros(first.tensors[name].shape, np.int8)
        inputs[name][:, :start] = _stored(rng.normal(0, STEPS_PER_DEVIATION, (shape.groups, start, shape.elements)))
    if prompt == tokens:
        return (first, inputs), None
    runs = [{"x": stored[place:place + 1], "position": np.array(start + place)} for place in range(prompt, tokens)]
    return (first, inputs), Following("step", decoder_block(weights, shape, scales, 1, True), runs)


def _stored(steps: np.ndarray) -> np.ndarray:
    """Bytes of real numbers of steps."""
    return np.clip(np.rint(steps), -_GREATEST, _GREATEST).astype(np.int8)


class _Builder:
    """Nodes of a block."""

    def __init__(self, shape: DecoderShape, scales: Scales, tokens: int, moves: bool):
        self._shape, self._scales, self._tokens = shape, scales.tensors, tokens
        self._matrices = scales.matrices
        self._position = {"position": "position"} if moves else {}
        self._nodes: list[Node] = []

    def _add(self, operator: Operator, made: str, role: str = "y", **inputs: str) -> None:
        self._nodes.append(Node(made, operator, inputs, {role: made}))

    def _linear(self, made: str, x: str, scale: str = "", activation: str | None = None) -> None:
        requant = Requant.onnx(self._scales[x], 0, self._matrices[made], 0, self._scales[scale or made], 0)
        self._add(Linear(requant=requant, activation=activation), made, x=x, w=f"w_{made}")

    def _norm(self, made: str, x: str, gamma: str) -> None:
        self._add(RMSNorm(x_scale=self._scales[x], y_scale=self._scales[made], epsilon=EPSILON), made, x=x, gamma=gamma)

    def _sum(self, made: str, a: str, b: str) -> None:
        self._add(Add(A_scale=self._scales[a], B_scale=self._scales[b], C_scale=self._scales[made]), made, a=a, b=b)

    def _heads(self, name: str, heads: int) -> str:
        """Heads (H, P, E) of rows (P, H E)."""
        self._add(Reshape((self._tokens, heads, self._shape.elements)), f"split_{name}", x=name)
        self._add(Transpose((1, 0, 2)), f"heads_{name}", x=f"split_{name}")
        return f"heads_{name}"

    def _turned(self, name: str, heads: int) -> str:
        turn = RotaryEmbedding(x_scale=self._scales[name], y_scale=self._scales[f"turned_{name}"])
        self._add(turn, f"turned_{name}", x=self._heads(name, heads), cos="cos", sin="sin", **self._position)
        return f"turned_{name}"

    def _append(self, name: str, x: str) -> str:
        self._add(Append(), f"present_{name}", "present", past=f"past_{name}", x=x, **self._position)
        return f"present_{name}"

    def nodes(self) -> list[Node]:
        """All of them."""
        shape, scales = self._shape, self._scales
        self._norm("n", "x", "gamma_1")
        for name in "qkv":
            self._linear(name, "n")
        q = self._turned("q", shape.heads)
        k = self._append("k", self._turned("k", shape.groups))
        v = self._append("v", self._heads("v", shape.groups))
        attention = Attention(causal=True, q_scale=scales["turned_q"], k_scale=scales["turned_k"], v_scale=scales["v"],
                              y_scale=scales["a"])
        self._add(attention, "av", q=q, k=k, v=v, **self._position)
        self._add(Transpose((1, 0, 2)), "split_a", x="av")
        self._add(Reshape((self._tokens, shape.width)), "a", x="split_a")
        self._linear("z", "a")
        self._sum("h", "x", "z")
        self._norm("m", "h", "gamma_2")
        self._linear("gate", "m", activation="silu")
        self._linear("up", "m")
        self._add(Mul(A_scale=scales["gate"], B_scale=scales["up"], C_scale=scales["met"]), "met", a="gate", b="up")
        self._linear("down", "met")
        self._sum("y", "h", "down")
        return self._nodes
