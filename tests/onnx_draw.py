"""ONNX models of one quantised float operator each, drawn over what the standard allows, with what may come out."""

import inspect
import math
from dataclasses import replace

import numpy as np
import standard
from onnx_case import BYTES, WORDS, Drawn, ceil_mode, geometry, window
from standard import Real

__all__ = ["FAMILIES"]


def _begin(rng, opsets=(13, 19, 21, 21, 23)):
    draft = Drawn(rng)
    draft.opset, draft.plain, draft.ties = draft.one_of(*opsets), draft.chance(0.4), draft.chance(0.3)
    return draft


def _kinds(draft):
    """Types of activations, weights and results, 8 bits or 16."""
    if draft.plain:
        kind = (draft.one_of(*BYTES),)
        return kind, ("int8",), kind
    if draft.opset >= 21 and draft.chance(0.15):
        return WORDS, WORDS, WORDS
    narrow = ("int4", "uint4") if draft.opset >= 21 else ()
    return BYTES, (*BYTES, *BYTES, *narrow), (*BYTES, *BYTES, *narrow, *(WORDS if draft.opset >= 21 else ()))


def _results(draft):
    """Types of the result of what is computed by a table or has a table behind it."""
    return (*BYTES, *BYTES, "int4", "uint4") if draft.opset >= 21 else BYTES


def conv(rng):
    """Conv between DequantizeLinear and QuantizeLinear."""
    draft = _begin(rng)
    kernel = [draft.upto(3), draft.upto(3)]
    shape, group = geometry(draft, kernel)
    m, (xs, ws, ys) = group * draft.upto(3), _kinds(draft)
    attributes = window(draft, kernel) | ({"group": group} if group > 1 else {})
    if draft.chance(0.5):
        attributes["kernel_shape"] = kernel
    x_kind, w_kind = draft.one_of(*xs), draft.one_of(*ws)
    channels = m if draft.chance(0.5) else None
    x_d, x = draft.operand("x", x_kind, shape, 0.03)
    limit = 63 if "int8" in (x_kind, w_kind) and "uint8" in (x_kind, w_kind) else None
    w_d, w = draft.operand("w", w_kind, (m, shape[1] // group, *kernel), 0.01, fixed=True, channels=channels,
                              axis=draft.one_of(0, -4) if channels else draft.one_of(None, 0), limit=limit)
    b_d, b = "", None
    if draft.chance(0.6):
        step = draft.scales["x"].item() * draft.scales["w"]
        b_d, b = draft.bias("b", (m,), step if channels else step.reshape(()), axis=draft.one_of(0, -1))
    draft.node("Conv", [x_d, w_d, b_d], ["c"], **attributes)
    return draft.end(*draft.activation("c", standard.convolution(x, w, b, attributes)), ys)


def conv_transpose(rng):
    """ConvTranspose between DequantizeLinear and QuantizeLinear."""
    draft = _begin(rng)
    kernel = [draft.upto(3), draft.upto(3)]
    group = draft.one_of(1, 1, 2, 3)
    shape = (draft.upto(2), group * draft.upto(3), draft.upto(4) + 1, draft.upto(4) + 1)
    per, (xs, ws, ys) = draft.upto(3), _kinds(draft)
    attributes = {"strides": [draft.upto(3), draft.upto(3)], "dilations": [draft.upto(2), draft.upto(2)]}
    attributes["output_padding"] = [draft.upto(step - 1, 0) for step in attributes["strides"]]
    if draft.chance(0.5):
        # Taps reach at least as far as their number, so that an output is left.
        attributes["pads"] = [draft.upto(min(1, taps - 1), 0) for taps in kernel * 2]
    attributes |= {"group": group} if group > 1 else {}
    x_d, x = draft.operand("x", draft.one_of(*xs), shape, 0.03)
    channels = per if draft.chance(0.5) else None
    w_d, w = draft.operand("w", draft.one_of(*ws), (shape[1], per, *kernel), 0.01, fixed=True, channels=channels,
                              axis=draft.one_of(1, -3) if channels else None)
    b_d, b = "", None
    if draft.chance(0.6):
        step = draft.scales["x"].item() * draft.scales["w"]
        b_d, b = draft.bias("b", (per * group,), np.tile(step, group) if channels else step.reshape(()), axis=0)
    draft.node("ConvTranspose", [x_d, w_d, b_d], ["c"], **attributes)
    return draft.end(*draft.activation("c", standard.transposed(x, w, b, attributes)), ys)


def gemm(rng):
    """Gemm with either operand transposed, alpha, beta and every form of C."""
    draft = _begin(rng)
    m, k, n = draft.upto(6), draft.upto(12), draft.upto(6)
    (xs, ws, ys), attributes = _kinds(draft), {}
    for name in ("transA", "transB"):
        if draft.chance(0.5):
            attributes[name] = draft.upto(1, 0)
    for name in ("alpha", "beta"):
        if draft.chance(0.4):
            attributes[name] = draft.one_of(0.5, 2.0, 0.7, 1.0)
    if draft.chance(0.05):
        attributes["beta"] = 0.0
    flipped = [bool(attributes.get(name)) for name in ("transA", "transB")]
    a_kind, b_kind = draft.one_of(*xs), draft.one_of(*ws)
    a_d, a = draft.operand("a", a_kind, (k, m) if flipped[0] else (m, k), 0.03)
    channels = n if n > 1 and draft.chance(0.4) else None
    limit = 63 if "int8" in (a_kind, b_kind) and "uint8" in (a_kind, b_kind) else None
    b_d, b = draft.operand("b", b_kind, (n, k) if flipped[1] else (k, n), 0.01, fixed=True, channels=channels,
                              axis=1 - flipped[1] if channels else None, limit=limit)
    a, b = (replace(part, values=part.values.T, error=part.error.T) if turn else part
            for part, turn in zip((a, b), flipped, strict=True))
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
    c_d, c = "", None
    if draft.chance(0.7):
        shape = draft.one_of((n,), (1, n), (m, n), (m, 1), (1,), ())
        step = draft.scales["a"].item() * draft.scales["b"].astype(np.float64)
        if draft.chance(0.7) and beta:
            step = step * alpha / beta
        wide = channels and shape and shape[-1] == n
        step = step if wide else step.flat[0]
        c_d, c = draft.bias("c", shape, step, axis=len(shape) - 1 if wide else None, per_step=alpha / (beta or 1))
        draft.trusted &= bool(wide) or not channels
    draft.node("Gemm", [a_d, b_d, c_d], ["g"], **attributes)
    return draft.end(*draft.activation("g", standard.product(a, b, c, alpha, beta)), ys)


def matmul(rng):
    """MatMul of activations of 2 or 3 dimensions by weights, or by other activations."""
    draft = _begin(rng)
    k, n, (xs, ws, ys) = draft.upto(12), draft.upto(6), _kinds(draft)
    a_kind, b_kind = draft.one_of(*xs), draft.one_of(*ws)
    a_d, a = draft.operand("a", a_kind, (*[draft.upto(3) for _ in range(draft.upto(2))], k), 0.03)
    fixed = draft.chance(0.7) or b_kind not in (*BYTES, *WORDS)
    channels = n if n > 1 and draft.chance(0.4) and fixed else None
    limit = 63 if "int8" in (a_kind, b_kind) and "uint8" in (a_kind, b_kind) else None
    b_d, b = draft.operand("b", b_kind, (k, n), 0.01, fixed=fixed, channels=channels,
                              axis=draft.one_of(1, -1) if channels else None, limit=limit)
    draft.node("MatMul", [a_d, b_d], ["g"])
    return draft.end(*draft.activation("g", standard.product(a, b)), ys)


def add(rng):
    """Add of two tensors, or of a constant that is one number or one for each channel, on either side."""
    draft = _begin(rng)
    draft.fusable = True
    shape = (draft.upto(2), draft.upto(4), draft.upto(4), draft.upto(4))[:draft.one_of(2, 4)]
    kinds = (*BYTES, *WORDS) if draft.opset >= 21 and draft.chance(0.1) else BYTES
    kinds = (draft.one_of(*BYTES),) if draft.plain else kinds
    a_d, a = draft.operand("a", draft.one_of(*kinds), shape, 0.03)
    fixed = draft.chance(0.5)
    other = draft.one_of((), (1,), (shape[1], *[1] * (len(shape) - 2)), (1, shape[1], *[1] * (len(shape) - 2)))
    b_d, b = draft.operand("b", draft.one_of(*kinds), other if fixed else shape, 0.05, fixed=fixed)
    turned = draft.chance(0.5)
    draft.node("Add", [b_d, a_d] if turned else [a_d, b_d], ["s"])
    return draft.end(*draft.activation("s", standard.add(a, b)), kinds if draft.plain else _results(draft))


def average_pool(rng):
    """AveragePool, padding counted or not, with windows that hang over the end; GlobalAveragePool."""
    draft = _begin(rng)
    draft.fusable = True
    kernel = [draft.upto(3), draft.upto(3)]
    shape, _ = geometry(draft, kernel, groups=False)
    kind = draft.one_of(*BYTES)
    x_d, x = draft.operand("x", kind, shape, 0.03)
    kinds = (kind,) if draft.plain else _results(draft)
    if draft.chance(0.3):
        draft.node("GlobalAveragePool", [x_d], ["p"])
        return draft.end(*draft.activation("p", standard.average(x, shape[2:], {})), kinds)
    attributes = window(draft, kernel, pooled=True, dilations=False) | {"kernel_shape": kernel}
    attributes |= ceil_mode(draft, attributes)
    if draft.chance(0.4):
        attributes["count_include_pad"] = draft.upto(1, 0)
    draft.trusted = not (attributes.get("ceil_mode") and attributes.get("count_include_pad"))
    draft.node("AveragePool", [x_d], ["p"], **attributes)
    return draft.end(*draft.activation("p", standard.average(x, kernel, attributes)), kinds)


def moved(rng):
    """Operators that move values, MaxPool among them, between scales that are the same or not."""
    draft = _begin(rng)
    kernel = [draft.upto(3), draft.upto(3)]
    shape, _ = geometry(draft, kernel, groups=False)
    kind = draft.one_of(*BYTES, *BYTES, *(WORDS if draft.opset >= 21 else ()))
    x_d, x = draft.operand("x", kind, shape, 0.03)
    which = draft.one_of("MaxPool", "MaxPool", "Flatten", "Reshape", "Identity", "Unsqueeze", None)
    if which == "MaxPool":
        attributes = window(draft, kernel, pooled=True) | {"kernel_shape": kernel}
        attributes |= ceil_mode(draft, attributes)
        draft.node("MaxPool", [x_d], ["moved"], **attributes)
        x = Real(standard.maximum(x.values, kernel, attributes), standard.maximum(x.error, kernel, attributes))
    elif which is not None:
        extra = {"Reshape": [draft.constant("shape", np.array([0, -1]))],
                 "Unsqueeze": [draft.constant("axes", np.array([0]))]}.get(which, [])
        draft.node(which, [x_d, *extra], ["moved"], **({"axis": 2} if which == "Flatten" else {}))
        target = {"Flatten": (shape[0] * shape[1], -1), "Reshape": (shape[0], -1), "Unsqueeze": (1, *shape)}.get(
            which, shape)
        x = replace(x, values=x.values.reshape(target), error=x.error.reshape(target))
    name = x_d if which is None else "moved"
    if draft.chance(0.5):
        return draft.end(name, x, BYTES if kind in BYTES else (kind,))
    # The same scale again; the type may be another.
    scale, names = draft.scales["x"].item(), ["x_scale", "x_zero"]
    draft.kind = kind
    if "x_zero" not in draft.constants or draft.chance(0.3):
        draft.kind, names[1] = "uint8", ""
    point = draft.constants["x_zero"].item() if names[1] else 0
    draft.node("QuantizeLinear", [name, *names], ["y_q"])
    draft.least, draft.most = standard.store(x, scale, point, draft.kind)
    return draft


_ERF = np.vectorize(math.erf, otypes=[np.float64])

#: Functions of one operand, as the standard defines them: in float64, of an array and the attributes, with what the
#: runtime's approximation is off by.
UNARY = {
    "Relu": (lambda x: np.maximum(x, 0), 0),
    "LeakyRelu": (lambda x, alpha=0.01: np.where(x < 0, np.float64(np.float32(alpha)) * x, x), 0),
    "Sigmoid": (lambda x: 1 / (1 + np.exp(-x)), 4e-7),
    "Tanh": (lambda x: np.tanh(x), 4e-7),
    "Gelu": (lambda x: x * (1 + _ERF(x / math.sqrt(2))) / 2, 4e-7),
    "HardSigmoid": (lambda x, alpha=0.2, beta=0.5: np.clip(x * np.float32(alpha) + np.float32(beta), 0, 1), 4e-7),
    "HardSwish": (lambda x: x * np.clip(x / 6 + 0.5, 0, 1), 4e-7),
}

#: Versions of the standard that have an operator first, where that is later than 13.
_SINCE = {"Gelu": 20, "HardSwish": 14}


def unary(rng):
    """Functions of one operand, by table."""
    draft = _begin(rng, (13, 20, 21, 23))
    shape = (draft.upto(2), draft.upto(4), draft.upto(20), draft.upto(20))[:draft.one_of(2, 4)]
    x_kind = draft.one_of(*BYTES)
    x_d, x = draft.operand("x", x_kind, shape, 0.03)
    kinds = (x_kind,) if draft.plain else _results(draft)
    kind = draft.one_of("Clip", *UNARY)
    if kind == "Clip" or draft.opset < _SINCE.get(kind, 0):
        return draft.end(*draft.clip(x_d, x), kinds)
    function, own = UNARY[kind]
    attributes = {}
    for attribute in [*inspect.signature(function).parameters][1:]:
        if draft.chance(0.6):
            attributes[attribute] = float(np.float32(draft.one_of(0.3, 1.5, -0.2)))
    name = draft.node(kind, [x_d], ["activated" if kind == "Relu" else "f"], **attributes)
    return draft.end(name, standard.elementwise(x, lambda x: function(x, **attributes), 2.0, own), kinds)


#: Families of models by name.
FAMILIES = {maker.__name__: maker for maker in (
    conv, conv_transpose, gemm, matmul, add, average_pool, moved, unary)}
