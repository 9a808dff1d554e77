"""Training in NumPy: steps as PyTorch's, the factor of the loss, and a network that learns."""

from itertools import islice

import numpy as np
import pytest

import pearray as pe
from pearray.compiler.graph.passes.backward import differentiated
from pearray.compiler.graph.passes.narrow import operands_are_narrow
from pearray.compiler.operators import SGD, Adam, Add, LayerNorm, Linear, ReduceSum, SoftmaxCrossEntropy
from pearray.golden.optimisers import LossScale
from pearray.training import Training
from pearray.workloads.digit_training import accuracy, batches, digits_cnn, drawn_weights, held_out
from pearray.workloads.digits import small_digits

BATCH = 6


def layers(rng):
    """Two layers with a normalisation between, their weights, and data."""
    weights = {"w": (8, 5), "b": (8,), "gamma": (8,), "v": (3, 8)}
    graph = pe.Graph()
    graph.input("x", (BATCH, 5), "float32")
    graph.input("labels", (BATCH,), "int64")
    for name, shape in weights.items():
        graph.constant(name, rng.normal(size=shape).astype(np.float32))
    graph.add("h", Linear(activation="silu"), x="x", w="w", b="b")
    graph.add("n", LayerNorm(), x="h", gamma="gamma")
    graph.output(graph.add("loss", SoftmaxCrossEntropy(), x=graph.add("scores", Linear(), x="n", w="v"),
                           labels="labels"))
    data = [{"x": rng.normal(size=(BATCH, 5)).astype(np.float32), "labels": rng.integers(0, 3, BATCH)}
            for _ in range(5)]
    return graph, [*weights], data


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_steps_are_those_of_pytorch(rng, kind):
    """If it failed, gradients would reach the wrong weights, or the factor of the loss stay in them."""
    torch = pytest.importorskip("torch")
    graph, weights, data = layers(rng)
    ours = Training(graph, "loss", weights, {"sgd": SGD(lr=0.1, momentum=0.9, weight_decay=0.01),
                                             "adam": Adam(lr=0.01)}[kind], scale=LossScale(1024.0, interval=2))
    theirs = {name: torch.from_numpy(graph.constants[name].astype(np.float64)).requires_grad_() for name in weights}
    optimiser = {"sgd": lambda: torch.optim.SGD([*theirs.values()], 0.1, momentum=0.9, weight_decay=0.01),
                 "adam": lambda: torch.optim.Adam([*theirs.values()], 0.01)}[kind]()
    for batch in data:
        optimiser.zero_grad()
        hidden = torch.nn.functional.silu(torch.from_numpy(batch["x"]).double() @ theirs["w"].T + theirs["b"])
        rows = torch.nn.functional.layer_norm(hidden, (8,), theirs["gamma"])
        loss = torch.nn.functional.cross_entropy(rows @ theirs["v"].T, torch.from_numpy(batch["labels"]))
        loss.backward()
        optimiser.step()
        assert abs(ours.step(batch) - loss.item()) < 1e-5
    assert (ours.steps, ours.lost, ours.scale.value) == (5, 0, 4096.0)
    for name in weights:
        np.testing.assert_allclose(ours.weights[name], theirs[name].detach().numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("budget", "seed", "same"), [(0, 3, True), (None, 3, True), (None, 4, False)])
def test_memory_changes_no_bit_and_seeds_do(rng, budget, seed, same):
    """If it failed, what is computed again would be rounded otherwise, and no run could be repeated."""
    graph, weights, data = layers(rng)

    def trained(seed, budget):
        training = Training(graph, "loss", weights, SGD(lr=0.1), format="float8_e4m3fn", stochastic=True,
                            scale=LossScale(64.0), seed=seed, budget=budget)
        losses = [training.step(batch) for batch in data]
        return losses, training.weights

    (losses, weights_of), (others, weights_of_others) = trained(3, None), trained(seed, budget)
    assert (losses == others) == same
    assert all((weights_of[name] == weights_of_others[name]).all() for name in weights) == same


def test_steps_that_overflow_are_lost(rng):
    """If it failed, gradients that are no numbers would get into weights, or the factor never become small enough."""
    graph, weights, data = layers(rng)
    training = Training(graph, "loss", weights, Adam(lr=0.01), format="float8_e4m3fn", scale=LossScale(2.0 ** 24))
    before = {name: value.copy() for name, value in training.weights.items()}
    training.step(data[0])
    assert (training.steps, training.lost, training.scale.value) == (1, 1, 2.0 ** 23)
    for name, value in before.items():
        np.testing.assert_array_equal(training.weights[name], value)
        assert not training.state[f"{name}:m"].any()
    for _ in range(23):
        training.step(data[0])
    assert 0 < training.lost < training.steps
    assert all(np.isfinite(value).all() for value in training.weights.values())
    assert any((training.weights[name] != value).any() for name, value in before.items())


def test_a_loss_whose_gradient_is_given(rng):
    """If it failed, a weight that is added to the loss itself would end in a traceback."""
    graph = pe.Graph()
    graph.input("x", (2, 3), "float32")
    graph.constant("c", np.float32(2))
    graph.output(graph.add("loss", Add(), a=graph.add("sum", ReduceSum(keepdims=False), x="x"), b="c"))
    training = Training(graph, "loss", ["c"], SGD(lr=0.5), scale=LossScale(8.0))
    x = rng.normal(size=(2, 3)).astype(np.float32)
    assert training.step({"x": x}) == pytest.approx(x.sum() + 2, rel=1e-6)
    assert training.weights["c"] == 1.5


@pytest.mark.parametrize(("weights", "options", "message"), [
    (["w"], {"stochastic": True}, "^stochastic must be False where format is None, not True: give a format, such as "
                                  "'bfloat16'$"),
    (["w", "x"], {}, "^weights must be constants of the graph, of w, b, gamma, v, not 'x'$"),
    (["w", "b", "w"], {}, "^'w' must be named once to be differentiated by, not 2 times$"),
])
def test_what_cannot_be_trained_is_named(rng, weights, options, message):
    """If it failed, a mistake would end in a traceback, or in training of another kind than was asked for."""
    with pytest.raises(pe.PearrayError, match=message):
        Training(layers(rng)[0], "loss", weights, SGD(lr=0.1), **options)


@pytest.mark.slow
def test_products_of_a_step_run_on_the_rtl(rng):
    """If it failed, a product of a forward or a backward pass would not be what an array of floats computes."""
    weights = drawn_weights(0)
    found = differentiated(operands_are_narrow(digits_cnn(weights, 1), "bfloat16"), "loss", [*weights])
    given = {"images": rng.random((1, 1, 8, 8)).astype(np.float32), "labels": np.array([3]), **weights,
             found.seed: np.asarray(1, np.float32)}
    values = {**given, **found.graph.golden(given)}
    products = [node for node in found.graph.nodes if found.graph.macs(node)]
    assert len(products) == 8
    for node in products:
        tensors = {role: values[name] for role, name in node.inputs.items()}
        made = pe.run(node.operator, tensors, on="systolic-8x8-bf16").outputs
        for role, wanted in pe.golden_run(node.operator, tensors, on="systolic-8x8-bf16").items():
            np.testing.assert_array_equal(made[role], wanted)
            # Another order of additions moves last bits only.
            np.testing.assert_allclose(made[role], values[node.outputs[role]], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("format", "stochastic", "scale", "share"), [
    ("bfloat16", False, None, 98.6), ("float8_e4m3fn", True, LossScale(1024.0, interval=100), 99.2)])
def test_digits_are_learned(format, stochastic, scale, share):
    """If it failed, a format, its rounding or the factor of the loss would not do for training as the page says."""
    learned, judged = held_out(*small_digits(), 0)
    weights = drawn_weights(0)
    training = Training(digits_cnn(weights, 32), "loss", [*weights], Adam(lr=0.002), format=format,
                        stochastic=stochastic, scale=scale)
    for batch in islice(batches(learned, 32, 0), 400):
        training.step(batch)
    assert round(100 * accuracy(training.weights, judged, format), 1) == share
