"""Training: steps as PyTorch's, the factor of the loss, programs against golden models, and networks that learn."""

import numpy as np
import pytest
from drawn_floats import FORMATS, float_configuration

import pearray as pe
from pearray import handle
from pearray.compiler.kinds import interpreter
from pearray.compiler.operators import (
    SGD,
    Adam,
    Add,
    Conv2d,
    LayerNorm,
    Linear,
    MaxPool2d,
    ReduceSum,
    Reshape,
    SoftmaxCrossEntropy,
)
from pearray.results import in_parts
from pearray.training import LossScale, Snapshot, Training
from pearray.workloads.digit_training import NETWORKS, accuracy, batch_of, drawn_weights, held_out
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
    ([], {}, "^weights must name at least one constant of the graph$"),
    (["w"], {"format": "int8"}, "^format must be 'bfloat16', 'float16', 'float8_e4m3fn' or 'float8_e5m2', not 'int8'$"),
    (["w"], {"stochastic": 2}, "^stochastic must be True or False, not 2$"),
    (["w"], {"scale": 1024.0}, r"^scale must be None or a pearray\.LossScale, not 1024\.0$"),
    (["w"], {"seed": -1}, "^seed must be an integer of at least 0, not -1$"),
    (["w"], {"budget": -1}, "^budget must be an integer of at least 0, not -1$"),
    (["w"], {"budget": "much"}, "^budget must be an integer of at least 0, not 'much'$"),
    (["w"], {"budget": float("nan")}, "^budget must be an integer of at least 0, not nan$"),
    (["w"], {"effort": 3}, "^effort is a setting of an accelerator, and there is none: give on$"),
    (["w"], {"check_every": 0.5}, r"^check_every must be an integer of at least 0, not 0\.5$"),
    (["w"], {"engine": "spice"}, "^engine must be 'verilator', 'cocotb' or 'amaranth', not 'spice'$"),
    (["w", "x"], {}, "^weights must be constants of the graph, of w, b, gamma, v, not 'x'$"),
    (["w", "b", "w"], {}, "^'w' must be named once to be differentiated by, not 2 times$"),
])
def test_what_cannot_be_trained_is_named(rng, weights, options, message):
    """If it failed, a mistake would end in a traceback, or in training of another kind than was asked for."""
    with pytest.raises(pe.PearrayError, match=message):
        Training(layers(rng)[0], "loss", weights, SGD(lr=0.1), **options)


@pytest.mark.parametrize(("made", "message"), [
    (lambda: LossScale("1"), "^value must be a number, not '1'$"),
    (lambda: LossScale(3.0), r"^value must be a power of two in 2\*\*-14\.\.2\*\*24, not 3\.0$"),
    (lambda: LossScale(interval=0), "^interval must be an integer of at least 1, not 0$"),
    (lambda: SGD(lr=-1), r"^lr must be at least 0, not -1\.0$"),
    (lambda: SGD(lr=float("nan")), "^lr must be a finite number, not nan$"),
    (lambda: SGD(lr=1, momentum=1), r"^momentum must be at least 0 and less than 1, not 1\.0$"),
    (lambda: Adam(lr=1, beta2=1), r"^beta2 must be at least 0 and less than 1, not 1\.0$"),
    (lambda: Adam(lr=1, epsilon=0), r"^epsilon must be more than 0, not 0\.0$"),
    (lambda: SGD(lr=1e300), r"^lr must be a number that float32 holds, not 1e\+300$"),
    (lambda: SGD(lr=1, weight_decay=1e39), r"^weight_decay must be a number that float32 holds, not 1e\+39$"),
    (lambda: Adam(lr=1, epsilon=1e-300), "^epsilon must be a number that float32 holds, not 1e-300, which is 0 there$"),
    (lambda: Snapshot({}, -1, 0, None), "^steps must be an integer of at least 0, not -1$"),
    (lambda: Snapshot({}, 1, 2, None), "^lost must be at most steps, 1, not 2$"),
    (lambda: Snapshot(None, 1, 0, None), "^tensors must be a dict of arrays by name, not NoneType$"),
    (lambda: Snapshot({}, 1, 0, (3.0, 0)), r"^value must be a power of two in 2\*\*-14\.\.2\*\*24, not 3\.0$"),
    (lambda: Snapshot({}, 1, 0, 8.0), r"^scale must be None or a pair of a factor and a count, not 8\.0$"),
    (lambda: Adam(lr=1, weight_decay=-1), r"^weight_decay must be at least 0, not -1\.0$"),
])
def test_parameters_are_checked(made, message):
    """If it failed, a mistake in a rate would show as weights that are no numbers, hours later."""
    with pytest.raises(pe.PearrayError, match=message):
        made()


@pytest.mark.parametrize(("arguments", "options", "message"), [
    (("loss", "sgd"), {}, r"^optimiser must be one such as .*, not 'sgd'$"),
    (("los", SGD(lr=1)), {}, r"^loss must be the name of a tensor of the graph, of .*, not 'los'$"),
    (("h", SGD(lr=1)), {}, r"^loss must be a tensor of shape \(\), not 'h' of shape \(6, 8\)$"),
    ((3, SGD(lr=1)), {}, r"^loss must be the name of a tensor or a pearray\.SoftmaxCrossEntropy\(\), not 3$"),
    ((SoftmaxCrossEntropy(), SGD(lr=1)), {}, "^labels must not be the name of a tensor of the network where a loss is"),
    (("loss", SGD(lr=1)), {"on": "systolic-8x8"}, "^on must be an array of floats, such as systolic-8x8-bf16, not "),
    (("loss", SGD(lr=1)), {"on": "systolic-8x8-bf16", "format": "float16"}, "^format must be that of systolic-8x8-bf1"),
    (("loss", SGD(lr=1)), {"batch": 3}, "^batch must be None for a graph, whose inputs have shapes, not 3$"),
])
def test_steps_that_cannot_be_made_are_named(rng, arguments, options, message):
    """If it failed, a mistake would end in a traceback, or in training of another kind than was asked for."""
    with pytest.raises(pe.PearrayError, match=message):
        pe.train_step(layers(rng)[0], *arguments, **options)


def test_inputs_of_steps_are_checked(rng):
    """If it failed, a batch could write over weights, or change their shape."""
    graph, _, data = layers(rng)
    training = pe.train_step(graph, "loss", Adam(lr=0.1))
    assert {*training.weights} == {"w", "b", "gamma", "v"}
    for given, options, message in [
        (data[0] | {"w": training.weights["w"]}, {}, "^'w' is no input of the network, which takes x, labels$"),
        ({"x": data[0]["x"]}, {}, "^input 'labels' is missing"),
        (data[0] | {"x": data[0]["x"][:1]}, {}, r"^input 'x' must be float32 of shape \(6, 5\), not"),
        (data[0] | {"x": data[0]["x"] * np.inf}, {}, r"^tensor 'x' must be finite, not -?inf"),
        (data[0], {"lr": -1}, "^lr must be None or a number of at least 0, not -1$"),
    ]:
        with np.errstate(invalid="ignore"), pytest.raises(pe.PearrayError, match=message):
            training.step(given, **options)


def test_a_snapshot_goes_on_to_the_same_bits(rng):
    """If it failed, a training that was broken off could not go on."""
    graph, _, data = layers(rng)

    def made():
        return pe.train_step(graph, "loss", Adam(lr=0.05), format="float8_e5m2", stochastic=True, seed=5,
                             scale=LossScale(2.0 ** 24, interval=2))

    whole, first, second = made(), made(), made()
    losses = [whole.step(batch) for batch in data * 6]
    # The first factor is too great.
    assert 0 < whole.lost < whole.steps
    begin = [first.step(batch) for batch in (data * 6)[:13]]
    second.restore(first.snapshot())
    assert begin + [second.step(batch) for batch in (data * 6)[13:]] == pytest.approx(losses, abs=0, nan_ok=True)
    for name, value in whole.snapshot().tensors.items():
        np.testing.assert_array_equal(second.snapshot().tensors[name], value)
    assert (second.lost, second.scale) == (whole.lost, whole.scale)
    with pytest.raises(pe.PearrayError, match=r"^a training must go on from tensors"):
        pe.train_step(graph, "loss", SGD(lr=1)).restore(first.snapshot())


def images(rng):
    """A small network of each product with a gradient: grouped and strided convolutions, and a linear layer."""
    graph = pe.Graph()
    graph.input("x", (2, 3, 7, 6), "float32")
    graph.input("labels", (2,), "int64")
    for name, shape in {"w1": (4, 3, 3, 2), "b1": (4,), "w2": (6, 2, 2, 3), "b2": (6,), "w3": (5, 24)}.items():
        graph.constant(name, rng.normal(size=shape).astype(np.float32))
    graph.add("first", Conv2d(padding=1, activation="relu"), x="x", w="w1", b="b1")
    graph.add("second", Conv2d(stride=2, groups=2, dilation=(2, 1)), x="first", w="w2", b="b2")
    graph.add("pooled", MaxPool2d(2, stride=1), x="second")
    graph.add("flat", Reshape((2, -1)), x="pooled")
    graph.output(graph.add("loss", SoftmaxCrossEntropy(), x=graph.add("scores", Linear(), x="flat", w="w3"),
                           labels="labels"))
    return graph, [{"x": rng.normal(size=(2, 3, 7, 6)).astype(np.float32), "labels": rng.integers(0, 5, 2)}
                   for _ in range(3)]


def interpreted(fault=0):
    """What runs a handle by the interpreter of commands, and makes one bit of the first output another."""
    def run_arrays(self, inputs, engine, keep=None, progress=None, trace=False):
        compiled = self.compiled()
        machine = interpreter(compiled.config, compiled.memory_bytes)
        machine.write(compiled.segments + compiled.bind(inputs))
        machine.run(compiled.program_address)
        outputs = {name: compiled.extract(name, machine.read) for name in self.graph.outputs}
        next(iter(outputs.values())).view(np.uint32).reshape(-1)[0] ^= fault
        return in_parts([], outputs, self.system.pes, None)

    return run_arrays


@pytest.mark.parametrize("routines", [0, 1])
@pytest.mark.parametrize("form", FORMATS)
def test_programs_of_a_step_equal_golden(rng, monkeypatch, form, routines):
    """If it failed, a part of a step would not be its golden model, or read other weights, with the host or without."""
    graph, data = images(rng)
    monkeypatch.setattr(handle.Handle, "run_arrays", interpreted())
    training = pe.train_step(graph, "loss", Adam(lr=0.1), effort=0,
                             on=float_configuration(array__operands=form, post__routines=routines),
                             stochastic=form.startswith("float8"), scale=LossScale(256.0), check_every=2)
    if routines:
        assert training.host is None
    else:
        assert (training.host.programs, training.host.macs) == (6, 0)
    for batch in data:
        training.step(batch)
    size = sum(value.size for value in training.snapshot().tensors.values())
    assert (training.checked_steps, training.checked, training.mismatches) == (2, 2 * (size + 1), 0)


def test_what_differs_is_told(rng, monkeypatch):
    """If it failed, an accelerator that computes something else would not be noticed."""
    graph, data = images(rng)
    monkeypatch.setattr(handle.Handle, "run_arrays", interpreted(1 << 20))
    training = pe.train_step(graph, "loss", Adam(lr=0.1), on=float_configuration(), effort=0)
    training.step(data[0])
    assert training.mismatches > 0
    assert training.first_difference.startswith("step 0: ")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "batch"), [("digits-cnn", 4), ("digits-mlp", 32), ("digits-vit", 4)])
def test_fifty_steps_equal_the_rtl(name, batch):
    """If it failed, the loss curve of an accelerator would not be golden's to the last bit."""
    network, (learned, _) = NETWORKS[name], held_out(*small_digits(), 0)
    training = pe.train_step(network.graph(drawn_weights(network, 0), batch), "loss", Adam(lr=0.002),
                             on="systolic-8x8-bf16")
    for step in range(50):
        training.step(batch_of(learned, batch, 0, step))
    assert (training.checked_steps, training.mismatches) == (50, 0), training.first_difference
    assert training.result.verilog_sha256


@pytest.mark.slow
@pytest.mark.parametrize(("config", "share"), [("systolic-8x8-bf16", 98.1), ("systolic-8x8-fp8", 98.6)])
def test_digits_are_learned(config, share):
    """If it failed, a format, its rounding or the factor of the loss would not do for training as the page says."""
    network, (learned, judged) = NETWORKS["digits-cnn"], held_out(*small_digits(), 0)
    is_narrow = config.endswith("fp8")
    training = pe.train_step(network.graph(drawn_weights(network, 0), 32), "loss", Adam(lr=0.002), on=config,
                             stochastic=is_narrow, scale=LossScale(1024.0, 100) if is_narrow else None, check_every=0)
    for step in range(400):
        training.step(batch_of(learned, 32, 0, step))
    form = pe.load_config(config).hardware.arithmetic.operands
    assert round(100 * accuracy(network, training.weights, judged, form), 1) == share


@pytest.mark.parametrize("optimiser", [SGD(lr=0.1), Adam(lr=0.1)], ids=["sgd", "adam"])
def test_rates_beyond_float32_are_named(rng, optimiser):
    """If it failed, every step would be lost without a word, since its rate is infinite."""
    graph, weights, data = layers(rng)
    training = Training(graph, "loss", weights, optimiser)
    with pytest.raises(pe.PearrayError, match=r"^lr must be so small that float32 holds the (rate|size) of a step"):
        training.step(data[0], lr=1e39)
    assert not training.steps


def test_what_is_no_snapshot_is_named(rng):
    """If it failed, what a user gave instead of a snapshot would end in a traceback."""
    graph, weights, _ = layers(rng)
    training = Training(graph, "loss", weights, SGD(lr=0.1))
    with pytest.raises(pe.PearrayError, match=r"^snapshot must be a pearray\.Snapshot, not dict$"):
        training.restore({})
