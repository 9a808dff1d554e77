"""Networks read from files of other tools."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from ..graph.graph import Graph, Tensor
from ..operators.fields import MOST_ELEMENTS, whole

__all__ = ["Model"]


@dataclass(eq=False)
class Model:
    """A network read from a file.

    Parameters
    ----------
    name : str
        Name of the file without what tells its format.
    inputs : dict of str to Tensor
        Inputs of a run, in the file's order. Where the file leaves the first dimension free it is 1.
    outputs : list of str
        Outputs of a run.
    """

    name: str
    inputs: dict[str, Tensor]
    outputs: list[str]
    _make: Callable[[int | None], Graph] = field(repr=False)
    _graphs: dict[int | None, Graph] = field(default_factory=dict, repr=False)

    def graph(self, batch: int | None = None) -> Graph:
        """Graph of the network.

        Parameters
        ----------
        batch : int, optional
            First dimension of every input, instead of the file's.

        Raises
        ------
        PearrayError
            If an operator, attribute or shape is not supported; the message names the node.
        """
        if batch is not None:
            batch = whole(1, MOST_ELEMENTS)("batch", batch)
        if batch not in self._graphs:
            self._graphs[batch] = self._make(batch)
        return self._graphs[batch]

    def graph_for(self, tensors: Mapping[str, np.ndarray]) -> Graph:
        """Graph for the batch that these inputs have."""
        batches = {value.shape[0] for name, value in tensors.items()
                   if name in self.inputs and value.ndim and value.ndim == len(self.inputs[name].shape)}
        declared = {tensor.shape[0] for tensor in self.inputs.values() if tensor.shape}
        return self.graph(batches.pop() if len(batches) == 1 and batches != declared else None)
