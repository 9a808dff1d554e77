"""The loss of a classifier, and its gradient."""

import numpy as np

from .attention import exponential, softmax
from .float_functions import log
from .float_steps import evaluate
from .floating import sequential_sum
from .tensors import Array, floating, shaped

__all__ = ["softmax_cross_entropy", "softmax_cross_entropy_grad"]


def _checked(x: Array, labels: Array) -> tuple[Array, Array]:
    scores, classes = floating("x", x, 2), np.asarray(labels)
    if classes.dtype.kind not in "iu" or classes.shape != scores.shape[:1]:
        raise ValueError(f"labels must be integers of shape {scores.shape[:1]}, not {classes.dtype} of shape "
                         f"{classes.shape}")
    if classes.min() < 0 or classes.max() >= scores.shape[1]:
        wrong = classes.min() if classes.min() < 0 else classes.max()
        raise ValueError(f"labels must be in 0..{scores.shape[1] - 1}, not {wrong}")
    return scores, classes


def softmax_cross_entropy(x: Array, labels: Array) -> Array:
    """Mean over rows of ``log(sum(exp(X - max))) - (X[label] - max)``, sums in order, in float32.

    Parameters
    ----------
    x : (N, K) float array
        Scores of K classes.
    labels : (N,) integer array
        The right class of each row.

    Returns
    -------
    float32 array of shape ()

    Raises
    ------
    ValueError
        If types, shapes or labels do not fit.
    """
    scores, classes = _checked(x, labels)
    shifted = scores - scores.max(axis=1, keepdims=True)
    losses = evaluate(log, sequential_sum(exponential(shifted))) - shifted[np.arange(len(classes)), classes]
    return np.asarray(sequential_sum(losses) / np.float32(len(classes)))


def softmax_cross_entropy_grad(x: Array, labels: Array, dy: Array) -> Array:
    """Differentiate :func:`softmax_cross_entropy`: ``dX = (softmax(X) - one at the label) * (dY / N)``.

    Parameters
    ----------
    x, labels
        As for :func:`softmax_cross_entropy`.
    dy : float array of shape ()
        Gradient of the loss, with the factor by which losses are scaled.

    Returns
    -------
    (N, K) float32 array

    Raises
    ------
    ValueError
        If types, shapes or labels do not fit.
    """
    scores, classes = _checked(x, labels)
    factor = shaped("dy", dy, ())
    difference = softmax(scores)
    difference[np.arange(len(classes)), classes] -= np.float32(1)
    return np.asarray(difference * (factor / np.float32(len(classes))))
