"""Gradients by PyTorch's autograd in float64, which holds sums of a few million 8-bit and 16-bit products exactly."""

import numpy as np
import torch

__all__ = ["conv2d_grad", "linear_grad", "relative_error", "vector_jacobian"]

torch.set_num_threads(1)


def _gradients(function, x, w, dy):
    """Gradients of ``function(x, w, b)`` as int64 arrays dx, dw and db."""
    tensors = [torch.from_numpy(array.astype(np.float64)).requires_grad_() for array in (x, w, np.zeros(w.shape[0]))]
    function(*tensors).backward(torch.from_numpy(dy.astype(np.float64)))
    return [tensor.grad.numpy().astype(np.int64) for tensor in tensors]


def linear_grad(x, w, dy):
    """Gradients of a fully connected layer."""
    return _gradients(torch.nn.functional.linear, x, w, dy)


def conv2d_grad(x, w, dy, padding, **window):
    """Gradients of a convolution; `padding` is (top, left, bottom, right)."""
    top, left, bottom, right = padding
    return _gradients(lambda x, w, b: torch.nn.functional.conv2d(
        torch.nn.functional.pad(x, (left, right, top, bottom)), w, b, **window), x, w, dy)


def vector_jacobian(function, inputs, dy):
    """Output and gradients of inputs, all float64, of a function of tensors for float inputs and a gradient dy."""
    tensors = [torch.from_numpy(np.asarray(array).astype(np.float64)).requires_grad_() for array in inputs]
    y = function(*tensors)
    y.backward(torch.from_numpy(np.asarray(dy).astype(np.float64)))
    return y.detach().numpy(), [tensor.grad.numpy() for tensor in tensors]


def relative_error(ours, theirs, magnitude=0.0):
    """Greatest difference over the greatest element, or over that of the terms which add to it, if that is known."""
    assert ours.dtype == np.float32
    assert ours.shape == theirs.shape
    greatest = max(float(np.abs(theirs).max()), float(np.max(magnitude)), float(np.finfo(np.float32).tiny))
    return float(np.abs(ours.astype(np.float64) - theirs).max()) / greatest
