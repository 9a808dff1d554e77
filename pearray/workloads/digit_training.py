"""Networks that learn digits of 8 x 8 pixels: a CNN, an MLP and a small vision transformer; and how they are fed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ..compiler.graph.graph import Graph
from ..compiler.graph.passes.narrow import operands_are_narrow
from ..compiler.operators import (
    Add,
    Conv2d,
    Gelu,
    LayerNorm,
    Linear,
    MatMul,
    MaxPool2d,
    Mul,
    ReduceMean,
    Reshape,
    Softmax,
    SoftmaxCrossEntropy,
    Transpose,
)
from ..hdl.errors import unknown

__all__ = ["NETWORKS", "Network", "accuracy", "batch_of", "drawn_weights", "held_out", "network_of"]

Weights = Mapping[str, np.ndarray]

#: Of the transformer: what is in a token, heads, tokens of 2 x 2 pixels, and what is in the layer between.
_WIDTH, _HEADS, _TOKENS, _INNER = 32, 4, 16, 64


@dataclass(frozen=True)
class Network:
    """A network that learns.

    Parameters
    ----------
    meaning : str
        What it is.
    weights : mapping of str to tuple of int
        Shapes. Names that begin with ``b`` are biases, with ``g`` gains, and ``position`` is added to tokens.
    add : callable
        Adds the layers to a graph with the tensor ``images`` (batch, 1, 8, 8) and the weights, of a batch, the last
        of them ``scores``.
    gain : float
        Variance of the weights that are drawn, times the inputs of an output.
    """

    meaning: str
    weights: Mapping[str, tuple[int, ...]]
    add: Callable[[Graph, int], None]
    gain: float = 2.0

    def graph(self, weights: Weights, batch: int) -> Graph:
        """Images (batch, 1, 8, 8) and labels (batch,) give ``scores`` (batch, 10) and ``loss`` ()."""
        graph = Graph()
        graph.input("images", (batch, 1, 8, 8), "float32")
        graph.input("labels", (batch,), "int64")
        for name, value in weights.items():
            graph.constant(name, value)
        self.add(graph, batch)
        graph.output("scores", graph.add("loss", SoftmaxCrossEntropy(), x="scores", labels="labels"))
        return graph


def _cnn(graph: Graph, batch: int) -> None:
    graph.add("first", Conv2d(padding=1, activation="relu"), x="images", w="w1", b="b1")
    graph.add("second", Conv2d(padding=1, activation="relu"), x="first", w="w2", b="b2")
    graph.add("pooled", MaxPool2d(2), x="second")
    graph.add("flat", Reshape((batch, -1)), x="pooled")
    graph.add("hidden", Linear(activation="relu"), x="flat", w="w3", b="b3")
    graph.add("scores", Linear(), x="hidden", w="w4", b="b4")


def _mlp(graph: Graph, batch: int) -> None:
    graph.add("flat", Reshape((batch, -1)), x="images")
    graph.add("first", Linear(activation="relu"), x="flat", w="w1", b="b1")
    graph.add("second", Linear(activation="relu"), x="first", w="w2", b="b2")
    graph.add("scores", Linear(), x="second", w="w3", b="b3")


def _vit(graph: Graph, batch: int) -> None:
    """Patches of 2 x 2 pixels, a block of attention and a layer between two residual sums, and a mean over tokens."""
    rows, whole = (batch * _TOKENS, _WIDTH), (batch, _TOKENS, _WIDTH)
    graph.add("patches", Conv2d(stride=2), x="images", w="w_patch", b="b_patch")
    graph.add("channels", Reshape((batch, _WIDTH, _TOKENS)), x="patches")
    graph.add("tokens", Transpose((0, 2, 1)), x="channels")
    graph.add("placed", Add(), a="tokens", b="position")
    graph.add("normed", LayerNorm(), x="placed", gamma="g_1", beta="b_1")
    graph.add("rows", Reshape(rows), x="normed")
    for role in "qkv":
        graph.add(role, Linear(), x="rows", w=f"w_{role}", b=f"b_{role}")
        graph.add(f"parts of {role}", Reshape((batch, _TOKENS, _HEADS, _WIDTH // _HEADS)), x=role)
        # Keys stand transposed, so that queries are multiplied by them.
        order = (0, 2, 3, 1) if role == "k" else (0, 2, 1, 3)
        graph.add(f"heads of {role}", Transpose(order), x=f"parts of {role}")
    graph.add("products", MatMul(), a="heads of q", b="heads of k")
    graph.add("attended", Mul(), a="products", b=np.float32((_WIDTH // _HEADS) ** -0.5))
    graph.add("shares", Softmax(), x="attended")
    graph.add("values", MatMul(), a="shares", b="heads of v")
    graph.add("beside", Transpose((0, 2, 1, 3)), x="values")
    graph.add("joined", Reshape(rows), x="beside")
    graph.add("projected", Linear(), x="joined", w="w_out", b="b_out")
    graph.add("heads", Reshape(whole), x="projected")
    graph.add("sum", Add(), a="placed", b="heads")
    graph.add("normed again", LayerNorm(), x="sum", gamma="g_2", beta="b_2")
    graph.add("rows again", Reshape(rows), x="normed again")
    graph.add("wide", Linear(), x="rows again", w="w_wide", b="b_wide")
    graph.add("bent", Gelu(), x="wide")
    graph.add("narrow", Linear(), x="bent", w="w_narrow", b="b_narrow")
    graph.add("layer", Reshape(whole), x="narrow")
    graph.add("sum again", Add(), a="sum", b="layer")
    graph.add("last", LayerNorm(), x="sum again", gamma="g_3", beta="b_3")
    graph.add("mean", ReduceMean(axes=(1,), keepdims=False), x="last")
    graph.add("scores", Linear(), x="mean", w="w_scores", b="b_scores")


def _linear(name: str, outputs: int, inputs: int) -> dict[str, tuple[int, ...]]:
    return {f"w_{name}": (outputs, inputs), f"b_{name}": (outputs,)}


def _norm(number: int) -> dict[str, tuple[int, ...]]:
    return {f"g_{number}": (_WIDTH,), f"b_{number}": (_WIDTH,)}


#: Networks by the names of the command line.
NETWORKS = {
    "digits-cnn": Network(
        "two convolutions of 16 and 32 filters, pooling, and two linear layers",
        {"w1": (16, 1, 3, 3), "b1": (16,), "w2": (32, 16, 3, 3), "b2": (32,), "w3": (64, 512), "b3": (64,),
         "w4": (10, 64), "b4": (10,)}, _cnn),
    "digits-mlp": Network(
        "three linear layers, of 64, 32 and 10 outputs",
        {"w1": (64, 64), "b1": (64,), "w2": (32, 64), "b2": (32,), "w3": (10, 32), "b3": (10,)}, _mlp),
    "digits-vit": Network(
        f"{_TOKENS} tokens of {_WIDTH} numbers from patches of 2 x 2 pixels, a block of attention with {_HEADS} heads, "
        "LayerNorm and GELU",
        {"w_patch": (_WIDTH, 1, 2, 2), "b_patch": (_WIDTH,), "position": (_TOKENS, _WIDTH), **_norm(1),
         **_linear("q", _WIDTH, _WIDTH), **_linear("k", _WIDTH, _WIDTH), **_linear("v", _WIDTH, _WIDTH),
         **_linear("out", _WIDTH, _WIDTH), **_norm(2), **_linear("wide", _INNER, _WIDTH),
         **_linear("narrow", _WIDTH, _INNER), **_norm(3), **_linear("scores", 10, _WIDTH)}, _vit, gain=1.0),
}


def network_of(name: str) -> Network:
    """Network of a name.

    Raises
    ------
    PearrayError
        If there is none.
    """
    if name not in NETWORKS:
        raise unknown("workload to train", name, NETWORKS)
    return NETWORKS[name]


def drawn_weights(network: Network, seed: int) -> dict[str, np.ndarray]:
    """Draw weights; biases are 0 and gains 1."""
    rng, found = np.random.default_rng(seed), {}
    for name, shape in network.weights.items():
        if name.startswith(("b", "g")):
            found[name] = np.full(shape, name.startswith("g"), np.float32)
        else:
            spread = 0.02 if name == "position" else np.sqrt(network.gain / np.prod(shape[1:]))
            found[name] = (rng.normal(size=shape) * spread).astype(np.float32)
    return found


def held_out(images: np.ndarray, labels: np.ndarray, seed: int) -> list[dict[str, np.ndarray]]:
    """Shuffle, and hold a fifth out: images and labels to learn from, and those to be judged by."""
    order = np.random.default_rng(seed).permutation(len(images))
    cut = len(images) // 5
    return [{"images": images[part], "labels": labels[part]} for part in (order[cut:], order[:cut])]


def batch_of(data: Mapping[str, np.ndarray], size: int, seed: int, step: int) -> dict[str, np.ndarray]:
    """Batch of a step: each pass over the data has an order of its own, and leaves out what is left of it."""
    a_pass, place = divmod(step, len(data["labels"]) // size)
    order = np.random.default_rng((seed, a_pass)).permutation(len(data["labels"]))
    chosen = order[place * size:(place + 1) * size]
    return {name: value[chosen] for name, value in data.items()}


def accuracy(network: Network, weights: Weights, data: Mapping[str, np.ndarray], format: str | None) -> float:
    """Share of digits that a network tells, in NumPy, with operands rounded to the nearest of a format."""
    graph = network.graph(weights, len(data["labels"]))
    graph = graph if format is None else operands_are_narrow(graph, format)
    return float((graph.golden(data)["scores"].argmax(1) == data["labels"]).mean())
