"""Gradients by PyTorch's autograd in float64, which holds sums of a few million 8-bit and 16-bit products exactly."""

import numpy as np
import torch

__all__ = ["conv2d_grad", "linear_grad"]

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
