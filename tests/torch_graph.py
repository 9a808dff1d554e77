"""Graphs of operators on floats in PyTorch, and graphs that are drawn: chains, residuals, tensors with many readers."""

import numpy as np
import torch

import pearray as pe
from pearray.compiler import operators as op

__all__ = ["DrawnRows", "drawn_images", "drawn_rows", "gradients"]

functional = torch.nn.functional


def _activated(y, activation):
    if activation is None:
        return y
    name, *values = activation if isinstance(activation, tuple) else (activation,)
    known = {"relu": functional.relu, "clip": torch.clamp, "leaky_relu": functional.leaky_relu,
             "sigmoid": torch.sigmoid, "tanh": torch.tanh, "gelu": functional.gelu, "silu": functional.silu,
             "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh")}
    return known[name](y, *values)


def _padded(x, padding, value=0.0):
    top, left, bottom, right = padding
    return functional.pad(x, (left, right, top, bottom), value=value)


def _pool(operator, x):
    kernel, stride = operator.window(x.shape)
    if isinstance(operator, op.MaxPool2d):
        return functional.max_pool2d(_padded(x, operator.padding, -np.inf), kernel, stride, 0, operator.dilation)
    return functional.avg_pool2d(x, kernel, stride, operator.padding[:2], count_include_pad=operator.count_include_pad)


def _attention(operator, q, k, v):
    return functional.scaled_dot_product_attention(q, k, v, is_causal=operator.causal, scale=operator.scale)


def _heads(operator, q, k, v):
    split = [each.reshape(*each.shape[:2], operator.heads, -1).transpose(1, 2) for each in (q, k, v)]
    return _attention(operator, *split).transpose(1, 2).reshape(*q.shape[:2], -1)


def _rms(operator, x, gamma):
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + operator.epsilon) * gamma


def _sliced(operator, x):
    for axis, (start, end) in zip(operator.axes, zip(operator.starts, operator.ends, strict=True), strict=True):
        x = x.narrow(axis, start, end - start)
    return x


#: What PyTorch has for an operator, of the operator and tensors by role.
FUNCTIONS = {
    op.Add: lambda _, a, b: a + b,
    op.Sub: lambda _, a, b: a - b,
    op.Mul: lambda _, a, b: a * b,
    op.Attention: _attention,
    op.AvgPool2d: _pool,
    op.MaxPool2d: _pool,
    op.Concat: lambda operator, **given: torch.cat([*given.values()], operator.axis),
    op.Conv2d: lambda operator, x, w, b=None: _activated(functional.conv2d(
        _padded(x, operator.padding), w, b, operator.stride, 0, operator.dilation, operator.groups),
        operator.activation),
    op.Embedding: lambda _, w, indices: functional.embedding(indices, w),
    op.Expand: lambda operator, x: x.expand(operator.shape),
    op.Gather: lambda operator, x: x.index_select(operator.axis, torch.from_numpy(operator.indices)),
    op.Gelu: lambda operator, x: functional.gelu(x, approximate=operator.approximate),
    op.Gemm: lambda operator, a, b, c=0: _activated(
        (a.T if operator.trans_a else a) @ (b.T if operator.trans_b else b) + c, operator.activation),
    op.LayerNorm: lambda operator, x, gamma, beta=None: functional.layer_norm(
        x, x.shape[-1:], gamma, beta, operator.epsilon),
    op.Linear: lambda operator, x, w, b=None: _activated(functional.linear(x, w, b), operator.activation),
    op.MatMul: lambda operator, a, b, c=0: _activated(a @ b + c, operator.activation),
    op.MultiHeadAttention: _heads,
    op.Pad: lambda operator, x: functional.pad(x, tuple(
        side for pair in reversed([*zip(*np.split(np.array(operator.pads), 2), strict=True)]) for side in pair)),
    op.RMSNorm: _rms,
    op.ReduceMean: lambda operator, x: x.mean(operator.over(x.ndim), keepdim=operator.keepdims),
    op.ReduceSum: lambda operator, x: x.sum(operator.over(x.ndim), keepdim=operator.keepdims),
    op.Relu: lambda _, x: functional.relu(x),
    op.Reshape: lambda operator, x: x.reshape(operator.shape),
    op.Silu: lambda _, x: functional.silu(x),
    op.Slice: _sliced,
    op.Softmax: lambda operator, x: torch.softmax(x, operator.axis),
    op.SoftmaxCrossEntropy: lambda _, x, labels: functional.cross_entropy(x, labels),
    op.Split: lambda operator, x: torch.split(x, operator.sizes, operator.axis),
    op.Tile: lambda operator, x: x.repeat(operator.repeats),
    op.Transpose: lambda operator, x: x.permute(operator.order),
}


def gradients(graph, inputs, loss, by):
    """Loss and gradients by PyTorch's autograd in float64."""
    values = {name: torch.from_numpy(np.array(value)) for name, value in {**graph.constants, **inputs}.items()}
    values = {name: value.double() if value.dtype.is_floating_point else value for name, value in values.items()}
    for name in by:
        values[name].requires_grad_()
    for node in graph.nodes:
        made = FUNCTIONS[type(node.operator)](node.operator, **{role: values[each] for role, each in
                                                                node.inputs.items()})
        made = made if isinstance(made, (tuple, list)) else [made]
        values |= dict(zip(node.outputs.values(), made, strict=True))
    values[loss].backward()
    return values[loss].item(), {name: values[name].grad.numpy() for name in by}


class _Drawing:
    """A graph that grows by operators that are drawn, with the tensors that it is differentiated by."""

    def __init__(self, rng):
        self.rng, self.graph, self.by, self.inputs = rng, pe.Graph(), [], {}

    def any(self, low, high):
        """An integer of low to high."""
        return int(self.rng.integers(low, high + 1))

    def one_of(self, *choices):
        """One of some things."""
        return choices[self.any(0, len(choices) - 1)]

    def numbers(self, *shape, scale=1.0):
        """Random numbers."""
        return (scale * self.rng.normal(size=shape)).astype(np.float32)

    def shape(self, name):
        """Shape of a tensor."""
        return self.graph.tensors[name].shape

    def given(self, name, *shape):
        """An input of random numbers."""
        self.inputs[name] = self.numbers(*shape)
        self.by.append(self.graph.input(name, shape, "float32"))
        return name

    def weights(self, *shape, scale=1.0):
        """A constant that is differentiated by."""
        self.by.append(self.graph.constant(f"w{len(self.by)}", self.numbers(*shape, scale=scale)))
        return self.by[-1]

    def add(self, operator, **inputs):
        """An operator, and what it makes."""
        return self.graph.add(f"n{len(self.graph.nodes)}", operator, **inputs)

    def like(self, name):
        """A tensor of the same shape as another, which may have other readers."""
        found = [each for each in self.graph.tensors if self.shape(each) == self.shape(name)
                 and (each in self.inputs or any(each in node.outputs.values() for node in self.graph.nodes))]
        return self.one_of(*found)

    def finish(self, name):
        """A loss of a tensor: cross-entropy of rows that are as many as its first axis."""
        rows = self.shape(name)[0]
        if len(self.shape(name)) != 2:
            name = self.add(op.Reshape((rows, -1)), x=name)
        labels = self.rng.integers(0, self.shape(name)[1], rows)
        self.inputs["labels"] = labels
        self.graph.input("labels", (rows,), "int64")
        self.graph.output(self.graph.add("loss", op.SoftmaxCrossEntropy(), x=name, labels="labels"))
        return self.graph, self.inputs, self.by


ACTIVATIONS = (None, "relu", "gelu", "silu", "tanh", "sigmoid", ("clip", -0.5, 1.0), ("leaky_relu", 0.1))


def _convolution(d, x):
    _, channels, height, width = d.shape(x)
    groups = d.one_of(1, channels)
    filters = groups * d.any(1, 2) if groups > 1 else d.any(1, 4)
    kernel, dilation = (min(d.any(1, 3), height), min(d.any(1, 3), width)), d.any(1, 2)
    w = d.weights(filters, channels // groups, *kernel, scale=(channels // groups * kernel[0] * kernel[1]) ** -0.5)
    operator = op.Conv2d(stride=d.any(1, 2), padding=(d.any(0, 2), d.any(0, 2), 2, 2), dilation=dilation, groups=groups,
                         activation=d.one_of(*ACTIVATIONS))
    return d.add(operator, x=x, w=w, b=d.weights(filters) if d.any(0, 1) else None)


def _pooling(d, x):
    _, _, height, width = d.shape(x)
    kernel = min(d.any(1, 3), height), min(d.any(1, 3), width)
    padding = tuple(d.any(0, size // 2) for size in kernel)
    kind = d.one_of(op.MaxPool2d, op.AvgPool2d)
    return d.add(kind(kernel, stride=d.any(1, 2), padding=padding), x=x)


def _elements(d, x):
    return d.add(d.one_of(op.Relu(), op.Gelu(), op.Gelu(approximate="tanh"), op.Silu()), x=x)


def _two(d, x):
    return d.add(d.one_of(op.Add, op.Sub, op.Mul)(), a=x, b=d.like(x))


def _spread(d, x):
    shape = tuple(d.one_of(1, size) for size in d.shape(x))[d.any(0, 1):]
    return d.add(d.one_of(op.Add, op.Sub, op.Mul)(), **dict(zip(d.one_of("ab", "ba"), (x, d.weights(*shape)),
                                                                strict=True)))


def _moved(d, x):
    shape = d.shape(x)
    axis = d.any(1, len(shape) - 1)
    cut, order = d.any(0, shape[axis] - 1), [0, *(1 + d.rng.permutation(len(shape) - 1))]
    if d.any(0, 3) == 0 and 1 < shape[axis] < 9:
        first = d.graph.add_several(f"s{len(d.graph.nodes)}", op.Split(axis, (1, shape[axis] - 1)), x=x)
        return d.add(op.Concat(axis), x0=first[1], x1=d.one_of(*first), x2=first[1])
    sides = [d.any(0, 1) for _ in shape[1:]]
    picks = d.rng.integers(0, shape[axis], min(shape[axis], 5))
    return d.add(d.one_of(
        op.Transpose(tuple(map(int, order))), op.Slice((cut,), (shape[axis],), (axis,)), op.Gather(picks, axis),
        op.Pad((0, *sides, 0, *reversed(sides))), op.Tile((1, *(2 if size < 3 else 1 for size in shape[1:])))), x=x)


def _reduced(d, x):
    axis = d.any(1, len(d.shape(x)) - 1)
    reduced = d.add(d.one_of(op.ReduceMean, op.ReduceSum)((axis,), True), x=x)
    return d.add(op.Add(), a=x, b=reduced)


def drawn_images(rng):
    """Graph of images: convolutions, pooling, functions and moves; its inputs, and what to differentiate it by."""
    d = _Drawing(rng)
    x = d.given("x", d.any(1, 2), d.any(1, 3), d.any(3, 6), d.any(3, 6))
    for _ in range(d.any(3, 7)):
        x = d.one_of(_convolution, _convolution, _pooling, _elements, _two, _spread, _moved, _reduced)(d, x)
        if np.prod(d.shape(x)) > 2000:
            x = d.add(op.MaxPool2d(min(2, *d.shape(x)[2:]), stride=3), x=x)
    return d.finish(x)


class DrawnRows(_Drawing):
    """Graph of rows (N, L, D): products, attention and normalisation."""

    def step(self, x):
        """A step of a transformer."""
        rows, length, width = self.shape(x)
        kind = self.one_of("attention", "heads", "product", "linear", "gemm", "norm", "softmax")
        if kind == "attention":
            return self.add(op.Attention(causal=self.any(0, 1), scale=self.one_of(None, 0.3)), q=x, k=self.like(x),
                            v=self.like(x))
        if kind == "heads":
            heads = self.one_of(*(each for each in range(1, width + 1) if width % each == 0))
            return self.add(op.MultiHeadAttention(heads=heads, causal=self.any(0, 1)), q=x, k=self.like(x), v=x)
        if kind == "product":
            w = self.weights(*self.one_of((width, self.any(1, 5)), (rows, width, self.any(1, 4)), (1, width, 3)),
                             scale=width ** -0.5)
            return self.add(op.MatMul(activation=self.one_of(*ACTIVATIONS)), a=x, b=w)
        if kind in ("linear", "gemm"):
            flat, made = self.add(op.Reshape((rows * length, width)), x=x), self.any(1, 5)
            if kind == "linear":
                y = self.add(op.Linear(activation=self.one_of(*ACTIVATIONS)), x=flat, w=self.weights(made, width),
                             b=self.weights(made))
            else:
                trans_a, trans_b = self.any(0, 1), self.any(0, 1)
                a = self.add(op.Transpose((1, 0)), x=flat) if trans_a else flat
                b = self.weights(*((made, width) if trans_b else (width, made)))
                c = self.one_of(None, self.weights(made), self.weights(rows * length, made))
                y = self.add(op.Gemm(trans_a=trans_a, trans_b=trans_b), a=a, b=b, c=c)
            return self.add(op.Reshape((rows, length, made)), x=y)
        if kind == "norm":
            if self.any(0, 1):
                return self.add(op.RMSNorm(epsilon=1e-2), x=x, gamma=self.weights(width))
            return self.add(op.LayerNorm(epsilon=1e-2), x=x, gamma=self.weights(width),
                            beta=self.one_of(None, self.weights(width)))
        return self.add(op.Softmax(axis=self.one_of(-1, 1)), x=x)


def drawn_rows(rng):
    """Graph of rows that are looked up in a table, and what :func:`drawn_images` gives besides."""
    d = DrawnRows(rng)
    table = d.weights(d.any(1, 6), d.any(1, 6))
    shape = d.any(1, 2), d.any(1, 5)
    d.inputs["indices"] = d.rng.integers(0, d.shape(table)[0], shape)
    x = d.add(op.Embedding(), w=table, indices=d.graph.input("indices", shape, "int64"))
    for _ in range(d.any(2, 6)):
        x = d.one_of(d.step, d.step, lambda x: _two(d, x), lambda x: _elements(d, x), lambda x: _spread(d, x),
                     lambda x: _reduced(d, x))(x)
    return d.finish(x)
