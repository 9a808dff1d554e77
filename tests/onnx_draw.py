"""ONNX models of one quantised operator each, drawn over what the standard allows, with what may come out.

Every tensor has a scale of its own; zero points may be absent, as may optional inputs; constants may be shared; stored
types are mixed. A case carries the model, its inputs, and the least and the greatest output that are admissible
(:mod:`standard`).
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import standard
from standard import KINDS, Real

__all__ = ["BYTES", "FAMILIES", "MICROSOFT", "Drawn", "ceil_mode", "geometry", "window"]

MICROSOFT = "com.microsoft"
BYTES, WORDS = ("int8", "uint8"), ("int16", "uint16")


@dataclass
class Drawn:
    """A model under construction, and in the end a case.

    Members
    -------
    rng : numpy.random.Generator
    opset : int
    nodes, inputs, constants
        As for ``onnx_models.make_model``.
    least, most : int arrays
        Admissible outputs.
    output : str
        Stored output.
    kind : str
        Its type.
    exact : bool
        Whether the runtime's integer kernel defines the result to the last bit.
    runtime : bool
        Whether the runtime takes such a model at all.
    trusted : bool
        Whether the runtime's optimiser keeps the meaning. It overlooks the scale of a bias of Gemm, takes a Relu away
        in front of 4 bits, and fuses AveragePool with one that counts otherwise where a window hangs over padding.
    plain : bool
        Whether types and zero points are such as the runtime fuses.
    dequantised, scale, point
        Whether the output is dequantised, and how.
    """

    rng: np.random.Generator
    opset: int = 21
    nodes: list = field(default_factory=list)
    inputs: dict = field(default_factory=dict)
    constants: dict = field(default_factory=dict)
    least: Any = None
    most: Any = None
    output: str = "y_q"
    kind: str = ""
    exact: bool = False
    runtime: bool = True
    trusted: bool = True
    plain: bool = False
    #: Scales of tensors by their names, and scale and zero point that others of a type may share.
    scales: dict = field(default_factory=dict)
    shared: dict = field(default_factory=dict)
    dequantised: bool = False
    scale: float = 1.0
    point: int = 0

    def chance(self, share):
        """Return true as often as `share` says."""
        return self.rng.random() < share

    def one_of(self, *values):
        """Choose one of some values."""
        return values[int(self.rng.integers(len(values)))]

    def upto(self, most, least=1):
        """Draw an integer in least..most."""
        return int(self.rng.integers(least, most + 1))

    def constant(self, name, value, kind=None):
        """Add a constant; one of 4 bits in the file's own type."""
        if kind in ("int4", "uint4"):
            proto = getattr(onnx.TensorProto, kind.upper())
            value = onnx.helper.make_tensor(name, proto, value.shape, value.reshape(-1).tolist())
        self.constants[name] = value
        return name

    def node(self, kind, sources, results, **attributes):
        """Append a node, without the absent inputs at its end; return its first output."""
        while sources and not sources[-1]:
            sources = sources[:-1]
        self.nodes.append((kind, sources, results, attributes))
        return results[0]

    def stored(self, kind, shape, limit=None):
        """Draw stored values over the range of a type, or up to a limit."""
        low, high, holder = KINDS[kind]
        if limit is not None:
            low, high = max(low, -limit), min(high, limit)
        return self.rng.integers(low, high + 1, shape).astype(holder)

    def quantisation(self, name, kind, scale, *, channels=None, optional=True):
        """Draw scale and zero point of a tensor: their values, and the names of the two inputs of a node.

        Now and then these are the very constants of another tensor.
        """
        low, high, holder = KINDS[kind]
        if channels is None and kind in self.shared and self.chance(0.1):
            (values, point), names = self.shared[kind]
            self.scales[name] = values
            return (values, point), [*names]
        count = () if channels is None else (channels,)
        values = (scale * self.rng.uniform(0.5, 2, count)).astype(np.float32)
        if self.chance(0.2):
            # Powers of two make exact halves.
            values = np.exp2(np.rint(np.log2(values))).astype(np.float32)
        if channels is None and not self.plain and self.chance(0.1):
            values = values.reshape(1)
        names = [self.constant(f"{name}_scale", values), ""]
        point = np.zeros(values.shape, holder)
        if not optional or self.plain or self.chance(0.75):
            if self.chance(0.8):
                point = np.full(values.shape, self.rng.integers(low, high + 1), holder)
            names[1] = self.constant(f"{name}_zero", point, kind)
        self.scales[name] = values
        if channels is None and names[1]:
            self.shared[kind] = (values, point), (*names,)
        return (values, point), names

    def operand(self, name, kind, shape, scale, *, fixed=False, channels=None, axis=None, limit=None):
        """Draw a tensor behind a DequantizeLinear; return its float name and its values."""
        (scale, point), names = self.quantisation(name, kind, scale, channels=channels)
        stored = self.stored(kind, shape, limit)
        attributes = {} if axis is None else {"axis": axis}
        if fixed:
            self.constant(f"{name}_q", stored, kind)
        elif kind in BYTES and self.chance(0.7):
            self.inputs[f"{name}_q"] = stored
        else:
            self._quantise_input(name, kind, stored, scale, point, names, shape)
        self.node("DequantizeLinear", [f"{name}_q", *names], [f"{name}_d"], **attributes)
        return f"{name}_d", standard.quantised(stored, scale, point, 1 if axis is None else axis)

    def _quantise_input(self, name, kind, stored, scale, point, names, shape):
        """Float input that a QuantizeLinear turns into just these stored values."""
        self.inputs[name] = ((stored.astype(np.float32) - point.astype(np.float32)) * scale).astype(np.float32)
        low, high, _ = KINDS[kind]
        self.inputs[name] += (self.rng.uniform(-0.4, 0.4, shape) * scale).astype(np.float32)
        quotient = np.rint(self.inputs[name] / scale.astype(np.float32))
        stored[...] = np.clip(quotient.astype(np.int64) + point.astype(np.int64), low, high)
        attributes = self.typed(kind, names)
        self.node("QuantizeLinear", [name, *names], [f"{name}_q"], **attributes)

    def typed(self, kind, names):
        """Attributes that give a QuantizeLinear its type, where no zero point does."""
        if kind == "uint8" and not names[1] and self.chance(0.7):
            return {}
        if not names[1] or self.chance(0.2):
            if self.opset < 21:
                names[1] = names[1] or self.constant(
                    f"{names[0]}:zero", np.zeros(self.constants[names[0]].shape, KINDS[kind][2]), kind)
                return {}
            return {"output_dtype": getattr(onnx.TensorProto, kind.upper())}
        return {"saturate": 0} if self.opset >= 19 and self.chance(0.1) else {}

    def end(self, name, real, kinds):
        """Quantise a float tensor, so that about all of its values fit."""
        self.kind = kind = self.one_of(*kinds)
        low, high, _ = KINDS[kind]
        spread = np.abs(real.values).max(initial=1e-3) / (high - low) * self.one_of(0.7, 1.5, 3)
        (scale, point), names = self.quantisation("y", kind, spread)
        attributes = self.typed(kind, names)
        self.node("QuantizeLinear", [name, *names], ["y_q"], **attributes)
        self.least, self.most = standard.store(real, scale.item(), point.item(), kind)
        if kind in ("int4", "uint4"):
            self.trusted &= name != "activated"
            # The runtime hands out no tensors of 4 bits.
            self.node("DequantizeLinear", ["y_q", *names], ["y_d"])
            self.output, self.dequantised = "y_d", True
            self.scale, self.point = scale.item(), point.item()
        return self

    def integers(self, value):
        """Stored integers of an output."""
        if not self.dequantised:
            return value.astype(np.int64)
        return np.rint(value.astype(np.float64) / self.scale).astype(np.int64) + self.point

    def bias(self, name, shape, step, *, axis=0, per_step=1):
        """Draw a bias behind a DequantizeLinear, whose scale is that of the sums, a multiple, a part, or any."""
        kind = self.one_of("int32", "int32", "int32", "int8", "uint8")
        step = np.asarray(step, np.float32)
        form = self.one_of("same", "same", "same", "near", "multiple", "part", "any")
        if form == "any" and self.chance(0.5):
            form = "same"
        most = 120 if kind != "int32" else self.one_of(300, 3000)
        stored = self.rng.integers(0 if kind == "uint8" else -most, most, shape).astype(kind)
        factor = {"same": 1, "near": 1 + self.one_of(-1, 1) * 1e-7, "multiple": self.one_of(2, 3), "part": 0.5,
                  "any": self.rng.uniform(0.3, 3)}[form]
        if form == "part":
            stored = stored // 2 * 2
        scale = (step * factor).astype(np.float32)
        if scale.ndim and axis is None:
            scale = np.float32(scale.flat[0])
        sources = [self.constant(f"{name}_q", stored), self.constant(f"{name}_scale", scale)]
        point = np.zeros(scale.shape, kind)
        if self.chance(0.4):
            if kind != "int32" and form != "part":
                point = np.full(scale.shape, self.rng.integers(0, 9), kind)
            sources.append(self.constant(f"{name}_zero", point))
        self.trusted = form in ("same", "near") and not point.any() and kind == "int32" and per_step == 1
        attributes = {} if axis is None else {"axis": axis}
        self.node("DequantizeLinear", sources, [f"{name}_d"], **attributes)
        return f"{name}_d", standard.quantised(stored, scale, point, axis or 0)

    def activation(self, name, real, kinds=("Relu", "Clip")):
        """Maybe put an activation behind an operator."""
        kind = self.one_of(*kinds, *[None] * 4)
        if kind is None:
            return name, real
        if kind == "Relu":
            return self.node("Relu", [name], ["activated"]), standard.elementwise(real, lambda x: np.maximum(x, 0))
        return self.clip(name, real)

    def clip(self, name, real):
        """Clip with either bound absent, infinite, or above the other one."""
        size = float(np.abs(real.values).max())
        low, high = (np.float32(value) for value in np.sort(self.rng.uniform(-size, size, 2)))
        if self.chance(0.15):
            low, high = high, low
        low, high = self.one_of(low, low, None, np.float32(-np.inf)), self.one_of(high, high, None, np.float32(np.inf))
        sources = [name, *("" if value is None else self.constant(bound, value)
                           for bound, value in (("low", low), ("high", high)))]
        least, most = -np.inf if low is None else low, np.inf if high is None else high
        return self.node("Clip", sources, ["activated"]), standard.elementwise(
            real, lambda x: np.minimum(np.maximum(x, least), most))


def _begin(rng, opsets=(13, 19, 21, 21, 23)):
    draft = Drawn(rng)
    draft.opset, draft.plain = draft.one_of(*opsets), draft.chance(0.4)
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


def window(draft, kernel, *, pooled=False, dilations=True):
    """Attributes of a window with at least one output."""
    attributes = {}
    if draft.chance(0.7):
        attributes["strides"] = [draft.upto(3), draft.upto(3)]
    if dilations and draft.chance(0.4):
        attributes["dilations"] = [draft.upto(2), draft.upto(2)]
    mode = draft.one_of("NOTSET", "NOTSET", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")
    if mode != "NOTSET":
        attributes["auto_pad"] = mode
    if mode.startswith("SAME"):
        # The runtime refuses dilations there, and steps beyond the window, which make negative padding.
        attributes.pop("dilations", None)
        attributes["strides"] = [draft.upto(taps) for taps in kernel]
    if mode == "NOTSET" and draft.chance(0.7):
        attributes["pads"] = [draft.upto(min(2, taps - 1) if pooled else 2, 0) for taps in kernel * 2]
    return attributes


def geometry(draft, kernel, *, groups=True):
    """Shapes (N, C, H, W) and number of groups."""
    group = draft.one_of(1, 1, 2, 3) if groups else 1
    size = [2 * taps + draft.upto(5, 0) for taps in kernel]
    return (draft.upto(2), group * draft.upto(3), *size), group


def ceil_mode(draft, attributes):
    """Maybe ``ceil_mode``, but not with VALID, where the runtime follows another formula than the standard's."""
    if attributes.get("auto_pad") == "VALID" or draft.chance(0.5):
        return {}
    return {"ceil_mode": draft.upto(1, 0)}


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
    a, b = (Real(part.values.T, part.error.T) if turn else part for part, turn in zip((a, b), flipped, strict=True))
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
        x = Real(x.values.reshape(target), x.error.reshape(target))
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


def unary(rng):
    """Functions of one operand, by table."""
    draft = _begin(rng, (13, 20, 21, 23))
    shape = (draft.upto(2), draft.upto(4), draft.upto(20), draft.upto(20))[:draft.one_of(2, 4)]
    x_kind = draft.one_of(*BYTES)
    x_d, x = draft.operand("x", x_kind, shape, 0.03)
    kinds = (x_kind,) if draft.plain else _results(draft)
    kind, attributes = draft.one_of("Relu", "LeakyRelu", "Sigmoid", "Tanh", "Clip", "Gelu"), {}
    kind = "Clip" if kind == "Gelu" and draft.opset < 20 else kind
    if kind == "Clip":
        return draft.end(*draft.clip(x_d, x), kinds)
    alpha = np.float32(0.01)
    if kind == "LeakyRelu" and draft.chance(0.7):
        alpha = np.float32(draft.one_of(0.3, 1.5, -0.2))
        attributes["alpha"] = float(alpha)
    name = draft.node(kind, [x_d], ["activated" if kind == "Relu" else "f"], **attributes)
    erf = np.vectorize(math.erf, otypes=[np.float64])
    real = standard.elementwise(x, {
        "Relu": lambda x: np.maximum(x, 0), "LeakyRelu": lambda x: np.where(x < 0, np.float64(alpha) * x, x),
        "Sigmoid": lambda x: 1 / (1 + np.exp(-x)), "Tanh": np.tanh,
        "Gelu": lambda x: x * (1 + erf(x / math.sqrt(2))) / 2}[kind], 2.0,
        # What the runtime's approximations of the functions are off by.
        0 if kind in ("Relu", "LeakyRelu") else 4e-7)
    return draft.end(name, real, kinds)


#: Families of models by name.
FAMILIES = {maker.__name__: maker for maker in (
    conv, conv_transpose, gemm, matmul, add, average_pool, moved, unary)}
