"""Verifier of kernels, which runs behind the lowering of every node."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ...hdl.errors import PearrayError
from ..operators.moved import OUTSIDE
from .kernel import Access, Index, Kernel
from .routine import Routine
from .views import Buffer, View

__all__ = ["Written"]


class Written:
    """Which elements of which buffers kernels have written."""

    def __init__(self) -> None:
        #: Of buffers that kernels are writing, and those that have been written whole.
        self._masks: dict[Buffer, np.ndarray] = {}
        self._whole: set[Buffer] = set()

    def verify(self, name: str, kernels: Sequence[Kernel], outputs: Iterable[Buffer]) -> None:
        """Check a node's kernels, and take down what they write.

        They must stay inside their buffers, read only elements that have been written, and write each element of the
        node's outputs once.

        Parameters
        ----------
        name : str
            Name of the node.
        kernels : sequence of Kernel
            Its kernels, in order.
        outputs : iterable of Buffer
            Buffers of its outputs.

        Raises
        ------
        PearrayError
            At the first that does not.
        """
        for kernel in kernels:
            kernel.check()
            if isinstance(kernel, Routine):
                self._verify_routine(kernel)
                continue
            for access in kernel.accesses:
                if not self._is_written(access, kernel.ranks):
                    raise PearrayError(f"{kernel.name}: {access} is read before a kernel writes it")
            bias = kernel.finish.bias
            if isinstance(bias, View) and not self._is_written(Access(bias, {}), None):
                raise PearrayError(f"{kernel.name}: {bias.name} is read before a kernel writes it")
            self._write(kernel)
        for buffer in outputs:
            # What no program fills stands from the beginning, and some of it may have been written over.
            missing = 0 if buffer in self._whole or not buffer.is_made else buffer.size - int(self._mask(buffer).sum())
            if missing:
                raise PearrayError(f"{name}: no kernel writes {missing} of {buffer.size} elements of {buffer.name}")
            self._masks.pop(buffer, None)
            self._whole.add(buffer)

    def _verify_routine(self, kernel: Routine) -> None:
        """Check and take down what a routine reads and writes, element by element."""
        for source in kernel.sources.values():
            places, buffer = source.places[source.places != OUTSIDE], source.buffer
            if buffer.is_made and buffer not in self._whole and not self._mask(buffer)[places].all():
                raise PearrayError(f"{kernel.name}: {buffer.name} is read before a kernel writes it")
        for result in kernel.results.values():
            mask, places = self._mask(result.buffer), result.places[result.places != OUTSIDE]
            if mask[places].any() or np.unique(places).size != places.size:
                raise PearrayError(f"{kernel.name}: {result.buffer.name} is written more than once")
            mask[places] = True

    def _mask(self, buffer: Buffer) -> np.ndarray:
        """Which elements of a buffer that is being written are."""
        if buffer not in self._masks:
            self._masks[buffer] = np.full(buffer.size, buffer in self._whole)
        return self._masks[buffer]

    def _is_written(self, access: Access, ranks: Mapping[str, int] | None) -> bool:
        """Tell whether all elements inside a view, from the least to the greatest index of each axis, are written.

        Without ranks the whole view counts. What no program stores is there from the beginning.
        """
        view, sizes, start = access.view, [], access.view.offset
        if not view.buffer.is_made or view.buffer in self._whole:
            return True
        for axis in view.axes:
            first, last = 0, axis.size - 1
            if ranks is not None:
                least, greatest = access.indices.get(axis.name, Index({})).span(ranks)
                first, last = max(least, 0), min(greatest, last)
            sizes.append(max(last - first + 1, 0))
            start += first * axis.stride
        mask = self._mask(view.buffer)
        mask = np.repeat(mask, view.parts) if view.is_bytes else mask
        written = as_strided(mask[start:], sizes, [axis.stride for axis in view.axes])
        return bool(written.all())

    def _write(self, kernel: Kernel) -> None:
        """Mark what a kernel writes; none of it may have been written before."""
        y, ranks = kernel.y, sorted(kernel.y.ranks)
        mask = self._mask(y.view.buffer)
        steps, start = dict.fromkeys(ranks, 0), y.view.offset
        for axis in y.view.axes:
            index = y.indices.get(axis.name, Index({}))
            start += axis.stride * index.offset
            for rank, factor in index.factors.items():
                steps[rank] += axis.stride * factor
        sizes = [kernel.ranks[rank] for rank in ranks]
        # Outputs are written from the first to the last, so no step is negative.
        target = as_strided(mask[start:], sizes, [steps[rank] for rank in ranks])
        before = int(mask.sum())
        target[...] = True
        if int(mask.sum()) - before != np.prod(sizes, dtype=np.int64):
            raise PearrayError(f"{kernel.name}: {y} is written more than once")
