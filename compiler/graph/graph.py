"""Graphs of operators over named tensors."""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np

from ...hdl.errors import PearrayError
from ..operators.fields import MOST_ELEMENTS, array, check_size, integers, number_type
from ..operators.operator import Operator, Quantisation, check_position

__all__ = ["Graph", "Node", "Quantisation", "Tensor", "unchanging"]

AnyOperator = TypeVar("AnyOperator", bound=Operator, covariant=True)


@dataclass(frozen=True)
class Tensor:
    """Name, shape and type of a tensor, in ONNX's layout (NCHW for images), and how it stands for real numbers."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    quantisation: Quantisation | None = None


@dataclass(frozen=True, eq=False)
class Node(Generic[AnyOperator]):
    """An operator between tensors.

    Parameters
    ----------
    name : str
        Name in reports.
    operator : Operator
        What it computes.
    inputs, outputs : dict of str to str
        Tensor of each role; an absent optional input is left out.
    on_host : bool
        Whether the host computes it, before or after the accelerator.
    """

    name: str
    operator: AnyOperator
    inputs: dict[str, str]
    outputs: dict[str, str]
    on_host: bool = False


@dataclass(eq=False)
class Graph:
    """Operators in topological order, with the tensors between them.

    Made at once, or of nothing step by step: :meth:`input` and :meth:`add` return the names of tensors, which later
    operators take, and :meth:`output` says which of them a run returns.

    Parameters
    ----------
    nodes : list of Node, optional
        In any order; sorted here.
    tensors : dict of str to Tensor
        At least inputs and constants; the rest is inferred where it is missing.
    constants : dict of str to ndarray
        Tensors known at compile time; one that somebody could still change is copied.
    inputs, outputs : list of str
        Tensors given at and wanted from each run.
    views : dict of str to str
        Tensors that are other shapes of others' elements, by name, with those others.
    orders : dict of str to tuple of int
        Order of the axes of views that are transposed, as ``numpy.transpose`` takes it.
    aliases : dict of str to str
        Tensors that the file does not have from which the graph is read, with those that messages name instead.

    Raises
    ------
    PearrayError
        If a tensor has no or two producers, the graph has a cycle, or a shape does not fit.
    """

    nodes: list[Node] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    views: dict[str, str] = field(default_factory=dict)
    orders: dict[str, tuple[int, ...]] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.constants = {name: unchanging(value) for name, value in self.constants.items()}
        for name, value in self.constants.items():
            known = self.tensors.get(name)
            if known is None or (known.shape, known.dtype) != (value.shape, value.dtype):
                self.tensors[name] = Tensor(name, value.shape, value.dtype)
        self.nodes = self._sorted()
        for node in self.nodes:
            self.infer(node)
        for name in self.outputs:
            if name not in self.tensors:
                raise PearrayError(f"output {name!r} of the graph is made by no node")

    def input(self, name: str, shape: int | Sequence[int], dtype: Any = np.int8) -> str:
        """Add a tensor that each run gives, and return its name.

        Parameters
        ----------
        name : str
            Name by which runs give it.
        shape : int or sequence of int
            Its shape, in ONNX's layout (NCHW for images); () for a position.
        dtype : NumPy type or its name
            Type of its elements.

        Raises
        ------
        PearrayError
            If the name is taken, or is none, or shape or type are none of a tensor.
        """
        self._check_new(name)
        sizes = integers(shape, 1, MOST_ELEMENTS)
        if not sizes and not (isinstance(shape, (tuple, list)) and not shape):
            raise PearrayError(f"shape of input {name!r} must be integers of at least 1, not {shape!r}")
        check_size(f"input {name!r}", sizes)
        self.tensors[name] = Tensor(name, sizes, number_type(f"dtype of input {name!r}", dtype))
        self.inputs.append(name)
        return name

    def constant(self, name: str, value: Any) -> str:
        """Add a tensor that all runs share, and that several operators may take; return its name.

        Raises
        ------
        PearrayError
            If the name is taken, or the value is no array of numbers.
        """
        self._check_new(name)
        found = unchanging(array(f"constant {name!r}", value, "an array of numbers", "iufb"))
        self.constants[name], self.tensors[name] = found, Tensor(name, found.shape, found.dtype)
        return name

    def add(self, name: str, operator: Operator, /, **inputs: Any) -> str:
        """Add an operator of one output, and return the name of that.

        Parameters
        ----------
        name : str
            Name of the operator in reports, and of the tensor that it makes.
        operator : Operator
            What it computes.
        **inputs : str, array_like or None
            For each of its roles the name of a tensor, or a constant, which is called `name`_role. None is absent.

        Raises
        ------
        PearrayError
            If a name is taken or unknown, an input does not fit, or the operator has several outputs
            (:meth:`add_several`).
        """
        if isinstance(operator, Operator) and len(operator.outputs) != 1:
            raise PearrayError(f"{name}: {operator.kind} makes {', '.join(operator.outputs)}; add it by add_several")
        self._check_new(name)
        return self._append(name, operator, inputs, lambda role: name)[0]

    def add_several(self, name: str, operator: Operator, /, **inputs: Any) -> tuple[str, ...]:
        """Add an operator of several outputs, such as Split, as :meth:`add` does; return their names, `name`_role."""
        self._check_new(name)
        return self._append(name, operator, inputs, lambda role: f"{name}_{role}")

    def output(self, *names: str) -> None:
        """Have runs return these tensors, behind those of calls before.

        Raises
        ------
        PearrayError
            If no operator makes one of them, or it is returned already.
        """
        for name in names:
            if not any(name in node.outputs.values() for node in self.nodes):
                raise PearrayError(f"output {name!r} of the graph is made by no node")
            if name in self.outputs:
                raise PearrayError(f"tensor {name!r} is an output of the graph already")
            self.outputs.append(name)

    def _check_new(self, name: Any) -> None:
        if not isinstance(name, str) or not name:
            raise PearrayError(f"name of a tensor must be a string that is not empty, not {name!r}")
        if name in self.tensors or any(name == node.name for node in self.nodes):
            raise PearrayError(f"name {name!r} is taken; give each tensor and operator one of its own")

    def _append(self, name: str, operator: Any, inputs: Mapping[str, Any],
                output: Callable[[str], str]) -> tuple[str, ...]:
        if not isinstance(operator, Operator):
            raise PearrayError(f"{name}: operator must be one such as pearray.Conv2d(), not {operator!r}")
        made = {role: output(role) for role in operator.outputs}
        given = {role: value for role, value in inputs.items() if value is not None}
        fixed = {role: (f"{name}_{role}", array(f"{name}: {role}", value, "the name of a tensor or an array of numbers",
                                                "iufb"))
                 for role, value in given.items() if not isinstance(value, str)}
        for new in (*made.values(), *(constant for constant, _ in fixed.values())):
            self._check_new(new)
        for role, value in given.items():
            if role not in fixed and value not in self.tensors:
                raise PearrayError(f"{name}: tensor {value!r} is made by no node before, and is no input of the graph")
        try:
            operator.infer({role: fixed[role][1] if role in fixed else self.tensors[value]
                            for role, value in given.items()})
        except PearrayError as error:
            raise PearrayError(f"{name}: {error}") from None
        names = {role: self.constant(*fixed[role]) if role in fixed else value for role, value in given.items()}
        self.nodes.append(Node(name, operator, names, made))
        self.infer(self.nodes[-1])
        return tuple(made.values())

    def infer(self, node: Node) -> None:
        """Give a node's outputs their types, or check those that they have."""
        try:
            specs = node.operator.infer(self.typed(node.inputs))
        except PearrayError as error:
            if len(self.nodes) == 1:
                raise
            raise PearrayError(f"{node.name}: {error}") from None
        for role, name in node.outputs.items():
            shape, dtype = specs[role]
            known = self.tensors.setdefault(name, Tensor(name, shape, dtype))
            if known.shape != shape or known.dtype != dtype:
                raise PearrayError(f"{node.name}: {name} must be {dtype} of shape {shape}, "
                                   f"not {known.dtype} of shape {known.shape}")

    def _sorted(self) -> list[Node]:
        producer: dict[str, Node] = {}
        for node in self.nodes:
            for name in node.outputs.values():
                if name in producer or name in self.constants or name in self.inputs:
                    raise PearrayError(f"{node.name}: tensor {name!r} is made twice")
                producer[name] = node
        known = set(self.inputs) | set(self.constants)
        ordered: list[Node] = []
        waiting = list(self.nodes)
        while waiting:
            ready = [node for node in waiting if all(self.source(name) in known for name in node.inputs.values())]
            if not ready:
                node = waiting[0]
                missing = next(name for name in node.inputs.values() if self.source(name) not in known)
                reason = "depends on itself" if missing in producer else "is made by no node"
                raise PearrayError(f"{node.name}: tensor {missing!r} {reason}")
            for node in ready:
                known.update(node.outputs.values())
            ordered += ready
            waiting = [node for node in waiting if node not in ready]
        return ordered

    def source(self, name: str) -> str:
        """Tensor whose elements a tensor has: its own name but for views."""
        while name in self.views:
            name = self.views[name]
        return name

    def where(self, node: Node) -> str:
        """Beginning of a message about a node, which a graph of one need not name."""
        return f"{node.name}: " if len(self.nodes) > 1 else ""

    def named(self, name: str) -> str:
        """Name of a tensor for messages."""
        while name in self.aliases:
            name = self.aliases[name]
        return name

    @property
    def masks(self) -> set[str]:
        """Tensors that may be of bool, or have values of minus infinity: masks, and inputs of bool."""
        made = {node.inputs[role] for node in self.nodes for role in node.operator.masks if role in node.inputs}
        return made | {name for name in self.inputs if self.tensors[name].dtype == bool}

    @property
    def positions(self) -> dict[str, int]:
        """Positions that a run gives, each with the greatest for which all that it concerns has room."""
        found: dict[str, int] = {}
        for node in self.nodes:
            for role in node.operator.positions:
                if role in node.inputs:
                    most = node.operator.most_position(self.typed(node.inputs))
                    found[node.inputs[role]] = min(most, found.get(node.inputs[role], most))
        return found

    @property
    def states(self) -> dict[str, str]:
        """Inputs that a run writes over, each with the tensor that stands in its place behind it."""
        return {node.inputs[role]: node.outputs[made] for node in self.nodes
                for role, made in node.operator.in_place.items()}

    def changed(self, **fields: Any) -> "Graph":
        """Return a graph with some fields changed, for passes: nodes stay in the order in which they are given."""
        made = copy(self)
        vars(made).update({name: copy(value) for name, value in vars(self).items()} | fields)
        return made

    def typed(self, roles: Mapping[str, str]) -> dict[str, Tensor]:
        """Tensor of each role."""
        return {role: self.tensors[name] for role, name in roles.items()}

    @classmethod
    def of(cls, operator: Operator, tensors: Mapping[str, Any], constants: Sequence[str] | None = None) -> "Graph":
        """Graph of one operator, whose tensors are named by their roles.

        Parameters
        ----------
        operator : Operator
            The operator.
        tensors : mapping of str to ndarray
            Inputs by role; None counts as absent.
        constants : sequence of str, optional
            Roles known at compile time, by default those the operator names: weights and biases of
            Linear and Conv2d may be packed, all operands of Gemm are activations.
        """
        arrays = {role: array(role, value, "an array of numbers", "iufb" if role in operator.masks else "iuf")
                  for role, value in tensors.items() if value is not None}
        operator.check_roles(arrays)
        fixed = operator.constants if constants is None else constants
        inputs = {role: role for role in operator.required + operator.optional if role in arrays}
        # An optimiser's output may have its input's name.
        outputs = {role: role if role not in inputs else f"{role}_out" for role in operator.outputs}
        return cls(
            nodes=[Node(operator.kind, operator, inputs, outputs)],
            tensors={role: Tensor(role, arrays[role].shape, arrays[role].dtype) for role in inputs},
            constants={role: arrays[role] for role in inputs if role in fixed},
            inputs=[role for role in inputs if role not in fixed],
            outputs=list(outputs.values()),
        )

    def check_inputs(self, inputs: Mapping[str, np.ndarray]) -> None:
        """Check names, shapes and types of the inputs of a run."""
        for name in self.inputs:
            if name not in inputs:
                raise PearrayError(f"input {name!r} is missing; the graph takes {', '.join(self.inputs)}")
        for name, value in inputs.items():
            if name not in self.inputs:
                raise PearrayError(f"{name!r} is no input; the graph takes {', '.join(self.inputs)}")
            tensor = self.tensors[name]
            if value.shape != tensor.shape or value.dtype != tensor.dtype:
                raise PearrayError(f"input {name!r} must be {tensor.dtype} of shape {tensor.shape}, "
                                   f"not {value.dtype} of shape {value.shape}")
        for name, most in self.positions.items():
            check_position(f"input {name!r}", inputs[name], most)

    def golden(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Every tensor that a node makes, from NumPy alone."""
        self.check_inputs(inputs)
        values = dict(self.constants) | dict(inputs)
        made: dict[str, np.ndarray] = {}
        for node in self.nodes:
            try:
                results = node.operator.golden({role: values[name] for role, name in node.inputs.items()})
            except PearrayError:
                raise
            except ValueError as error:
                raise PearrayError(f"{node.name}: {error}") from None
            for role, name in node.outputs.items():
                values[name] = made[name] = results[role]
        return made

    def macs(self, node: Node, given: Mapping[str, np.ndarray] | None = None) -> int:
        """Multiply-accumulates of one node, without those that masks and positions hide which are known or `given`."""
        values = {**self.constants, **(given or {})}
        known = {role: values[name] for role, name in node.inputs.items()
                 if role in (*node.operator.masks, *node.operator.positions) and name in values}
        return node.operator.macs(self.typed(node.inputs) | known)

    def __str__(self) -> str:
        """One line for each tensor that is given, and for each node with what it makes."""
        def typed(name: str) -> str:
            tensor = self.tensors[name]
            stored = f", {tensor.quantisation}" if tensor.quantisation is not None else ""
            return f"{name}: {tensor.dtype}{list(tensor.shape)}{stored}"

        lines = [f"input {typed(name)}" for name in self.inputs]
        lines += [f"constant {typed(name)}" for name in self.constants]
        lines += [f"view {typed(name)} of {source}{' in order ' if name in self.orders else ''}"
                  f"{self.orders.get(name, '')}" for name, source in self.views.items()]
        for node in self.nodes:
            inputs = ", ".join(f"{role}={name}" for role, name in node.inputs.items())
            made = ", ".join(map(typed, node.outputs.values()))
            lines.append(f"{'host ' if node.on_host else ''}{node.name}: {made} = {node.operator.kind}({inputs})")
        return "\n".join([*lines, f"output {', '.join(self.outputs)}"])


def unchanging(value: np.ndarray) -> np.ndarray:
    """Return an array that nobody can change: itself if its elements can't be written, else a copy."""
    owner: Any = value
    while isinstance(owner, np.ndarray) and not owner.flags.writeable:
        owner = owner.base
    if isinstance(owner, np.ndarray):
        value = value.copy()
        value.flags.writeable = False
    return value
