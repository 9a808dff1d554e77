"""A small quantised ONNX model under construction: drawn tensors, scales, zero points and types.

Every tensor has a scale of its own; zero points may be absent, as may optional inputs; constants may be shared; stored
types are mixed. A case carries the model, its inputs, and the least and the greatest output that are admissible
(:mod:`standard`).
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import standard
from standard import KINDS

__all__ = ["BYTES", "MICROSOFT", "WORDS", "Drawn", "ceil_mode", "geometry", "window"]

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
    ties : bool
        Whether scales are powers of two and their simple multiples, which make many exact halves, and zero points odd,
        even or at the ends of their types.
    fusable, kinds, limits
        Whether the runtime has a kernel for operands and a result of one type, the types of the operands so far, and
        what an activation behind it leaves.
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
    ties: bool = False
    fusable: bool = False
    kinds: set = field(default_factory=set)
    limits: tuple = (-np.inf, np.inf)
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
        if self.ties:
            values = np.exp2(np.rint(np.log2(values))) * self.one_of(1, 1, 1, 0.75, 1.25)
            values = np.asarray(values, np.float32)
        if channels is None and not self.plain and self.chance(0.1):
            values = values.reshape(1)
        names = [self.constant(f"{name}_scale", values), ""]
        point = np.zeros(values.shape, holder)
        if not optional or self.plain or self.chance(0.75):
            if self.chance(0.8):
                drawn = self.rng.integers(low, high + 1)
                drawn = self.one_of(low, high, drawn | 1, drawn & ~1) if self.ties else drawn
                point = np.full(values.shape, drawn, holder)
            names[1] = self.constant(f"{name}_zero", point, kind)
        self.scales[name] = values
        if channels is None and names[1]:
            self.shared[kind] = (values, point), (*names,)
        return (values, point), names

    def operand(self, name, kind, shape, scale, *, fixed=False, channels=None, axis=None, limit=None):
        """Draw a tensor behind a DequantizeLinear; return its float name and its values."""
        (scale, point), names = self.quantisation(name, kind, scale, channels=channels)
        stored = self.stored(kind, shape, limit)
        self.kinds.add(kind)
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
        least, most = (np.rint(limit / scale.item()) + point.item() for limit in self.limits)
        fused = self.fusable and self.kinds == {kind} and least <= low and high <= most
        self.least, self.most = standard.store(real, scale.item(), point.item(), kind, fused)
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
            self.limits = 0, np.inf
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
        self.limits = least, most
        return self.node("Clip", sources, ["activated"]), standard.elementwise(
            real, lambda x: np.minimum(np.maximum(x, least), most))


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
