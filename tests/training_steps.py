"""Steps of training as graphs, with what a run of them needs."""

import numpy as np

from pearray.compiler.graph.passes.step import training_step
from pearray.compiler.operators import Adam
from pearray.workloads.digit_training import drawn_weights, network_of

__all__ = ["digit_step"]


def digit_step(rng, batch, name="digits-cnn", format="bfloat16"):
    """Return a step by Adam of a network of digits, of which operands are rounded at random, and its inputs."""
    network, optimiser = network_of(name), Adam(lr=1e-3)
    weights = drawn_weights(network, int(rng.integers(1 << 30)))
    step = training_step(network.graph(weights, batch), "loss", [*weights], optimiser, format=format, stochastic=True)
    inputs = {"images": rng.random((batch, 1, 8, 8)).astype(np.float32), "labels": rng.integers(0, 10, batch),
              step.factor: np.asarray(4, np.float32), step.unscaled: np.asarray(0.25, np.float32),
              step.key: np.asarray(rng.integers(1 << 32), np.uint32)}
    inputs |= {step.scalars[role]: np.asarray(value, np.float32) for role, value in optimiser.scalars_of(1).items()}
    for name in step.state:
        inputs[name] = np.abs(rng.standard_normal(step.graph.tensors[name].shape)).astype(np.float32) * 1e-3
    return step.graph, weights | inputs
