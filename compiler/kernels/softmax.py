"""Softmax of rows of bytes, as one kernel."""

from dataclasses import dataclass

import numpy as np

from ...hdl.errors import PearrayError
from ...hdl.post.float_rows import INVERSE_BITS
from ..graph.graph import Node
from ..operators import Softmax
from .context import Context
from .kernel import Access, Index, Kernel
from .layout import Layout
from .views import View

__all__ = ["RowSoftmax", "softmax"]


@dataclass(kw_only=True, eq=False)
class RowSoftmax(Kernel):
    """``y[m, c] = softmax(c)(x[m, c])``, of rows m that stand one after another.

    Parameters
    ----------
    x : Access
        Operand, of 8 bits.
    exponentials : ndarray of shape (256,), int64 or float32
        Terms of elements that are 0 to 255 below the greatest of their row. Those in float32 are added one after
        another.
    low, high, point : int
        Least and greatest output, and the zero point.
    inverse : int
        With terms in float32, steps of an output in one.
    """

    terms: tuple[()] = ()
    combine: str = "softmax"
    x: Access
    exponentials: np.ndarray
    low: int
    high: int
    point: int
    inverse: int = 0

    @property
    def is_float(self) -> bool:
        """Whether terms are float32 numbers."""
        return self.exponentials.dtype.kind == "f"

    @property
    def accesses(self) -> tuple[Access, ...]:
        """Operands in memory."""
        return (self.x,)

    def __str__(self) -> str:
        return (f"{self.name}: {self.y} = softmax(c < {self.ranks['c']})({self.x}); "
                f"{'float32' if self.is_float else 'requantise tflite_double'} + {self.point}")


def softmax(context: Context, node: Node[Softmax]) -> list[Kernel]:
    """State Softmax of 8-bit tensors along what stands side by side in memory as a kernel of its own."""
    operator, config = node.operator, context.config
    where = context.graph.where(node)
    if not operator.is_scaled:
        raise PearrayError(f"{where}Softmax without scales has no lowering for this accelerator yet: give X_scale and "
                           "y_scale, and x of 8 bits")
    is_float = operator.rounding != "tflite"
    if not (config.has_float_softmax if is_float else config.has_row_softmax):
        key = "float_softmax" if is_float else "row_softmax"
        raise PearrayError(f"{where}Softmax with rounding {operator.rounding!r} needs an accelerator with post.{key} = "
                           "1 and operands of 8 bits")
    x = context.graph.tensors[node.inputs["x"]]
    found = context.operand(node, "x")
    width = x.shape[operator.axis]
    if not _side_by_side(found.layout, operator.axis):
        raise PearrayError(f"{where}axis of Softmax must be what stands side by side in memory, the last one, or that "
                           f"of the channels of images, not {operator.axis} of shape {tuple(x.shape)}")
    sizes = found.buffer.size // width, width
    y = context.result(node, found.layout)
    index = {"m": Index({"m": 1}), "c": Index({"c": 1})}
    inverse = operator.inverse if is_float else 0
    if inverse >= 1 << INVERSE_BITS:
        raise PearrayError(f"{where}y_scale must be greater than 1 / {1 << INVERSE_BITS} on this accelerator, not "
                           f"{operator.y_scale}")
    info = np.iinfo(context.graph.tensors[node.outputs["y"]].dtype)
    return [RowSoftmax(
        name=node.name, ranks=dict(zip("mc", sizes, strict=True)), exponentials=operator.terms(width),
        low=int(info.min), high=int(info.max), point=int(operator.y_zero_point), inverse=inverse,
        x=Access(View.rows(found.buffer, "mc", sizes), index, is_unsigned=x.dtype.kind == "u"),
        y=Access(View.rows(y, "mc", sizes), index))]


def _side_by_side(layout: Layout, axis: int) -> bool:
    """Whether elements along an axis of a tensor follow one another in memory, and rows of them are all there is."""
    rows = np.moveaxis(layout.positions(), axis, -1)
    rows = rows.reshape(-1, rows.shape[-1])
    return bool((rows[:, :1] % rows.shape[1] == 0).all() and (rows - rows[:, :1] == np.arange(rows.shape[1])).all())
