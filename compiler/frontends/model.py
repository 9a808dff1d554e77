"""Networks read from files of other tools."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from ...hdl.errors import PearrayError
from ..graph.graph import Graph, Tensor
from ..operators.fields import MOST_ELEMENTS, whole

__all__ = ["Binding", "Model"]


@dataclass(frozen=True, eq=False)
class Binding:
    """What makes a graph of a network, besides the file.

    Parameters
    ----------
    batch : int or None
        First dimension of every input, if it is not the file's.
    shapes : mapping of str to tuple of int
        Shapes of inputs that have dimensions that the file leaves free.
    values : mapping of str to ndarray
        Values of inputs, for those that operators can't take but as constants.
    left : mapping of tuple of str to str
        Of each key the host makes the first tensor that the file has, though it could be mapped, for this reason.
    """

    batch: int | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    values: Mapping[str, np.ndarray] = field(default_factory=dict)
    left: Mapping[tuple[str, ...], str] = field(default_factory=dict)


@dataclass(eq=False)
class Model:
    """A network read from a file.

    Parameters
    ----------
    name : str
        Name of the file without what tells its format.
    inputs : dict of str to Tensor
        Inputs of a run, in the file's order. Where the file leaves the first dimension free it is 1, others are -1.
    outputs : list of str
        Outputs of a run.
    states : dict of str to str
        Inputs that stand for what the file keeps from one run to the next, each with the output that is to be the
        input of the next run.
    initial : dict of str to ndarray
        Values of those inputs for the first run, where the file says them.
    notes : list of str
        What has been changed in the network when it was read.
    fallback : "host", "exact" or None
        Who computes what cannot be mapped.
    """

    name: str
    inputs: dict[str, Tensor]
    outputs: list[str]
    _make: Callable[[Binding], Graph] = field(repr=False)
    states: dict[str, str] = field(default_factory=dict)
    initial: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    notes: list[str] = field(default_factory=list)
    fallback: str | None = None
    #: Inputs that have dimensions that the file leaves free.
    _free: frozenset[str] = field(default_factory=frozenset, repr=False)
    _graphs: dict[object, list[Graph]] = field(default_factory=dict, repr=False)
    #: Makes a graph on float32 for a batch, if the kind of file has any.
    _make_floats: Callable[[int | None], Graph] | None = field(default=None, repr=False)
    #: Tensors that the host makes though they could be mapped, with the reasons.
    _left: dict[tuple[str, ...], str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        # Who changed them would change every first run that follows.
        for value in self.initial.values():
            value.flags.writeable = False

    def graph(self, batch: int | None = None) -> Graph:
        """Graph of the network.

        Parameters
        ----------
        batch : int, optional
            First dimension of every input, instead of the file's.

        Raises
        ------
        PearrayError
            If an operator, attribute or shape is not supported, or the file leaves a dimension behind the first one
            free; the message names the node or the input.
        """
        if batch is not None:
            batch = whole(1, MOST_ELEMENTS)("batch", batch)
        return self._graph(Binding(batch, left=self._left))

    def float_graph(self, batch: int | None = None) -> Graph:
        """Graph of a network on float32, of operators on float32, which can be trained; see :meth:`graph`.

        Raises
        ------
        PearrayError
            If an operator is none that can be trained, or the file is none of ONNX.
        """
        if self._make_floats is None:
            raise PearrayError(f"{self.name} must be an ONNX file on float32 to be trained; a TensorFlow Lite file is "
                               "of integers")
        return self._make_floats(None if batch is None else whole(1, MOST_ELEMENTS)("batch", batch))

    def _graph(self, binding: Binding) -> Graph:
        found = self._graphs.setdefault((binding.batch, tuple(sorted(binding.shapes.items()))), [])
        for graph in found:
            if all(name in binding.values and np.array_equal(graph.constants[name], binding.values[name])
                   for name in self.inputs if name in graph.constants):
                return graph
        found.append(self._make(binding))
        return found[-1]

    def leave_to_host(self, graph: Graph, name: str, why: str) -> "Model | None":
        """Return the network with a node left to the host that no program computes on some accelerator.

        Parameters
        ----------
        graph : Graph
            One of the network's.
        name : str
            Name of a node of it.
        why : str
            The reason.

        Returns
        -------
        Model or None
            None if the host computes nothing of this network, or there is no such node.
        """
        nodes = [node for node in graph.nodes if node.name == name]
        if self.fallback is None or not nodes:
            return None
        names: list[str] = []
        waiting = [*nodes[0].outputs.values()]
        while waiting:
            names += waiting
            waiting = [made for node in graph.nodes if {*waiting} & {*node.inputs.values()}
                       for made in node.outputs.values() if made not in names]
        left = self._left | {tuple(names): why}
        return None if len(left) == len(self._left) else replace(self, _left=left, _graphs={})

    def graph_for(self, tensors: Mapping[str, np.ndarray]) -> Graph:
        """Graph for the batch that these inputs have, and for their sizes in what the file leaves free.

        Inputs that operators can't take but as constants, as weights of convolutions and scales, are constants of it.
        """
        batches = {value.shape[0] for name, value in tensors.items()
                   if name in self.inputs and value.ndim and value.ndim == len(self.inputs[name].shape)}
        declared = {tensor.shape[0] for tensor in self.inputs.values() if tensor.shape}
        batch = batches.pop() if len(batches) == 1 and batches != declared else None
        shapes = {name: tuple(value.shape) for name, value in tensors.items() if name in self._free}
        return self._graph(Binding(batch, shapes, tensors, self._left))
