"""A CNN that learns digits of 8 x 8 pixels: two convolutions, pooling and two linear layers."""

from collections.abc import Iterator, Mapping

import numpy as np

from ..compiler.graph.graph import Graph
from ..compiler.graph.passes.narrow import operands_are_narrow
from ..compiler.operators import Conv2d, Linear, MaxPool2d, Reshape, SoftmaxCrossEntropy

__all__ = ["WEIGHTS", "accuracy", "batches", "digits_cnn", "drawn_weights", "held_out"]

#: Shapes of the weights.
WEIGHTS = {"w1": (16, 1, 3, 3), "b1": (16,), "w2": (32, 16, 3, 3), "b2": (32,), "w3": (64, 512), "b3": (64,),
           "w4": (10, 64), "b4": (10,)}


def drawn_weights(seed: int) -> dict[str, np.ndarray]:
    """Draw weights of a variance of two over the inputs of an output, and biases of zero."""
    rng = np.random.default_rng(seed)
    return {name: (rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32)
            if name.startswith("w") else np.zeros(shape, np.float32) for name, shape in WEIGHTS.items()}


def digits_cnn(weights: Mapping[str, np.ndarray], batch: int) -> Graph:
    """Graph of the network: images (batch, 1, 8, 8) and labels (batch,) give scores (batch, 10) and the loss."""
    graph = Graph()
    graph.input("images", (batch, 1, 8, 8), "float32")
    graph.input("labels", (batch,), "int64")
    for name, value in weights.items():
        graph.constant(name, value)
    graph.add("first", Conv2d(padding=1, activation="relu"), x="images", w="w1", b="b1")
    graph.add("second", Conv2d(padding=1, activation="relu"), x="first", w="w2", b="b2")
    graph.add("pooled", MaxPool2d(2), x="second")
    graph.add("flat", Reshape((batch, -1)), x="pooled")
    graph.add("hidden", Linear(activation="relu"), x="flat", w="w3", b="b3")
    graph.add("scores", Linear(), x="hidden", w="w4", b="b4")
    graph.output("scores", graph.add("loss", SoftmaxCrossEntropy(), x="scores", labels="labels"))
    return graph


def held_out(images: np.ndarray, labels: np.ndarray, seed: int) -> list[dict[str, np.ndarray]]:
    """Shuffle, and hold a fifth out: images and labels to learn from, and those to be judged by."""
    order = np.random.default_rng(seed).permutation(len(images))
    cut = len(images) // 5
    return [{"images": images[part], "labels": labels[part]} for part in (order[cut:], order[:cut])]


def batches(data: Mapping[str, np.ndarray], size: int, seed: int) -> Iterator[dict[str, np.ndarray]]:
    """Batches for ever, in an order that is new in each pass over the data; what is left of a pass is left out."""
    rng = np.random.default_rng(seed)
    count = len(data["labels"])
    while True:
        order = rng.permutation(count)
        for start in range(0, count - size + 1, size):
            yield {name: value[order[start:start + size]] for name, value in data.items()}


def accuracy(weights: Mapping[str, np.ndarray], data: Mapping[str, np.ndarray], format: str | None) -> float:
    """Share of digits that the network tells, with operands rounded to the nearest of a format."""
    graph = digits_cnn(weights, len(data["labels"]))
    graph = graph if format is None else operands_are_narrow(graph, format)
    return float((graph.golden(data)["scores"].argmax(1) == data["labels"]).mean())
