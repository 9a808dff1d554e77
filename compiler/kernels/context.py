"""What is shared where operators are stated as kernels: where tensors stand, and what follows from an operator."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...hdl.arithmetic.floating import FloatArithmetic
from ...hdl.errors import PearrayError
from ...hdl.post.float_lane import field_of
from ...hdl.shell.commands import Opcode, Rounding
from ...hdl.shell.config import Config
from ..graph.graph import Graph, Node
from ..operators import Contraction, FixedPoint, Lookup, Max, MaxPool2d, Min, Quantize, Relu, Requant
from .kernel import Finish
from .layout import Layout
from .views import Buffer, View

__all__ = ["Context", "Located", "Moving", "check_range", "finish_of", "float_entry", "scale_entries", "stored_range",
           "tflite_entry"]


@dataclass(frozen=True)
class Located:
    """A tensor of the graph in memory: its buffer, and the order of its elements there."""

    buffer: Buffer
    layout: Layout

    def is_plain(self) -> bool:
        """Whether images stand with their channels last, and all else row-major."""
        return self.layout.same_memory(Layout.of(self.layout.shape))


@dataclass(frozen=True)
class Moving:
    """What of a buffer is read or written follows a position of the graph.

    Parameters
    ----------
    opcode : Opcode
        Commands that go on with it, of all that touch the buffer: LOAD or STORE.
    buffer : Buffer
        Memory within which they do.
    position : str
        Name of the position.
    step : int
        Bytes for each.
    """

    opcode: Opcode
    buffer: Buffer
    position: str
    step: int


@dataclass
class Context:
    """The graph, and where its tensors stand so far.

    Members
    -------
    located : dict of str to Located
        By name of the tensor.
    made : list of Buffer
        Buffers that want a place, in order; whoever places them empties the list.
    shared : dict of Hashable to Buffer
        Constants of nodes that may serve others, too, by what they depend on.
    moving : list of Moving
        What follows positions.
    wanted : dict of str to Layout
        Layouts that readers want tensors to have.
    most : int or None
        Greatest position of runs of the program, if it is less than what tensors have room for.
    """

    graph: Graph
    config: Config
    is_fixed_point: bool
    located: dict[str, Located] = field(default_factory=dict)
    made: list[Buffer] = field(default_factory=list)
    shared: dict[Hashable, Buffer] = field(default_factory=dict)
    moving: list[Moving] = field(default_factory=list)
    wanted: dict[str, Layout] = field(default_factory=dict)
    most: int | None = None

    def constant(self, name: str) -> np.ndarray | None:
        """Value of a constant tensor, else None."""
        return self.graph.constants.get(name)

    def locate(self, name: str, *, bias: bool = False, layout: Layout | None = None,
               value: np.ndarray | None = None, columns: int = 0) -> Located:
        """Make a buffer for a tensor, whose values are known if `value` is given.

        Its rows have as many elements as the last axis in memory, if `columns` does not say how many.
        """
        tensor = self.graph.tensors[name]
        layout = layout or Layout.of(tensor.shape)
        item = 4 if bias and not self.is_fixed_point else self._item(name)
        columns = columns or max(layout.physical[-1] if layout.physical else 1, 1)
        count = int(np.prod(tensor.shape, dtype=np.int64))
        flat = None if value is None else layout.to_memory(value)
        self.located[name] = found = Located(Buffer(name, count // columns, columns, item, flat), layout)
        self.made.append(found.buffer)
        return found

    def views(self, name: str, layout: Layout) -> dict[str, Layout]:
        """Layouts of a tensor and of the views of it, if it stands in some layout, but for those that need a copy."""
        found = {name: layout}
        for view, source in self.graph.views.items():
            order = self.graph.orders.get(view)
            if source not in found:
                continue
            if order is None:
                found[view] = found[source].reshaped(self.graph.tensors[view].shape)
            elif found[source].factors() is not None:
                found[view] = found[source].transposed(order)
        return found

    def _item(self, name: str) -> int:
        """Bytes of an element in memory."""
        dtype, config = self.graph.tensors[name].dtype, self.config
        if isinstance(config.arithmetic, FloatArithmetic):
            return self._float_item(name, config.arithmetic)
        if dtype.name in ("int32", "int64"):
            return 4 if dtype.itemsize == 4 and config.sum_bytes == 4 else config.sum_bytes
        if dtype.itemsize > config.operand_bytes or dtype.kind not in "iu":
            raise PearrayError(f"{self.graph.named(name)} must be of an integer type of at most "
                               f"{config.operand_bytes * 8} bits for this accelerator, not {dtype}")
        return config.operand_bytes

    def _float_item(self, name: str, arithmetic: FloatArithmetic) -> int:
        """Bytes of an element of floats in memory: of an operand, or of a sum."""
        dtype, form = self.graph.tensors[name].dtype, arithmetic.format.name
        if self.config.has_routines and dtype.name in ("int32", "uint32", "int64"):
            # Labels, keys and numbers, which routines read as words.
            return arithmetic.sum_bytes
        if dtype.name not in (form, "float32"):
            raise PearrayError(f"{self.graph.named(name)} must be of type {form} or float32 for this accelerator, "
                               f"not {dtype}")
        return arithmetic.operand_bytes if dtype.name == form else arithmetic.sum_bytes

    def rows_apart(self, node: Node, role: str) -> PearrayError:
        """What to raise if rows of heads of an operand, or of what is made, stand in no way that strides tell."""
        name = self.graph.named({**node.inputs, **node.outputs}[role])
        return PearrayError(f"{self.graph.where(node)}{name} must have the elements of a row side by side in memory, "
                            "and rows and heads at the same distance")

    def heads(self, node: Node, role: str) -> tuple[Located, tuple[int, ...]]:
        """Input (H, P, E) of a node, and by how many elements heads, rows and elements are apart.

        Raises
        ------
        PearrayError
            If they are not at the same distance each, or elements of a row not side by side.
        """
        found = self.operand(node, role)
        strides = found.layout.strides()
        if strides is None or strides[2] > 1:
            raise self.rows_apart(node, role)
        return found, strides

    def operand(self, node: Node, role: str) -> Located:
        """A tensor in memory that feeds the array; a constant is put there as it is."""
        name = node.inputs[role]
        self._check_made(node, name)
        if name not in self.located:
            return self.locate(name, value=self.fits(name, self.graph.constants[name]))
        return self.located[name]

    def image(self, node: Node, outside: int = 0, role: str = "x") -> View:
        """Input of a node as images with channels last, which it must be in memory."""
        name = node.inputs[role]
        if name in self.located and not self.located[name].is_plain():
            raise PearrayError(f"{node.name}: {self.graph.named(name)} does not stand in memory as NHWC; a reshape to "
                               "images is possible only where channels stay last")
        n, c, h, w = self.graph.tensors[name].shape
        return View.rows(self.operand(node, role).buffer, "nhwc", (n, h, w, c), outside)

    def result(self, node: Node, layout: Layout | None = None, role: str = "y", columns: int = 0) -> Buffer:
        """Buffer of an output that STOREs will fill."""
        buffer = self.locate(node.outputs[role], layout=layout, columns=columns).buffer
        buffer.expect_stores()
        return buffer

    def result_image(self, node: Node, role: str = "y") -> View:
        """Buffer of an output as images with channels last."""
        n, c, h, w = self.graph.tensors[node.outputs[role]].shape
        return View.rows(self.result(node, role=role), "nhwc", (n, h, w, c))

    def _limits(self, dtype: np.dtype) -> tuple[int, int]:
        """Least and greatest operand of the array."""
        return self.config.arithmetic.operand_range(dtype.kind == "u")

    def _check_made(self, node: Node, name: str) -> None:
        """Check that what a node before makes fits the array, whose operands may be narrower than a byte or two."""
        tensor = self.graph.tensors[name]
        if self.config.has_floats:
            return
        made = stored_range(self.graph, name)
        if made is None or self.config.arithmetic.bits == 8 * tensor.dtype.itemsize:
            return
        low, high = self._limits(tensor.dtype)
        if made[0] < low or made[1] > high:
            raise PearrayError(f"{node.name}: {self.graph.named(name)} must be clamped to {low}..{high} to be an "
                               f"operand of this accelerator, not to {made[0]}..{made[1]}; see Requant's clamp")

    def fits(self, name: str, values: np.ndarray) -> np.ndarray:
        """Check that constant operands fit the array; those of floats are their bits from now on."""
        if self.config.has_floats:
            return self.config.arithmetic.to_memory(values, self.config.operand_bytes)
        check_range(name, values, *self._limits(values.dtype))
        return values

    def stored(self, node: Node[Contraction]) -> list[dict[str, Any]]:
        """Fields of the activations and the weights of a contraction."""
        return [self.checked_zero(node, f"{name}_zero_point", zero, node.inputs[role])
                for name, role, zero in zip("xw", node.operator.roles, node.operator.zero_points, strict=False)]

    def checked_zero(self, node: Node, field_name: str, value: int, name: str) -> dict[str, Any]:
        """Fields of an operand: how tensor `name` is stored, and its zero point, which must fit a command's field.

        Raises
        ------
        PearrayError
            If the zero point is no stored value of the array's width.
        """
        dtype = self.graph.tensors[name].dtype
        low, high = self._limits(dtype)
        low, high = max(low, -256), min(high, 255)
        if not low <= value <= high:
            raise PearrayError(f"{node.name}: {field_name} must be in {low}..{high} on this accelerator, not {value}")
        return {"zero": value, "is_unsigned": dtype.kind == "u"}


def check_range(name: str, values: np.ndarray, low: int, high: int) -> None:
    """Check that what a user gives is within what the accelerator takes."""
    if values.size and (values.min() < low or values.max() > high):
        wrong = values.min() if values.min() < low else values.max()
        raise PearrayError(f"{name} must have values in {low}..{high} for this accelerator, not {wrong}")


def stored_range(graph: Graph, name: str) -> tuple[int, int] | None:
    """Least and greatest stored value that a tensor can have, or None if no node makes it."""
    node = next((node for node in graph.nodes if graph.source(name) in node.outputs.values()), None)
    if node is None:
        return None
    operator = node.operator
    if isinstance(operator, Contraction) and isinstance(operator.requant, (Requant, FixedPoint)):
        x_dtype = graph.tensors[node.inputs[operator.roles[0]]].dtype
        table = operator.table(x_dtype)
        return operator.bounds(x_dtype) if table is None else (int(table.min()), int(table.max()))
    if isinstance(operator, Lookup):
        return int(operator.table.min()), int(operator.table.max())
    if isinstance(operator, Quantize):
        # The host quantises, and inputs are checked when they are given.
        return None
    if isinstance(operator, (Max, MaxPool2d, Min, Relu)):
        # What no node makes is checked where it is given.
        found = [each for each in (stored_range(graph, name) for name in node.inputs.values()) if each is not None]
        return (min(low for low, _ in found), max(high for _, high in found)) if found else None
    info = np.iinfo(graph.tensors[name].dtype)
    return int(info.min), int(info.max)


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


def tflite_entry(multiplier: int, shift: int) -> np.ndarray:
    """Entry of the scale memory for a multiplier and a left shift."""
    return np.array([multiplier | (-shift & 63) << 32], np.uint64)


def _bias_of(context: Context, node: Node[Any], channels: int) -> np.ndarray | View | None:
    """Biases of a contraction of `channels` outputs; those of floats are bits."""
    role = node.operator.roles[2]
    if role not in node.inputs:
        return None
    name = node.inputs[role]
    value = context.constant(name)
    if value is not None:
        if context.config.has_floats:
            value = value.astype(np.float32).view(np.int32)
        if value.size == channels:
            check_range(f"{node.name}: {role}", value, -(1 << 31), (1 << 31) - 1)
            return value.reshape(-1)
    if name not in context.located:
        assert value is not None
        context.locate(name, bias=True, value=value)
    buffer = context.located[name].buffer
    return View.rows(buffer, "wc", (buffer.size // channels, channels))


def _float_finish(context: Context, node: Node[Any], bias: np.ndarray | View | None) -> Finish:
    """Post-processing of float32 sums, which stay as they are, or are rounded to the operands' format."""
    activation, form = node.operator.activation, context.graph.tensors[node.inputs[node.operator.roles[0]]].dtype
    if node.operator.requant is not None:
        if activation not in (None, "relu"):
            raise PearrayError(f"{context.graph.where(node)}activation must be None or 'relu' for float32 outputs of "
                               f"this accelerator, not {activation!r}")
        return Finish(bias=bias, relu=activation == "relu")
    bounds: tuple[float | None, float | None] = (None, None)
    if activation == "relu":
        bounds = 0.0, None
    elif activation is not None:
        name, *values = activation if isinstance(activation, tuple) else (activation,)
        if name != "clip":
            raise PearrayError(f"{context.graph.where(node)}activation must be None, 'relu' or ('clip', low, high) on "
                               f"an array of floats, not {activation!r}")
        bounds = values[0], values[1]
    low, high = (0 if bound is None else _bound(context, bound, form) for bound in bounds)
    return Finish(Rounding.ONNX, 0, low, high, bias=bias)


def _bound(context: Context, bound: float, form: np.dtype) -> int:
    """Field of a POST for a bound, rounded to the operands' format."""
    with np.errstate(over="ignore"):
        [bits] = context.config.arithmetic.to_memory(np.array([bound], np.float32).astype(form),
                                                     context.config.operand_bytes).tolist()
    return field_of(int(bits))


def finish_of(context: Context, node: Node[Any], channels: int) -> Finish:
    """Post-processing of a contraction of `channels` outputs; a bias that is no constant gets its place."""
    operator, bias = node.operator, _bias_of(context, node, channels)
    if context.config.has_floats:
        return _float_finish(context, node, bias)
    x_dtype = context.graph.tensors[node.inputs[operator.roles[0]]].dtype
    requant = operator.requant
    if not isinstance(requant, Requant):
        return Finish(bias=bias, relu=operator.activation == "relu",
                      shift=requant.shift if isinstance(requant, FixedPoint) else 0)
    low, high = operator.bounds(x_dtype)
    rounding = requant.rounding if requant.scale is not None else requant.tflite_rule(x_dtype)[0]
    return Finish(rounding, requant.y_zero_point, low, high, scale_entries(requant, x_dtype), bias,
                  operator.table(x_dtype))
