"""Closed-form prices of operators: multiply-accumulates, weights, shapes.

The number of multiply-accumulates (MACs) is that of the field's tables: each output times the
length of its contraction, taps on the layer's own padding included. Nothing that a machine adds is
counted, such as the padding of tiles, nor are biases, softmax and pooling. AlexNet's CONV layers
come to 665,784,864, the number that the lecture rounds to 666 M.
"""

from dataclasses import dataclass
from functools import cached_property

from .tensors import Padding, four_sides, output_size, pair

__all__ = ["ConvLayer", "attention_macs", "conv2d_macs", "conv2d_shape", "gemm_macs", "linear_weights"]


@dataclass(frozen=True, kw_only=True)
class ConvLayer:
    """Shape of a convolution, with the lecture's ranks.

    Parameters
    ----------
    name : str
        Name of the layer.
    c, h, w : int
        Channels, height and width of the input.
    m : int
        Channels of the output.
    r, s : int
        Height and width of the filter.
    stride, padding, dilation : int or tuple
        As for :func:`.integer.conv2d`.
    groups : int
        Number of groups.
    """

    name: str
    c: int
    h: int
    w: int
    m: int
    r: int
    s: int
    stride: int | tuple[int, int] = 1
    padding: Padding = 0
    dilation: int | tuple[int, int] = 1
    groups: int = 1

    def __post_init__(self) -> None:
        for name in ("c", "h", "w", "m", "r", "s", "groups"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.c % self.groups or self.m % self.groups:
            raise ValueError(f"groups must divide {self.c} and {self.m} channels, not {self.groups}")

    @cached_property
    def output(self) -> tuple[int, int, int]:
        """Channels, height and width of the output: (M, P, Q)."""
        return conv2d_shape((1, self.c, self.h, self.w), (self.m, self.c // self.groups, self.r, self.s),
                            self.stride, self.padding, self.dilation)[1:]

    @property
    def weights(self) -> int:
        """Number of weights, biases not counted."""
        return self.m * (self.c // self.groups) * self.r * self.s

    def macs(self, batch: int = 1) -> int:
        """Return the multiply-accumulates for a number of images."""
        return conv2d_macs((batch, self.c, self.h, self.w), (self.m, self.c // self.groups, self.r, self.s),
                           self.stride, self.padding, self.dilation)


def conv2d_shape(x: tuple[int, ...], w: tuple[int, ...], stride: int | tuple[int, int] = 1,
                 padding: Padding = 0, dilation: int | tuple[int, int] = 1) -> tuple[int, int, int, int]:
    """Return the shape (N, M, P, Q) of a convolution's output.

    Parameters
    ----------
    x, w : tuple of int
        Shapes (N, C, H, W) and (M, C / G, R, S).
    stride, padding, dilation
        As for :func:`.integer.conv2d`.

    Raises
    ------
    ValueError
        If the window is larger than the padded input.
    """
    step, taps = pair("stride", stride), pair("dilation", dilation)
    top, left, bottom, right = four_sides(padding)
    return (x[0], w[0], output_size("height", x[2], w[2], step[0], top, bottom, taps[0]),
            output_size("width", x[3], w[3], step[1], left, right, taps[1]))


def conv2d_macs(x: tuple[int, ...], w: tuple[int, ...], stride: int | tuple[int, int] = 1,
                padding: Padding = 0, dilation: int | tuple[int, int] = 1) -> int:
    """Count ``N * M * P * Q * (C / G) * R * S``, of the shapes that :func:`conv2d_shape` takes."""
    n, m, p, q = conv2d_shape(x, w, stride, padding, dilation)
    return n * m * p * q * w[1] * w[2] * w[3]


def gemm_macs(m: int, k: int, n: int) -> int:
    """Count the products of an (M, K) by a (K, N) matrix."""
    return m * k * n


def attention_macs(p: int, m: int, e: int, f: int, heads: int = 1) -> int:
    """Count the products of ``QK`` and ``AV``: ``H * P * M * (E + F)``."""
    return heads * p * m * (e + f)


def linear_weights(inputs: int, outputs: int) -> int:
    """Count the weights of a fully connected layer, biases not counted."""
    return inputs * outputs
