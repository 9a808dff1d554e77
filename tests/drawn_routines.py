"""Operators of floats that routines compute, drawn with tensors of any shape."""

import numpy as np
from drawn_floats import float_configuration, same_bits

from pearray.compiler import operators as op
from pearray.compiler.compile import compile_graph
from pearray.compiler.graph.graph import Graph
from pearray.compiler.kinds import interpreter

__all__ = ["OPERATORS", "check_graph", "check_operator", "draw_operator", "routine_configuration"]

_ACTIVATIONS = ["relu", ("clip", -0.5, 1.0), ("leaky_relu", 0.1), "sigmoid", "tanh", "gelu", "gelu_tanh", "silu",
                ("hard_sigmoid", 0.2, 0.5), "hard_swish"]


def routine_configuration(form="bfloat16", lanes=2, **overrides):
    """Return a small accelerator of floats whose vector memory holds few elements."""
    given = {"array__operands": form, "scratchpads__vector_bytes": 2048, "post__lanes": lanes} | overrides
    return float_configuration(**given)


def check_graph(graph, system, inputs):
    """Run a graph's program in the functional model, compare every output with golden's bits; return what was run."""
    compiled = compile_graph(graph, system.hardware, inputs=inputs, memory=system.memory, effort=0)
    model = interpreter(system.hardware, compiled.memory_bytes)
    model.write([*compiled.segments, *compiled.bind(inputs)])
    model.run(compiled.program_address)
    with np.errstate(all="ignore"):
        expected = compiled.graph.golden(inputs)
    for name in graph.outputs:
        found = compiled.extract(name, model.read, inputs)
        assert same_bits(found, expected[name]), (name, np.flatnonzero(found != expected[name]).size, found.size)
    return compiled


def check_operator(operator, tensors, system, constants=()):
    """Check an operator alone."""
    graph = Graph.of(operator, tensors, constants)
    return check_graph(graph, system, {name: np.asarray(tensors[name]) for name in graph.inputs})


def _numbers(rng, shape):
    """Numbers among which equal ones, zeros of both signs, tiny ones and what is infinite or none are."""
    values = rng.standard_normal(shape).astype(np.float32)
    special = np.array([0.0, -0.0, 1.0, -1.0, 1e-40, -3e-39, 3e38, np.inf, -np.inf, np.nan], np.float32)
    return np.where(rng.random(shape) < 0.15, rng.choice(special, shape), values).astype(np.float32)


def _finite(rng, shape):
    return (rng.standard_normal(shape) * 2).astype(np.float32)


def _shape(rng, most=4):
    rank = int(rng.integers(0, most + 1))
    return tuple(rng.integers(1, 8, rank).tolist())


def _activation(rng):
    return _ACTIVATIONS[rng.integers(len(_ACTIVATIONS))]


def _function(rng, form):
    return op.Function(_activation(rng)), {"x": _numbers(rng, _shape(rng))}


def _function_grad(rng, form):
    shape = _shape(rng)
    return op.FunctionGrad(_activation(rng)), {"x": _numbers(rng, shape), "dy": _finite(rng, shape)}


def _binary(rng, form):
    shape = _shape(rng)
    part = tuple(size if rng.random() < 0.6 else 1 for size in shape)[int(rng.integers(0, len(shape) + 1)):]
    pair = [_numbers(rng, shape), _numbers(rng, part)]
    kind = [op.Add, op.Sub, op.Mul][rng.integers(3)]
    return kind(), dict(zip("ab", pair[::1 if rng.random() < 0.5 else -1], strict=True))


def _rounded(rng, form):
    tensors = {"x": _numbers(rng, _shape(rng))}
    if rng.random() < 0.6:
        tensors["key"] = np.asarray(rng.integers(0, 1 << 32), np.uint32)
    return op.Rounded(form, int(rng.integers(0, 50))), tensors


def _optimiser(rng, form):
    shape, decay = _shape(rng), float(rng.choice([0.0, 0.01]))
    tensors = {role: _finite(rng, shape) for role in ("w", "dw", "m", "v")}
    if rng.random() < 0.5:
        tensors["unscaled"] = np.asarray(2.0 ** -7, np.float32)
    if rng.random() < 0.4:
        del tensors["m"]
        rate = {"rate": np.asarray(0.03, np.float32)} if rng.random() < 0.5 else {}
        return op.SGD(lr=0.1, momentum=float(rng.choice([0.0, 0.9])), weight_decay=decay), tensors | rate
    tensors["v"] = np.abs(tensors["v"])
    return op.Adam(lr=0.01, weight_decay=decay), tensors | {"step": np.asarray(int(rng.integers(1, 99)))}


def _axes(rng, rank):
    return tuple(sorted(rng.choice(rank, int(rng.integers(1, rank + 1)), replace=False).tolist())) if rank else ()


def _reduce_grad(rng, form):
    shape = _shape(rng)
    axes = _axes(rng, len(shape))
    kept = tuple(size for axis, size in enumerate(shape) if axis not in axes)
    return op.ReduceGrad(axes, bool(rng.integers(2))), {"x": _finite(rng, shape), "dy": _numbers(rng, kept)}


def _reduction(rng, form):
    shape = (*_shape(rng, 3), int(rng.integers(1, 40)))
    kind = [op.ReduceSum, op.ReduceMean][rng.integers(2)]
    return kind(_axes(rng, len(shape)), bool(rng.integers(2))), {"x": _finite(rng, shape)}


def _sum_to(rng, form):
    shape = _shape(rng)
    own = tuple(size if rng.random() < 0.5 else 1 for size in shape)[int(rng.integers(0, len(shape) + 1)):]
    return op.SumTo(own), {"x": _finite(rng, shape)}


def _softmax(rng, form):
    shape = (*_shape(rng, 2), int(rng.integers(1, 30)))
    return op.Softmax(axis=int(rng.integers(-len(shape), len(shape)))), {"x": _finite(rng, shape)}


def _softmax_grad(rng, form):
    shape = (*_shape(rng, 2), int(rng.integers(1, 30)))
    kind = op.SoftmaxGrad(axis=int(rng.integers(-len(shape), len(shape))))
    return kind, {"y": _finite(rng, shape), "dy": _finite(rng, shape)}


def _loss(rng, form):
    rows, classes = rng.integers(1, [40, 12]).tolist()
    tensors = {"x": _finite(rng, (rows, classes)), "labels": rng.integers(0, classes, rows)}
    if rng.random() < 0.5:
        return op.SoftmaxCrossEntropy(), tensors
    return op.SoftmaxCrossEntropyGrad(), tensors | {"dy": np.asarray(_finite(rng, ()))}


def _norm(rng, form):
    shape = (*_shape(rng, 2), int(rng.integers(1, 50)))
    tensors = {"x": _finite(rng, shape), "gamma": _finite(rng, shape[-1:])}
    if rng.random() < 0.5:
        return op.RMSNorm(), tensors
    return op.LayerNorm(), tensors | ({"beta": _finite(rng, shape[-1:])} if rng.random() < 0.7 else {})


def _norm_grad(rng, form):
    shape = (*_shape(rng, 2), int(rng.integers(1, 50)))
    tensors = {"x": _finite(rng, shape), "gamma": _finite(rng, shape[-1:]), "dy": _finite(rng, shape)}
    return op.NormGrad(bool(rng.integers(2)), 1e-5), tensors


def _pooling(rng):
    kernel, stride = (tuple(rng.integers(1, 4, 2).tolist()) for _ in range(2))
    padding = tuple(int(rng.integers(0, kernel[axis % 2])) for axis in range(4))
    given = {"kernel": kernel, "stride": stride, "padding": padding, "ceil_mode": bool(rng.integers(2))}
    shape = (*rng.integers(1, 4, 2).tolist(), *rng.integers(5, 9, 2).tolist())
    if rng.random() < 0.5:
        return op.MaxPool2d(**given, dilation=tuple(rng.integers(1, 3, 2).tolist())), shape
    return op.AvgPool2d(**given, count_include_pad=bool(rng.integers(2))), shape


def _pool(rng, form):
    pool, shape = _pooling(rng)
    return pool, {"x": _numbers(rng, shape) if isinstance(pool, op.MaxPool2d) else _finite(rng, shape)}


def _pool_grad(rng, form):
    pool, shape = _pooling(rng)
    x = _numbers(rng, shape)
    return op.PoolGrad(pool), {"x": x, "dy": _finite(rng, pool.infer({"x": x})["y"][0])}


def _moving(rng, shape):
    rank = len(shape)
    axis = int(rng.integers(rank))
    moves = [
        op.Transpose(tuple(rng.permutation(rank).tolist())),
        op.Gather(rng.integers(0, shape[axis], int(rng.integers(1, 6))), axis=axis),
        op.Slice((0,), (max(1, shape[axis] - 1),), (axis,)),
        op.Pad(tuple(rng.integers(0, 3, 2 * rank).tolist())),
        op.Tile(tuple(rng.integers(1, 3, rank).tolist())), op.Expand((2, *shape))]
    return moves[rng.integers(len(moves))]


def _moved(rng, form):
    shape = (*_shape(rng, 3), int(rng.integers(1, 9)))
    if rng.random() < 0.3:
        axis = int(rng.integers(len(shape)))
        parts = [(*shape[:axis], int(rng.integers(1, 5)), *shape[axis + 1:]) for _ in range(3)]
        return op.Concat(axis=axis), {f"x{number}": _numbers(rng, part) for number, part in enumerate(parts)}
    return _moving(rng, shape), {"x": _numbers(rng, shape)}


def _moved_grad(rng, form):
    shape = (*_shape(rng, 3), int(rng.integers(1, 9)))
    moved = _moving(rng, shape)
    dy = _finite(rng, moved.infer({"x": np.zeros(shape, np.float32)})["y"][0])
    return op.MovedGrad(moved, shape), {"dy": dy}


def _embedding(rng, form):
    rows, width = rng.integers(1, [30, 9]).tolist()
    indices = rng.integers(0, rows, _shape(rng, 2))
    if rng.random() < 0.5:
        return op.Embedding(), {"w": _finite(rng, (rows, width)), "indices": np.asarray(indices)}
    dy = _finite(rng, (*indices.shape, width)) if indices.shape else _finite(rng, (width,))
    return op.EmbeddingGrad(rows), {"indices": np.asarray(indices), "dy": dy}


OPERATORS = {maker.__name__.strip("_"): maker for maker in (
    _function, _function_grad, _binary, _rounded, _optimiser, _reduce_grad, _reduction, _sum_to, _softmax,
    _softmax_grad, _loss, _norm, _norm_grad, _pool, _pool_grad, _moved, _moved_grad, _embedding)}


def draw_operator(rng, name, form="bfloat16"):
    """Draw an operator of a name, and its tensors."""
    return OPERATORS[name](rng, form)
