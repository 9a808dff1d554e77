"""Kernels in NumPy, element by element as their indices say: what they state, without any array."""

from itertools import product

import numpy as np

from pearray.compiler.kernels.kernel import Access, Chain, Constant, Contraction
from pearray.compiler.kernels.views import View
from pearray.golden import requantise
from pearray.hdl.shell.commands import Rounding

__all__ = ["evaluate"]


def _elements(access, ranks, memory):
    """Elements of an access for all values of ranks, less the zero point; padding included."""
    grid = np.meshgrid(*(np.arange(size) for size in ranks.values()), indexing="ij", sparse=True)
    values = dict(zip(ranks, grid, strict=True))
    shape = tuple(ranks.values())
    place, inside = np.full(shape, access.view.offset), np.ones(shape, bool)
    for axis in access.view.axes:
        index = access.indices.get(axis.name)
        at = np.zeros(shape, np.int64)
        if index is not None:
            at = at + index.offset + sum(factor * values[rank] for rank, factor in index.factors.items())
        inside &= (at >= 0) & (at < axis.size)
        place = place + at * axis.stride
    view, place = access.view, np.where(inside, place, access.view.offset)
    stored = memory[view.buffer][place // view.parts]
    if view.is_bytes:
        stored = stored >> 8 * (place % view.parts) & 255
    return np.where(inside, stored, access.view.outside) - access.zero


def _weights(weights, ranks, memory):
    if isinstance(weights, Access):
        return _elements(weights, ranks, memory)
    assert isinstance(weights, Constant)
    gone = tuple(axis for axis, rank in enumerate(weights.ranks) if rank not in ranks)
    values, left = weights.values.astype(np.int64).squeeze(gone), [rank for rank in weights.ranks if rank in ranks]
    shape = [size if rank in left else 1 for rank, size in ranks.items()]
    return values.transpose([left.index(rank) for rank in ranks if rank in left]).reshape(shape) - weights.zero


def _finish(kernel, sums, ranks, memory):
    finish = kernel.finish
    channel = kernel.y.indices["c"]
    grid = np.meshgrid(*(np.arange(size) for size in ranks.values()), indexing="ij", sparse=True)
    values = dict(zip(ranks, grid, strict=True))
    channels = channel.offset + sum(factor * values[rank] for rank, factor in channel.factors.items())
    channels = np.broadcast_to(channels, sums.shape)
    if isinstance(finish.bias, View):
        rows = np.broadcast_to(values["q"], sums.shape) if finish.bias_rows is not None else np.zeros_like(channels)
        bias = finish.bias
        sums = sums + memory[bias.buffer][bias.offset + rows * bias.stride("w") + channels]
    elif finish.bias is not None:
        sums = sums + finish.bias.astype(np.int64)[channels]
    if finish.rounding is Rounding.NONE:
        return np.maximum(sums, 0) if finish.relu else sums
    entries = finish.entries if finish.entries.size > 1 else np.repeat(finish.entries, channels.max() + 1)
    low = (entries & np.uint64(0xFFFFFFFF)).astype(np.uint32)
    flat, of = sums.reshape(-1, 1), channels.reshape(-1)
    if finish.rounding is Rounding.ONNX:
        made = [requantise.onnx(flat[of == c], low[c:c + 1].view(np.float32), finish.zero_point, finish.low,
                                finish.high, 1) for c in range(channels.max() + 1)]
    else:
        shift = (entries >> np.uint64(32)).astype(np.int64)
        shift -= (shift >> 5) << 6
        mode = "double" if finish.rounding is Rounding.TFLITE_DOUBLE else "single"
        made = [requantise.tflite(flat[of == c], low[c:c + 1].view(np.int32), -shift[c:c + 1], finish.zero_point,
                                  finish.low, finish.high, 1, mode) for c in range(channels.max() + 1)]
    result = np.zeros(flat.shape, np.int64)
    for c, part in enumerate(made):
        result[of == c] = np.clip(part.astype(np.int64), finish.low, finish.high)
    result = result.reshape(sums.shape)
    if finish.table is not None:
        table = finish.table.astype(np.int64)
        result = table[result & 255] if table.ndim == 1 else table[channels, result & 255]
    return result


def evaluate(kernels, memory):
    """Run kernels on the elements of buffers (dict of Buffer to array); what is made is added to them.

    Returns how often each element of each output was written.
    """
    written = {}
    for kernel in kernels:
        kernel.check()
        out = {rank: size for rank, size in kernel.ranks.items() if rank in kernel.y.ranks}
        windows = {rank: size for rank, size in kernel.ranks.items() if rank in ("i", "j")}
        out |= windows
        over = {rank: size for rank, size in kernel.ranks.items() if rank not in out}
        ranks = out | over
        axes = tuple(range(len(out), len(ranks)))
        if isinstance(kernel, Chain) and kernel.combine == "pair":
            terms = [_elements(term.a, ranks, memory) & 255 for term in kernel.terms]
            sums = sum(table.astype(np.int64)[term] for table, term in zip(kernel.finish.pair, terms, strict=True))
            values = _finish(kernel, (sums + (1 << 31)) % (1 << 32) - (1 << 31), out, memory)
        elif isinstance(kernel, Chain) and kernel.combine == "product":
            first, second = (_elements(term.a, ranks, memory) for term in kernel.terms)
            assert all(0 <= part.min() <= part.max() <= 255 for part in (first, second))
            a_zero, b_zero, addend = kernel.finish.product
            values = _finish(kernel, (first - a_zero) * (second - b_zero) + addend, out, memory)
        elif isinstance(kernel, Chain):
            terms = [term.factor * _elements(term.a, ranks, memory) for term in kernel.terms]
            stacked = sum(terms) if kernel.combine == "sum" else np.maximum.reduce(terms)
            combined = stacked.sum(axes) if kernel.combine == "sum" else stacked.max(axes) if axes else stacked
            values = _finish(kernel, combined, out, memory)
        else:
            assert isinstance(kernel, Contraction)
            terms = [_elements(term.a, ranks, memory) * _weights(term.w, ranks, memory) for term in kernel.terms]
            values = _finish(kernel, sum(terms).sum(axes), out, memory)
        if windows:
            assert tuple(windows.get(rank, 1) for rank in "ij") == kernel.finish.pool
            values = values.max(tuple(range(len(out) - len(windows), len(out))))
            out = {rank: size for rank, size in out.items() if rank not in windows}
        buffer = kernel.y.view.buffer
        made = memory.setdefault(buffer, np.zeros(buffer.size, np.int64))
        count = written.setdefault(buffer, np.zeros(buffer.size, np.int64))
        for place in product(*(range(size) for size in out.values())):
            at = dict(zip(out, place, strict=True))
            indices = {axis: index.offset + sum(factor * at[rank] for rank, factor in index.factors.items())
                       for axis, index in kernel.y.indices.items()}
            element = kernel.y.view.element(**indices)
            made[element] = values[place]
            count[element] += 1
    return written
