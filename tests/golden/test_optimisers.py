"""Steps of optimisers and the factor of the loss, against PyTorch's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pearray.golden.optimisers import LossScale, adam, sgd

torch = pytest.importorskip("torch")
autograd = pytest.importorskip("autograd")

SEED = st.integers(0, 1 << 32)
DECAY = st.sampled_from((0.0, 0.01))


def normal(rng, *shape):
    """Random float32 tensor."""
    return rng.normal(size=shape).astype(np.float32)


def follow(optimiser, step, size, rng, steps=5):
    """Take steps of gradients of any size with PyTorch's optimiser in float64 and with ours; return both weights."""
    w = normal(rng, size)
    parameter = torch.nn.Parameter(torch.from_numpy(w.astype(np.float64)))
    theirs, state = optimiser([parameter]), None
    for number in range(1, steps + 1):
        dw = normal(rng, size) * np.float32(10.0 ** rng.integers(-4, 3))
        parameter.grad = torch.from_numpy(dw.astype(np.float64))
        theirs.step()
        w, *state = step(w, dw, number, state)
    return w, parameter.detach().numpy()


@given(st.integers(1, 20), st.sampled_from((0.0, 0.9)), DECAY, SEED)
def test_sgd(size, momentum, decay, number):
    """If it failed, a step would have the wrong sign, velocity or decay."""
    ours, theirs = follow(
        lambda tensors: torch.optim.SGD(tensors, lr=0.1, momentum=momentum, weight_decay=decay),
        lambda w, dw, _, state: sgd(w, dw, 0.1, momentum=momentum, velocity=None if state is None else state[0],
                                    weight_decay=decay), size, np.random.default_rng(number))
    assert autograd.relative_error(ours, theirs) <= 1e-5


@given(st.integers(1, 20), st.sampled_from(((0.9, 0.999), (0.0, 0.5))), DECAY, SEED)
def test_adam(size, betas, decay, number):
    """If it failed, a mean would be kept wrongly, or its bias not be taken away in the first steps."""
    zeros = np.zeros(size, np.float32)

    def step(w, dw, number, state):
        first, second = (zeros, zeros) if state is None else state
        return adam(w, dw, 0.01, step=number, first=first, second=second, beta1=betas[0], beta2=betas[1],
                    weight_decay=decay)

    ours, theirs = follow(lambda tensors: torch.optim.Adam(tensors, lr=0.01, betas=betas, weight_decay=decay), step,
                          size, np.random.default_rng(number))
    assert autograd.relative_error(ours, theirs) <= 1e-5


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 4))
def test_loss_scale(steps, interval):
    """If it failed, losses would be scaled otherwise than PyTorch scales them after the same gradients."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([parameter], lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=interval)
    ours = LossScale(1024.0, interval)
    for finite in steps:
        # Behind these ends ours stays where it is.
        if not 2.0 ** -13 < ours.value < 2.0 ** 23:
            break
        parameter.grad = torch.full((1,), 1.0 if finite else float("inf"))
        scaler.scale(torch.zeros(1))
        scaler.step(optimiser)
        scaler.update()
        ours = ours.after(finite)
        assert ours.value == scaler.get_scale()


def test_loss_scale_has_ends():
    """If it failed, a factor would become zero or infinite, and every step after it be lost."""
    scale = LossScale(2.0 ** -14)
    assert scale.after(False) == scale
    scale = LossScale(2.0 ** 24, interval=1)
    assert scale.after(True) == scale


A = np.zeros((2, 3), np.float32)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: sgd(A, A.T, 0.1), r"^dw must have shape \(2, 3\), not \(3, 2\)$"),
    (lambda: adam(A, A, 0.1, step=0, first=A, second=A), r"^step must be at least 1, not 0$"),
    (lambda: adam(A, A, 0.1, step=1, first=A, second=A.T), r"^second must have shape \(2, 3\), not \(3, 2\)$"),
    (lambda: adam(A, A, 0.1, step=1, first=A, second=A, beta2=1.0),
     r"^beta2 must be at least 0 and less than 1, not 1\.0$"),
    (lambda: LossScale(3.0), r"^value must be a power of two in 2\*\*-14\.\.2\*\*24, not 3\.0$"),
    (lambda: LossScale(interval=0), r"^interval must be at least 1, not 0$"),
])
def test_wrong_arguments_are_named(call, message):
    """If it failed, a mistake would be accepted or its message would not name the field."""
    with pytest.raises(ValueError, match=message):
        call()
