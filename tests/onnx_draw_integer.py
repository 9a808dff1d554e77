"""ONNX models of operators on stored integers, QLinearConv and the runtime's own, and of QuantizeLinear at the edges.

As :mod:`onnx_draw`. Where the runtime has a kernel for the types, its result is the definition, to the last bit.
"""

from dataclasses import replace

import numpy as np
import onnx
import standard
from onnx_case import BYTES, MICROSOFT, Drawn, ceil_mode, geometry, window
from standard import KINDS, Real

__all__ = ["FAMILIES"]

#: Types of activations, weights and results for which the runtime has contractions.
NATIVE = (("int8", "int8", "int8"), ("uint8", "int8", "uint8"), ("uint8", "uint8", "uint8"))


def _operand(draft, name, kind, shape, scale, *, fixed=False, channels=None, axis=1, limit=None, optional=False):
    """Draw a stored tensor; return the names of it, its scale and its zero point, and its real values."""
    (scales, point), names = draft.quantisation(name, kind, scale, channels=channels, optional=optional)
    stored = draft.stored(kind, shape, limit)
    if fixed:
        draft.constant(name, stored)
    else:
        draft.inputs[name] = stored
    draft.runtime &= bool(names[1]) and scales.shape != (1,)
    return [name, *names], standard.quantised(stored, scales, point, axis)


def _end(draft, real, kind, optional=False):
    """Scale and zero point of the result."""
    low, high, _ = KINDS[kind]
    spread = np.abs(real.values).max(initial=1e-3) / (high - low) * draft.one_of(0.7, 1.5, 3)
    (scale, point), names = draft.quantisation("y", kind, spread, optional=optional)
    draft.runtime &= bool(names[1]) and scale.shape != (1,)
    draft.kind = kind
    draft.least, draft.most = standard.store(real, scale.item(), point.item(), kind, fused=True)
    return names


def _types(draft):
    """Types of activations, weights and results, and the greatest weight that no kernel saturates on the way."""
    kinds = draft.one_of(*NATIVE) if draft.chance(0.7) else tuple(draft.one_of(*BYTES) for _ in range(3))
    draft.runtime = draft.exact = kinds in NATIVE
    return kinds, 63 if kinds[:2] == ("uint8", "int8") else None


def _steps(draft, x, w, count):
    """Stored bias, and its real values in the steps of the sums."""
    stored = draft.rng.integers(-3000, 3000, count).astype(np.int32)
    step = draft.scales[x].item() * draft.scales[w].astype(np.float64)
    step = step.reshape(()) if step.size == 1 else step
    values = stored * step
    return stored, Real(values, np.zeros(values.shape))


def qlinear_conv(rng):
    """QLinearConv with every window, bias or none."""
    draft = Drawn(rng, output="y")
    (x_kind, w_kind, y_kind), limit = _types(draft)
    kernel = [draft.upto(3), draft.upto(3)]
    shape, group = geometry(draft, kernel)
    m = group * draft.upto(3)
    attributes = window(draft, kernel) | ({"group": group} if group > 1 else {})
    x_names, x = _operand(draft, "x", x_kind, shape, 0.03)
    w_names, w = _operand(draft, "w", w_kind, (m, shape[1] // group, *kernel), 0.01, fixed=True, axis=0, limit=limit,
                          channels=m if draft.chance(0.5) else None)
    bias, b_name = None, ""
    if draft.chance(0.6):
        stored, bias = _steps(draft, "x", "w", (m,))
        b_name = draft.constant("b", stored)
    names = _end(draft, standard.convolution(x, w, bias, attributes), y_kind)
    draft.node("QLinearConv", [*x_names, *w_names, *names, b_name], ["y"], **attributes)
    return draft


def qlinear_matmul(rng):
    """QLinearMatMul of weights or of two activations."""
    draft = Drawn(rng, output="y")
    (a_kind, b_kind, y_kind), limit = _types(draft)
    k, n, fixed = draft.upto(12), draft.upto(6), draft.chance(0.7)
    a_names, a = _operand(draft, "a", a_kind, (*[draft.upto(3) for _ in range(draft.upto(2))], k), 0.03)
    b_names, b = _operand(draft, "b", b_kind, (k, n), 0.01, fixed=fixed, limit=limit,
                          channels=n if n > 1 and fixed and draft.chance(0.4) else None)
    names = _end(draft, standard.product(a, b), y_kind)
    draft.node("QLinearMatMul", [*a_names, *b_names, *names], ["y"])
    return draft


def qgemm(rng):
    """QGemm with either operand transposed, alpha, and every form of C, which is in steps of the scaled product."""
    draft = Drawn(rng, output="y")
    (a_kind, b_kind, y_kind), limit = _types(draft)
    m, k, n = draft.upto(6), draft.upto(12), draft.upto(6)
    attributes = {name: draft.upto(1, 0) for name in ("transA", "transB") if draft.chance(0.5)}
    if draft.chance(0.5):
        attributes["alpha"] = draft.one_of(0.5, 2.0, 0.7)
    flipped = [bool(attributes.get(name)) for name in ("transA", "transB")]
    a_names, a = _operand(draft, "a", a_kind, (k, m) if flipped[0] else (m, k), 0.03)
    b_names, b = _operand(draft, "b", b_kind, (n, k) if flipped[1] else (k, n), 0.01, fixed=True, limit=limit,
                          axis=1 - flipped[1], channels=n if n > 1 and draft.chance(0.4) else None)
    a, b = (replace(part, values=part.values.T, error=part.error.T) if turn else part
            for part, turn in zip((a, b), flipped, strict=True))
    alpha, c_name, c = attributes.get("alpha", 1.0), "", None
    if draft.chance(0.7):
        stored, c = _steps(draft, "a", "b", draft.one_of((n,), (1, n), (m, n), (m, 1), (1,), ()))
        c_name, c = draft.constant("c", stored), Real(c.values * np.float64(np.float32(alpha)), c.error)
    names = _end(draft, standard.product(a, b, c, alpha), y_kind)
    draft.node(f"{MICROSOFT}:QGemm", [*a_names, *b_names, c_name, *names], ["y"], **attributes)
    return draft


def qlinear_add(rng):
    """QLinearAdd of two tensors or a constant, zero points absent or not."""
    draft = Drawn(rng, output="y", exact=True)
    shape = (draft.upto(2), draft.upto(4), draft.upto(4), draft.upto(4))[:draft.one_of(2, 4)]
    kind, fixed = draft.one_of(*BYTES), draft.chance(0.5)
    other = draft.one_of((), (1,), (shape[1], *[1] * (len(shape) - 2)), (1, shape[1], *[1] * (len(shape) - 2)))
    a_names, a = _operand(draft, "a", kind, shape, 0.03, optional=True)
    b_names, b = _operand(draft, "b", kind, other if fixed else shape, 0.05, fixed=fixed, optional=True)
    names = _end(draft, standard.add(a, b), kind, optional=True)
    pairs = [b_names, a_names] if draft.chance(0.5) else [a_names, b_names]
    draft.node(f"{MICROSOFT}:QLinearAdd", [*pairs[0], *pairs[1], *names], ["y"])
    return draft


def qlinear_average_pool(rng):
    """QLinearAveragePool, padding counted or not, and QLinearGlobalAveragePool."""
    draft = Drawn(rng, output="y", exact=True)
    kernel = [draft.upto(3), draft.upto(3)]
    shape, _ = geometry(draft, kernel, groups=False)
    kind = draft.one_of(*BYTES)
    x_names, x = _operand(draft, "x", kind, shape, 0.03, optional=True)
    if draft.chance(0.3):
        names = _end(draft, standard.average(x, shape[2:], {}), kind, optional=True)
        draft.node(f"{MICROSOFT}:QLinearGlobalAveragePool", [*x_names, *names], ["y"], channels_last=0)
        return draft
    attributes = window(draft, kernel, pooled=True, dilations=False) | {"kernel_shape": kernel}
    # With both the runtime counts all of a window that hangs over the padding, whatever the float operator does.
    attributes |= ceil_mode(draft, attributes) if draft.chance(0.5) else {"count_include_pad": draft.upto(1, 0)}
    names = _end(draft, standard.average(x, kernel, attributes), kind, optional=True)
    draft.node(f"{MICROSOFT}:QLinearAveragePool", [*x_names, *names], ["y"], **attributes)
    return draft


def qlinear_unary(rng):
    """QLinearSigmoid and QLinearLeakyRelu, zero points absent or not."""
    draft = Drawn(rng, output="y", exact=True)
    kind, alpha = draft.one_of(*BYTES), draft.one_of(0.01, 0.3, 1.5)
    x_names, x = _operand(draft, "X", kind, (draft.upto(2), draft.upto(300)), 0.03, optional=True)
    sigmoid = draft.chance(0.5)
    real = standard.elementwise(x, (lambda x: 1 / (1 + np.exp(-x))) if sigmoid else (
        lambda x: np.where(x < 0, np.float64(np.float32(alpha)) * x, x)), 2.0, 4e-7 * sigmoid)
    names = _end(draft, real, kind, optional=True)
    draft.runtime = True
    # The runtime's absent input must be named by nothing, not left out.
    draft.nodes.append((f"{MICROSOFT}:QLinear{'Sigmoid' if sigmoid else 'LeakyRelu'}", [*x_names, *names], ["y"],
                        {} if sigmoid else {"alpha": alpha}))
    return draft


def stored(rng):
    """MaxPool, Relu and Clip of integers as they are stored."""
    draft = Drawn(rng, output="y", exact=True)
    kernel = [draft.upto(3), draft.upto(3)]
    shape, _ = geometry(draft, kernel, groups=False)
    draft.kind = kind = draft.one_of(*BYTES)
    low, high, holder = KINDS[kind]
    draft.inputs["x"] = x = draft.stored(kind, shape)
    which = draft.one_of("MaxPool", "Relu", "Clip")
    if which == "MaxPool":
        attributes = window(draft, kernel, pooled=True) | {"kernel_shape": kernel}
        attributes |= ceil_mode(draft, attributes)
        draft.node("MaxPool", ["x"], ["y"], **attributes)
        y = standard.maximum(x, kernel, attributes)
    elif which == "Relu":
        # The standard has Relu for signed integers only.
        draft.kind, draft.inputs["x"] = "int8", x.view(np.int8)
        draft.node("Relu", ["x"], ["y"])
        y = np.maximum(x.view(np.int8), 0)
    else:
        bounds = draft.rng.integers(low, high + 1, 2).astype(holder)
        given = [draft.chance(0.7) for _ in bounds]
        draft.node("Clip", ["x", *(draft.constant(name, value[()]) if there else "" for name, value, there in
                                   zip(("least", "most"), bounds, given, strict=True))], ["y"])
        least, most = (value if there else bound
                       for value, there, bound in zip(bounds, given, (low, high), strict=True))
        y = np.minimum(np.maximum(x, least), most)
    draft.least = draft.most = y.astype(np.int64)
    return draft


def edges(rng):
    """QuantizeLinear and DequantizeLinear at the edges, and a constant that the file quantises itself."""
    draft = Drawn(rng, opset=int(rng.choice([13, 19, 21, 23])), output="y")
    wide = (*BYTES, "int4", "uint4", "int16", "uint16") if draft.opset >= 21 else BYTES
    shape = (draft.upto(4), draft.upto(6))
    kind = draft.one_of(*wide)
    (scale, point), names = draft.quantisation("x", kind, 0.05)
    x = draft.rng.normal(0, 4, shape).astype(np.float32)
    if draft.chance(0.5):
        draft.inputs["x"] = x
    else:
        draft.constant("x", x)
    attributes = draft.typed(kind, names)
    draft.node("QuantizeLinear", ["x", *names], ["x_q"], **attributes)
    taken = {}
    if draft.opset >= 21 and draft.chance(0.3):
        taken["block_size"] = 0
    if draft.opset >= 23 and draft.chance(0.3):
        taken["output_dtype"] = onnx.TensorProto.FLOAT
    draft.node("DequantizeLinear", ["x_q", *names], ["x_d"], **taken)
    real = Real(x.astype(np.float64), np.abs(x) * 0.0)
    least, most = standard.store(real, scale.item(), point.item(), kind)
    quotient = np.clip(np.rint(x / scale).astype(np.int64) + point.astype(np.int64), *KINDS[kind][:2])
    assert ((least <= quotient) & (quotient <= most)).all()
    stored = standard.quantised(quotient, scale, point)
    if "x" in draft.inputs:
        draft.nodes[-1] = (*draft.nodes[-1][:2], ["y"], draft.nodes[-1][3])
        draft.kind, draft.least, draft.most = kind, quotient, quotient
        draft.scale, draft.point, draft.dequantised = scale.item(), point.item(), True
        return draft
    # A product by a constant that the file quantises; the runtime's kernels saturate other mixtures on the way.
    a_kind = kind if kind in BYTES else draft.one_of(*BYTES)
    a_d, a = draft.operand("a", a_kind, (draft.upto(3), shape[0]), 0.03)
    draft.node("MatMul", [a_d, "x_d"], ["g"])
    draft.output = "y_q"
    return draft.end("g", standard.product(a, stored), BYTES)


#: Families of models by name.
FAMILIES = {maker.__name__: maker for maker in (
    qlinear_conv, qlinear_matmul, qgemm, qlinear_add, qlinear_average_pool, qlinear_unary, stored, edges)}
