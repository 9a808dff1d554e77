"""Random row-stationary configurations, layers in 16-bit fixed point, and gradients as convolutions of integers."""

import numpy as np

import pearray as pe
from pearray.hdl.row_stationary.config import GlobalBuffer, Post, ProcessingElement, RowStationaryConfig
from pearray.hdl.shell.config import Array, Memory, OutputScratchpads

__all__ = ["configuration", "fixed_conv", "fixed_gemm", "fixed_linear", "gradients", "random_configuration", "words"]


def configuration(rows, cols, bits, *, ifmap=12, filters=224, psums=24, banks=25, bank_lines=512, filter_banks=2,
                  data_width=64, output=1024, channels=64, moves=0, softmax=0):
    """Return a configuration; the defaults are the chip's."""
    return RowStationaryConfig(
        name="test", array=Array(kind="row-stationary", rows=rows, cols=cols, operand_bits=bits),
        pe=ProcessingElement(ifmap_words=ifmap, filter_words=filters, psum_words=psums),
        global_buffer=GlobalBuffer(banks=banks, bank_lines=bank_lines, filter_banks=filter_banks),
        scratchpads=OutputScratchpads(output_bytes=output, channels=channels, moves=moves),
        post=Post(softmax=softmax), memory=Memory(data_width=data_width))


def random_configuration(rng, bits, softmax=0):
    """Draw a small configuration, often with tiny scratchpads, with what attention needs or without."""
    return configuration(
        int(rng.integers(1, 7)), int(rng.integers(1, 9)), bits, ifmap=int(rng.integers(3, 14)),
        filters=int(rng.integers(16, 100)), psums=int(rng.integers(4, 25)), banks=int(rng.integers(4, 17)),
        bank_lines=int(rng.choice([64, 128])), filter_banks=int(rng.integers(2, 5)),
        data_width=int(rng.choice([32, 64, 128])), moves=softmax, softmax=softmax)


def words(rng, *shape):
    """Words over the full range, most of them zero now and then."""
    values = rng.integers(-(1 << 15), 1 << 15, shape)
    return np.where(rng.random(shape) < rng.choice([0, 0.3, 0.95]), 0, values).astype(np.int16)


def _fixed(rng):
    return {"requant": pe.FixedPoint(int(rng.integers(17))), "activation": None if rng.integers(2) else "relu"}


def fixed_conv(rng):
    """Draw a convolution with any stride, dilation, padding and groups."""
    groups, cg, ng = int(rng.choice([1, 1, 1, 2, 3])), int(rng.integers(1, 9)), int(rng.integers(1, 9))
    if rng.integers(6) == 0:
        groups, cg, ng = int(rng.integers(2, 9)), 1, 1
    filter_, stride, dilation = rng.integers(1, 6, 2), rng.integers(1, 4, 2), rng.integers(1, 3, 2)
    size = dilation * (filter_ - 1) + 1 + rng.integers(0, 8, 2)
    tensors = {"x": words(rng, int(rng.integers(1, 4)), groups * cg, *size), "w": words(rng, groups * ng, cg, *filter_)}
    if rng.integers(2):
        tensors["b"] = words(rng, groups * ng)
    return pe.Conv2d(stride=tuple(map(int, stride)), dilation=tuple(map(int, dilation)), groups=groups,
                     padding=tuple(map(int, rng.integers(0, 3, 4))), **_fixed(rng)), tensors


def fixed_gemm(rng):
    """Draw a matrix product, its operands transposed in memory or not."""
    m, k, n = (int(size) for size in rng.integers(1, 20, 3))
    turned = rng.integers(2, size=2).astype(bool)
    tensors = {"a": words(rng, *((k, m) if turned[0] else (m, k))), "b": words(rng, *((n, k) if turned[1] else (k, n)))}
    if rng.integers(2):
        tensors["c"] = words(rng, n)
    return pe.Gemm(trans_a=bool(turned[0]), trans_b=bool(turned[1]), **_fixed(rng)), tensors


def fixed_linear(rng):
    """Draw a layer of weights that are known beforehand, with a bias or none."""
    m, k, n = (int(size) for size in rng.integers(1, 20, 3))
    tensors = {"x": words(rng, m, k), "w": words(rng, n, k)}
    if rng.integers(2):
        tensors["b"] = words(rng, n)
    return pe.Linear(**_fixed(rng)), tensors


def gradients(rng):
    """Draw a convolution of 8-bit integers; return operator, tensors and expected sums of dX and of dW.

    With ``Y[n,m,p,q] = sum X[n,c,u*p+r-t,v*q+s-l] * W[m,c,r,s]``, dX is dY's transposed convolution by W, and dW the
    convolution of X by dY, images and channels exchanged, whose dilation is the stride.
    """
    n, c, m = (int(size) for size in rng.integers(1, 5, 3))
    (r, s), stride = rng.integers(1, 4, 2), tuple(int(step) for step in rng.integers(1, 3, 2))
    padding = int(rng.integers(0, min(r, s)))
    h, w = (int(size + rng.integers(0, 7)) for size in (r, s))
    p, q = (h + 2 * padding - r) // stride[0] + 1, (w + 2 * padding - s) // stride[1] + 1
    x, filters, dy = (rng.integers(-128, 128, shape).astype(np.int8)
                      for shape in ((n, c, h, w), (m, c, r, s), (n, m, p, q)))
    padded = np.pad(x.astype(np.int64), ((0, 0), (0, 0), (padding,) * 2, (padding,) * 2))
    dx, dw = np.zeros(padded.shape, np.int64), np.zeros(filters.shape, np.int64)
    for i in range(r):
        for j in range(s):
            seen = (slice(None), slice(None), slice(i, i + stride[0] * (p - 1) + 1, stride[0]),
                    slice(j, j + stride[1] * (q - 1) + 1, stride[1]))
            dx[seen] += np.einsum("nmpq,mc->ncpq", dy.astype(np.int64), filters[:, :, i, j].astype(np.int64))
            dw[:, :, i, j] = np.einsum("ncpq,nmpq->mc", padded[seen], dy.astype(np.int64))
    dx = dx[:, :, padding:padding + h, padding:padding + w]
    # Rows and columns of x that no window reaches get no gradient.
    left = (h + 2 * padding - r) % stride[0], (w + 2 * padding - s) % stride[1]
    backward = pe.ConvTranspose2d(stride=stride, padding=padding, output_padding=left)
    by_filter = pe.Conv2d(dilation=stride, padding=padding)
    return ((backward, {"x": dy, "w": filters}, dx),
            (by_filter, {"x": x.transpose(1, 0, 2, 3), "w": dy.transpose(1, 0, 2, 3)}, dw.transpose(1, 0, 2, 3)))
