"""Verifier of kernels, which runs behind the lowering of every node."""

from collections.abc import Iterable, Sequence

from ...hdl.errors import PearrayError
from .kernel import Kernel
from .views import Buffer

__all__ = ["verify"]


def verify(name: str, kernels: Sequence[Kernel], outputs: Iterable[Buffer], written: set[Buffer]) -> None:
    """Check that a node's kernels stay inside their buffers, read what has been written, and write all outputs.

    `name` is the node's, and `written` what kernels of nodes before write; what these do is added.
    """
    for kernel in kernels:
        kernel.check()
        for buffer in kernel.buffers:
            if buffer.is_made and buffer not in written:
                raise PearrayError(f"{kernel.name}: {buffer.name} is read before a kernel writes it")
        written.add(kernel.y.view.buffer)
    for buffer in outputs:
        if buffer not in written:
            raise PearrayError(f"{name}: no kernel writes {buffer.name}")
