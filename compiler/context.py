"""What lowerings share: where tensors stand, and the fields of a problem that follow from an operator."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..hdl.commands import Rounding
from ..hdl.config import Config, RowStationaryConfig, SystolicConfig
from ..hdl.errors import PearrayError
from .graph import Graph, Node
from .lower import lower
from .lower_columns import lower_columns
from .operators import Contraction, FixedPoint, Lookup, MaxPool2d, Quantize, Relu, Requant, Reshape
from .plan import Layout, MemoryPlan, Stored
from .problem import Finish, Problem
from .row_stationary.choose import Chooser
from .row_stationary.choose import lower as lower_row_stationary
from .schedule import LayerStep
from .tiling import choose_tiling

__all__ = [
    "Context", "check_stored_zero", "finish_of", "float_entry", "image_of", "matrix_rows", "operand_fields",
    "scale_entries", "steps_of", "stored_range",
]


@dataclass
class Context:
    """What a lowering works with: the graph, the plan, and where tensors stand so far."""

    graph: Graph
    config: Config
    plan: MemoryPlan
    placed: dict[str, Any]
    stored: dict[str, Stored]
    place: Callable[..., None]
    chooser: Chooser = field(default_factory=Chooser)

    def constant(self, name: str) -> np.ndarray | None:
        """Value of a constant tensor, else None."""
        return self.graph.constants.get(name)

    def operand(self, node: Node, role: str) -> Stored:
        """A tensor in memory that feeds the array; a constant is put there as it is."""
        name = node.inputs[role]
        self._check_made(node, name)
        if name not in self.stored:
            value = self.fits(name, self.graph.constants[name])
            self.place(name)
            placed = self.placed[name]
            self.plan.segments.append((placed.address, placed.to_bytes(value)))
            self.plan.packed_bytes += placed.nbytes
        return self.stored[name]

    def _check_made(self, node: Node, name: str) -> None:
        """Check that what a node before makes fits the array, whose operands may be narrower than a byte or two."""
        bits = self.config.array.operand_bits
        tensor = self.graph.tensors[name]
        made = stored_range(self.graph, name)
        if made is None or bits == 8 * tensor.dtype.itemsize:
            return
        low, high = (0, (1 << bits) - 1) if tensor.dtype.kind == "u" else (-(1 << bits - 1), (1 << bits - 1) - 1)
        if made[0] < low or made[1] > high:
            raise PearrayError(f"{node.name}: {name} must be clamped to {low}..{high} to be an operand of this "
                               f"accelerator, not to {made[0]}..{made[1]}; see Requant's clamp")

    def result(self, node: Node) -> Stored:
        """The output's place in memory, which STOREs will fill."""
        name = next(iter(node.outputs.values()))
        self.place(name)
        self.stored[name].expect_stores()
        return self.stored[name]

    def fits(self, name: str, values: np.ndarray) -> np.ndarray:
        """Check that constant operands fit the array."""
        bits = self.config.array.operand_bits
        low, high = (0, (1 << bits) - 1) if values.dtype.kind == "u" else (-(1 << bits - 1), (1 << bits - 1) - 1)
        if values.size and (values.min() < low or values.max() > high):
            wrong = values.min() if values.min() < low else values.max()
            raise PearrayError(f"{name} must have values in {low}..{high} for this accelerator, not {wrong}")
        return values


def stored_range(graph: Graph, name: str) -> tuple[int, int] | None:
    """Least and greatest stored value that a tensor can have, or None if no node makes it."""
    node = next((node for node in graph.nodes if name in node.outputs.values()), None)
    if node is None:
        return None
    operator = node.operator
    info = np.iinfo(graph.tensors[name].dtype)
    whole = int(info.min), int(info.max)
    if isinstance(operator, Contraction) and operator.requant is not None:
        x_dtype = graph.tensors[node.inputs[operator.roles[0]]].dtype
        table = operator.table(x_dtype)
        return operator.bounds(x_dtype) if table is None else (int(table.min()), int(table.max()))
    if isinstance(operator, Lookup):
        return int(operator.table.min()), int(operator.table.max())
    if isinstance(operator, Quantize):
        # The host quantises, and inputs are checked when they are given.
        return None
    if isinstance(operator, (MaxPool2d, Relu, Reshape)):
        return stored_range(graph, node.inputs["x"])
    return whole


def scale_entries(requant: Requant, x_dtype: Any = np.int8) -> np.ndarray:
    """Entries of the scale memory, one for all or one for each channel, for activations of `x_dtype`."""
    if requant.rounding is Rounding.ONNX:
        assert requant.scale is not None
        return np.atleast_1d(requant.scale).view(np.uint32).astype(np.uint64)
    multiplier, shift = _normalised(requant, x_dtype)
    entries: np.ndarray = multiplier.astype(np.uint64) | ((-shift & 63).astype(np.uint64) << np.uint64(32))
    return entries


def _normalised(requant: Requant, x_dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """Multipliers and left shifts as the hardware takes them.

    The single rule needs a multiplier of at least ``2**30`` where it shifts left. Doubling the multiplier for one
    less of the shift is the same product. (With the double rule the sum itself is shifted and may wrap.)
    """
    assert requant.shift is not None
    rounding, factors = requant.tflite_rule(x_dtype)
    multiplier, shift = (part.copy() for part in np.broadcast_arrays(
        np.atleast_1d(factors), np.atleast_1d(requant.shift)))
    if rounding is Rounding.TFLITE_SINGLE:
        shift[multiplier == 0] = 0
        while (small := (shift > 0) & (multiplier < 1 << 30)).any():
            multiplier[small] *= 2
            shift[small] -= 1
    return multiplier, shift


def float_entry(value: Any) -> np.ndarray:
    """Entry of the scale memory for one float32 factor."""
    return np.atleast_1d(np.float32(value)).view(np.uint32).astype(np.uint64)


def finish_of(context: Context, node: Node, channels: int) -> Finish:
    """Post-processing of a contraction of `channels` outputs; a bias that is no constant gets its place."""
    operator = node.operator
    assert isinstance(operator, Contraction)
    bias: np.ndarray | Stored | None = None
    role = operator.roles[2]
    if role in node.inputs:
        name = node.inputs[role]
        value = context.constant(name)
        if value is not None and value.size == channels:
            if np.abs(value.astype(np.int64)).max() >= 1 << 31:
                raise PearrayError(f"{node.name}: {role} must have 32-bit values")
            bias = value.reshape(-1)
        else:
            if name not in context.stored:
                context.place(name, bias=True)
                placed = context.placed[name]
                assert value is not None
                context.plan.segments.append((placed.address, placed.to_bytes(value)))
                context.plan.packed_bytes += placed.nbytes
            bias = context.stored[name]
            if bias.pixels * bias.channels == channels:
                bias = bias.viewed(1, channels)
    x_dtype = context.graph.tensors[node.inputs[operator.roles[0]]].dtype
    requant = operator.requant
    if not isinstance(requant, Requant):
        return Finish(bias=bias, relu=operator.activation == "relu",
                      shift=requant.shift if isinstance(requant, FixedPoint) else 0)
    low, high = operator.bounds(x_dtype)
    rounding = requant.rounding if requant.scale is not None else requant.tflite_rule(x_dtype)[0]
    return Finish(rounding, requant.y_zero_point, low, high, scale_entries(requant, x_dtype), bias,
                  operator.table(x_dtype))


def operand_fields(context: Context, node: Node) -> dict[str, Any]:
    """Fields of a problem that say how the operands of a contraction are stored."""
    operator = node.operator
    assert isinstance(operator, Contraction)
    a, w = (context.graph.tensors[node.inputs[role]].dtype for role in operator.roles[:2])
    a_zero, w_zero = operator.zero_points
    for name, value, kind in (("x_zero_point", a_zero, a.kind), ("w_zero_point", w_zero, w.kind)):
        check_stored_zero(context, node, name, value, kind == "u")
    return {"a_zero": a_zero, "w_zero": w_zero, "a_unsigned": a.kind == "u", "w_unsigned": w.kind == "u",
            "fill": a_zero}


def check_stored_zero(context: Context, node: Node, name: str, value: int, is_unsigned: bool) -> None:
    """Check that a zero point is a stored value of the array's width, and fits its field of a command."""
    bits = context.config.array.operand_bits
    low, high = (0, (1 << bits) - 1) if is_unsigned else (-(1 << bits - 1), (1 << bits - 1) - 1)
    low, high = max(low, -256), min(high, 255)
    if not low <= value <= high:
        raise PearrayError(f"{node.name}: {name} must be in {low}..{high} on this accelerator, not {value}")


def steps_of(context: Context, problem: Problem) -> Sequence[LayerStep]:
    """Tile a problem and lower it, as the kind of array wants it."""
    config = context.config
    if isinstance(config, RowStationaryConfig):
        return lower_row_stationary(problem, config, context.plan, context.chooser)
    assert isinstance(config, SystolicConfig)
    if problem.columns:
        return lower_columns(problem, config, context.plan)
    return lower(problem, config, context.plan, choose_tiling(problem, config))


def matrix_rows(context: Context, node: Node, role: str) -> tuple[Stored, np.ndarray | None]:
    """A two-dimensional operand as rows in memory, and the order in which a row's elements stand there."""
    stored = context.operand(node, role)
    layout: Layout = context.placed[node.inputs[role]].layout
    rows, columns = layout.shape
    stored = stored.viewed(rows, columns)
    if layout.same_memory(Layout((rows, columns), (0, 1), (rows, columns))):
        return stored, None
    positions = layout.positions()
    if not np.array_equal(positions, np.arange(rows)[:, None] * columns + positions[0]):
        raise PearrayError(f"{node.name}: {node.inputs[role]} has a layout in memory that mixes its rows; "
                           "reshape keeping the first axis")
    return stored, np.argsort(positions[0])


def image_of(context: Context, node: Node) -> Stored:
    """Return the input of a node as pixels of channels, which it must be in memory."""
    layout: Layout = context.placed[node.inputs["x"]].layout if node.inputs["x"] in context.placed else \
        Layout.of(context.graph.tensors[node.inputs["x"]].shape)
    if not layout.same_memory(Layout.of(layout.shape)):
        raise PearrayError(f"{node.name}: {node.inputs['x']} does not stand in memory as NHWC; a reshape to images "
                           "is possible only where channels stay last")
    n, c, h, w = layout.shape
    return context.operand(node, "x").viewed(n * h * w, c)
