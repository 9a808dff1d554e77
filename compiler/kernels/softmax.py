"""Softmax of rows of bytes, as one kernel."""

from dataclasses import dataclass

import numpy as np

from ...hdl.errors import PearrayError
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
    exponentials : ndarray of shape (256,), int64
        Terms of elements that are 0 to 255 below the greatest of their row.
    low : int
        Least output, which is the zero point.
    """

    terms: tuple[()] = ()
    combine: str = "softmax"
    x: Access
    exponentials: np.ndarray
    low: int

    @property
    def accesses(self) -> tuple[Access, ...]:
        """Operands in memory."""
        return (self.x,)

    def __str__(self) -> str:
        return (f"{self.name}: {self.y} = softmax(c < {self.ranks['c']})({self.x}); "
                f"requantise tflite_double + {self.low}")


def softmax(context: Context, node: Node[Softmax]) -> list[Kernel]:
    """State Softmax of 8-bit tensors along what stands side by side in memory as a kernel of its own."""
    operator, config = node.operator, context.config
    where = f"{node.name}: " if len(context.graph.nodes) > 1 else ""
    if not operator.is_scaled:
        raise PearrayError(f"{where}Softmax without scales has no lowering for this accelerator yet: give X_scale and "
                           "y_scale, and x of 8 bits")
    if operator.rounding != "tflite":
        raise PearrayError(f"{where}Softmax has a lowering for rounding 'tflite' only, not {operator.rounding!r}")
    if not config.has_row_softmax:
        raise PearrayError(f"{where}Softmax needs an accelerator with post.row_softmax = 1 and operands of 8 bits")
    x = context.graph.tensors[node.inputs["x"]]
    found = context.operand(node, "x")
    width = x.shape[operator.axis]
    if not _side_by_side(found.layout, operator.axis):
        raise PearrayError(f"{where}axis of Softmax must be what stands side by side in memory, the last one, or that "
                           f"of the channels of images, not {operator.axis} of shape {tuple(x.shape)}")
    sizes = found.buffer.size // width, width
    y = context.result(node, found.layout)
    index = {"m": Index({"m": 1}), "c": Index({"c": 1})}
    return [RowSoftmax(
        name=node.name, ranks=dict(zip("mc", sizes, strict=True)), exponentials=operator.terms(),
        low=int(np.iinfo(x.dtype).min), x=Access(View.rows(found.buffer, "mc", sizes), index,
                                                 is_unsigned=x.dtype.kind == "u"),
        y=Access(View.rows(y, "mc", sizes), index))]


def _side_by_side(layout: Layout, axis: int) -> bool:
    """Whether elements along an axis of a tensor follow one another in memory, and rows of them are all there is."""
    rows = np.moveaxis(layout.positions(), axis, -1)
    rows = rows.reshape(-1, rows.shape[-1])
    return bool((rows[:, :1] % rows.shape[1] == 0).all() and (rows - rows[:, :1] == np.arange(rows.shape[1])).all())
