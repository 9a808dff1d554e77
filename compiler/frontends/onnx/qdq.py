"""Networks in QDQ form: float operators between DequantizeLinear and QuantizeLinear become quantised ones."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from ....hdl.errors import PearrayError
from ...operators import DynamicQuantize
from .attention import OPERATORS as ATTENTION
from .attention import is_attention, stored_attention
from .builder import Builder, OnnxNode, Quantisation
from .chains import ELEMENT_WISE, OTHERS, chain_of, is_element_wise, is_uniform, joined, stored_alike
from .entrances import entered
from .floats import Floats, check_first_output
from .floats import Stored as Names
from .folding import folded
from .forms import FORMS, QUANTISED, real_sums
from .fusion import SPELLED
from .moves import stored_inputs
from .norm_fusion import SUMS
from .norms import NORMS, is_norm, stored_norm
from .products import PRODUCTS, channels_of, follower, rank_of, scaled
from .quantisation import operand, real, result, several_scales
from .resizes import is_interpolation, stored_interpolation
from .rotary import is_rotary, stored_rotary
from .storing import BEFORE, VIEWS, End, Stores, emit, same_storage, stored_axis
from .values import Chain, Given, Limits, Moved, Result, Scaling, Stored, Value, limited

__all__ = ["FLOAT_OPERATORS", "FloatNodes"]

#: Operators that move values without computing with them, so that they may as well move stored ones.
_MOVING = ("Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "GlobalMaxPool", "Identity", "MaxPool", "Pad",
           "ReduceMax", "ReduceMin", "Reshape", "Resize", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile",
           "Transpose", "Unsqueeze")

#: Those of which a function of their elements is not the same of the elements moved.
_NO_MOVES = ("Concat", "GlobalMaxPool", "MaxPool", "Pad", "ReduceMax", "ReduceMin")

#: Operators that choose elements of several tensors, if these are not functions of one.
_CHOOSING = ("Max", "Min", "Where")

#: Operators that limit a tensor, alone or behind another operator.
_LIMITING = ("Relu", "Clip")


class FloatNodes:
    """Float operators seen so far in a network.

    Parameters
    ----------
    graph : Builder
        Graph under construction.
    inputs, outputs : collection of str
        Float inputs of the network, which the host quantises, and its outputs, which may be float.
    readers : mapping of str to nodes
        Who reads each tensor, with nodes from which no output follows: the runtime counts these, too.
    """

    def __init__(self, graph: Builder, inputs: Sequence[str], outputs: Sequence[str],
                 readers: Mapping[str, Sequence[OnnxNode]]):
        self._graph = graph
        self._outputs, self._readers = outputs, readers
        self._known: dict[str, Value] = {name: Given(name) for name in inputs}
        self._floats = Floats(self._names, self._value)
        self._stores = Stores(graph)

    def take(self, node: OnnxNode) -> bool:
        """Take a node if it belongs to the float form; emit quantised nodes where it ends.

        Raises
        ------
        PearrayError
            If a float tensor reaches an operator that cannot be computed with stored integers.
        """
        if is_attention(node):
            self._attend(node)
            return True
        is_between = is_interpolation(node) and node.input(0) in self._known
        if is_norm(node) or is_rotary(node) or is_between:
            stored = stored_interpolation if is_between else stored_norm if is_norm(node) else stored_rotary
            self._known[node.outputs[0]] = Result(node, _ends(stored(node, self._graph, self._floats)))
            return True
        if not node.domain and node.op_type in SUMS.values():
            self._known[node.outputs[0]] = self._result(node)
            return True
        if node.domain and not is_element_wise(node):
            return False
        if node.op_type == "DequantizeLinear":
            is_end = node.outputs[0] in self._outputs and not self._readers.get(node.outputs[0])
            if is_end and several_scales(node, self._graph, node.inputs[0]):
                return True
            found = operand(node, self._graph)
            self._known[node.outputs[0]] = Stored(node.inputs[0], node.inputs[1], self._zero_point(node, found), found)
            # A tensor for the user is made on the host; stored ones go on in any case.
            return node.outputs[0] not in self._outputs
        if (entry := entered(node, self._graph)) is not None:
            self._known[node.outputs[0]] = entry
            return True
        if not any(name in self._known for name in node.inputs):
            return False
        if not self._take_float(node):
            return False
        for name in node.outputs:
            value = self._known.get(name)
            is_read_twice = _is_read_twice(self._readers.get(name, ()), self._outputs)
            if isinstance(value, (Moved, Result)) and (name in self._outputs or is_read_twice):
                self._known[name] = replace(value, is_shared=True)
            elif isinstance(value, Chain) and is_read_twice:
                self._known[name] = replace(value, is_float=True)
        return True

    @property
    def unfinished(self) -> list[str]:
        """Outputs of the network that are float and not made yet."""
        return [name for name in self._outputs if name in self._known and name not in self._graph.tensors]

    def finish(self, name: str, node: OnnxNode) -> None:
        """Make an output of the network that is float, as a node does, on the host."""
        self._stores.give(self._known[name], name)

    def _take_float(self, node: OnnxNode) -> bool:
        """Take a node of the standard that reads a float tensor, or an element-wise one of com.microsoft, if known."""
        first = self._known.get(node.inputs[0])
        if node.op_type == "QuantizeLinear":
            self._quantise(node)
        elif node.op_type == "DynamicQuantizeLinear" and isinstance(first, Given):
            self._graph.append(node, DynamicQuantize(*first.limits), {"x": first.name})
        elif node.op_type == "Dropout":
            if node.input(2) and (self._value(node.input(2)) is None or np.any(self._value(node.input(2)))):
                raise PearrayError("training_mode must be false: export the network for inference")
            check_first_output(node)
            self._move(node.standing_for("Identity", node.inputs[:1], node.outputs[:1]))
        elif node.op_type in _MOVING:
            self._move(node)
        elif node.op_type in _LIMITING and isinstance(first, (Result, Moved, Given)):
            self._known[node.outputs[0]] = limited(first, *self._limits(node))
        elif not node.domain and node.op_type in _CHOOSING and self._is_of_several(node):
            self._move(node)
        elif is_element_wise(node):
            self._compute(node)
        elif node.op_type in QUANTISED:
            self._known[node.outputs[0]] = self._result(node)
        else:
            return False
        return True

    def _quantise(self, node: OnnxNode) -> None:
        value = self._known.get(node.input(0))
        if isinstance(value, Given) and value.limits == Limits() and several_scales(node, self._graph, value.name):
            return
        target = result(node, self._graph)
        if value is None:
            raise PearrayError(f"{node.input(0)!r} must be a float tensor of the network")
        end = End(node, self._zero_point(node, target), target)
        self._stores.store(value, end, node.outputs[0])

    def _zero_point(self, node: OnnxNode, found: Quantisation) -> str:
        """Name of the zero point of a node that quantises or dequantises; one is made for an absent one."""
        return node.input(2) or self._graph.store(f"{node.outputs[0]}:zero_point", np.asarray(found.zero_point),
                                                  found.clamp)

    def _result(self, node: OnnxNode) -> Result:
        """Result of an operator on stored tensors."""
        graph, form = self._graph, FORMS[node.op_type]
        operands = [self._operand(node, place) for place, name in enumerate(node.inputs[:form.tensors]) if name]
        make = partial(form.make, graph, node, operands)
        if node.op_type not in PRODUCTS or not isinstance(operands[1], Stored) or not isinstance(operands[0], Stored):
            return Result(node, make)
        count = channels_of(node, graph, operands[1])
        return Result(node, make, partial(real_sums, graph, node, operands), Scaling(),
                      channels=(PRODUCTS[node.op_type], count), rank=rank_of(node, graph, operands[0], operands[1]))

    def _operand(self, node: OnnxNode, place: int) -> Stored | np.ndarray:
        """Operand of an operator on stored tensors, or a float constant, which is a bias."""
        name = node.inputs[place]
        value, constant = self._known.get(name), self._graph.constants.get(name)
        if place == 2 and node.op_type in PRODUCTS and constant is not None and constant.dtype == np.float32:
            return constant
        if isinstance(value, Chain):
            value = stored_alike(node, value, self._graph) or value
        if isinstance(value, Stored):
            return value
        if value is None:
            raise PearrayError(f"input {name!r} must come from DequantizeLinear")
        raise self._unquantised(name, node)

    def _unquantised(self, name: str, node: OnnxNode) -> PearrayError:
        """What to raise if an operator reads a float tensor that is more than a function of stored bytes."""
        value = self._known[name]
        kinds = {Given: "an input of the network", Chain: "no tensor that its source's scale can store"}
        what = value.node.op_type if isinstance(value, (Result, Moved)) else kinds[type(value)]
        whose = "the result of " if isinstance(value, (Result, Moved)) else ""
        return PearrayError(f"{name!r}, {whose}{what}, must be stored in 8 bits before {node.op_type}: put "
                            "QuantizeLinear and DequantizeLinear between")

    def _check_numbers(self, node: OnnxNode) -> None:
        """Check that attributes are finite, and limits numbers."""
        for name, value in node.attributes.items():
            if isinstance(value, float) and not np.isfinite(value):
                raise PearrayError(f"{name} must be a finite number, not {value}")
        if node.op_type in _LIMITING:
            self._limits(node)
        if node.attributes.get("training_mode", 0):
            raise PearrayError("training_mode must be 0, not 1: export the network for inference")

    def _compute(self, node: OnnxNode) -> None:
        """Take an operator that computes element by element."""
        values = [self._known.get(name) for name in node.inputs]
        products = [value for value in values if isinstance(value, Result) and value.scaling is not None]
        if len(products) == 1 and all(value is products[0] or self._value(name) is not None
                                      for value, name in zip(values, node.inputs, strict=True) if name):
            [found] = products
            self._known[node.outputs[0]] = replace(found, scaling=scaled(found, *follower(
                node, [None if value is found else self._value(name)
                       for value, name in zip(values, node.inputs, strict=True)], found.rank)))
            return
        made = [name for name, value in zip(node.inputs, values, strict=True)
                if isinstance(value, (Result, Moved, Given))]
        if made:
            raise self._unquantised(made[0], node)
        self._check_numbers(node)
        chains = [chain_of(value, name, self._graph) if isinstance(value, Stored) else value
                  for name, value in zip(node.inputs, values, strict=True) if isinstance(value, (Stored, Chain))]
        sources = {chain.source for chain in chains if chain.source not in self._graph.constants}
        if len(sources) > 1 and node.op_type in QUANTISED:
            self._known[node.outputs[0]] = self._result(node)
            return
        chain = joined(node, chains, self._graph)
        if node.op_type in _LIMITING and chains[0].direct is not None:
            chain = replace(chain, direct=limited(chains[0].direct, *self._limits(node)))
        stored = [isinstance(value, Stored) for value in values]
        if node.op_type in QUANTISED and all(stored) and len(stored) == 2 and len(chains) > len(sources) and (
                any(chain.source in self._graph.constants for chain in chains)):
            chain = replace(chain, direct=self._result(node))
        self._known[node.outputs[0]] = chain

    def _is_of_several(self, node: OnnxNode) -> bool:
        """Whether what a node chooses of is no function of one stored tensor, or of too many constants for tables."""
        values = [self._known.get(name) for name in node.inputs]
        names = {value.source if isinstance(value, Chain) else value.name for value in values
                 if isinstance(value, (Chain, Stored))}
        if len(names - self._graph.constants.keys()) > 1 or any(
                isinstance(value, (Given, Moved, Result)) for value in values):
            return True
        constants = [value for name in node.inputs if (value := self._value(name)) is not None]
        return any(np.count_nonzero(np.array(value.shape) > 1) > 1 for value in constants) and (
            node.op_type != "Where" or node.inputs[0] in self._graph.constants)

    def _move(self, node: OnnxNode) -> None:
        """Take an operator that moves elements: move stored ones at once, or note what is to be moved later."""
        values = self._moved_values(node)
        given = [value for value in values if value is not None]
        first, graph = given[0], self._graph
        if node.op_type == "Identity":
            self._alias(node, first)
        elif (others := self._moved_at_once(node, given)) is not None:
            self._move_stored(node, [value for value in values if isinstance(value, Stored)], others)
        elif node.op_type == "Concat" and all(isinstance(value, Stored) for value in given):
            self._known[node.outputs[0]] = self._result(node)
        elif isinstance(first, Chain) and len(given) == 1 and node.op_type not in _NO_MOVES and is_uniform(
                first, graph):
            name = graph.inner(node.outputs[0], "stored")
            emit(node.standing_for(node.op_type, [first.source, *node.inputs[1:]], [name], node.attributes), graph)
            is_float = first.is_float or node.op_type not in BEFORE
            self._alias(node, replace(first, source=name, direct=None, is_float=is_float))
        else:
            for place, name in enumerate(node.outputs):
                self._known[name] = Moved(node, tuple(values), place)

    def _moved_at_once(self, node: OnnxNode, values: Sequence[Value | np.ndarray]) -> list[str] | None:
        """Inputs besides what is moved, where that is stored in one way, which can hold what is put beside it."""
        first = values[0]
        stored = [value for value in values if isinstance(value, Stored)]
        if not isinstance(first, Stored) or len(stored) < len(values) - (node.op_type == "Pad") or not all(
                same_storage(value.quantisation, first.quantisation) for value in stored):
            return None
        if node.op_type != "Pad":
            return [] if node.op_type == "Where" else node.inputs[len(stored):]
        try:
            return stored_inputs(node, self._graph, first.quantisation)
        except PearrayError:
            # The value that it puts there is rounded when it is known how the result is stored.
            return None

    def _alias(self, node: OnnxNode, value: Value | np.ndarray) -> None:
        """Give a value another name."""
        if isinstance(value, Chain):
            same = OnnxNode("Identity", "", node.name, [value.name], [node.outputs[0]], {})
            value = replace(value, nodes=(*value.nodes, same), name=node.outputs[0])
        if not isinstance(value, np.ndarray):
            self._known[node.outputs[0]] = value

    def _moved_values(self, node: OnnxNode) -> list[Value | np.ndarray | None]:
        """Values of the inputs that an operator moves, real numbers for constants; None for other inputs."""
        every = range(len(node.inputs))
        places = {"Concat": every, "Max": every, "Min": every, "Pad": (0, 2), "Where": (1, 2)}.get(node.op_type, (0,))
        values: list[Value | np.ndarray | None] = []
        for place in range(max(len(node.inputs), places[-1] + 1)):
            name = node.input(place)
            if place not in places:
                values.append(None)
            elif name in self._known:
                number = self._value(name) if node.op_type in _CHOOSING or (node.op_type == "Pad" and place) else None
                values.append(self._known[name] if number is None else number)
            elif not name and node.op_type == "Pad" and node.attributes.get("mode", b"constant") == b"constant":
                values.append(np.zeros((), np.float32))
            elif name in self._graph.constants:
                values.append(self._graph.constants[name])
            elif name:
                raise PearrayError(f"input {name!r} must come from DequantizeLinear, or be a constant")
        return values

    def _move_stored(self, node: OnnxNode, sources: Sequence[Stored], others: Sequence[str]) -> None:
        """Move stored tensors of one scale; constants at once."""
        graph, first = self._graph, sources[0]
        names = [source.name for source in sources]
        outputs = [name and graph.inner(name, "stored") for name in node.outputs]
        condition = node.inputs[:1] if node.op_type == "Where" else []
        made = node.standing_for(node.op_type, [*condition, *names, *others], outputs, node.attributes)
        found, shape = first.quantisation, graph.tensor(first.name).shape
        if all(name in graph.constants for name in made.inputs if name) and (
                node.op_type in VIEWS or not found.scale.ndim):
            graph.constants.update(folded(made, graph))
        elif found.scale.ndim:
            raise PearrayError(f"scale of {node.inputs[0]!r} must be one value in front of {node.op_type}, not "
                               f"{found.scale.size}")
        else:
            emit(made, graph)
        for name, stored in zip(node.outputs, outputs, strict=True):
            if found.scale.ndim:
                found = found._replace(axis=stored_axis(node, found.axis, shape, graph.tensor(stored).shape))
            if first.name in graph.ranges and node.op_type not in ("Concat", *_CHOOSING):
                graph.ranges[stored] = graph.ranges[first.name]
            self._known[name] = replace(first, name=stored, quantisation=found)

    def _limits(self, node: OnnxNode) -> tuple[float, float]:
        """Bounds of Relu or Clip. A lower one above the upper gives way to it."""
        node.take()
        limits = [0.0 if node.op_type == "Relu" else -np.inf, np.inf]
        for index, role in ((1, "min"), (2, "max")):
            if node.op_type == "Clip" and node.input(index):
                value = self._value(node.input(index))
                if value is None:
                    raise PearrayError(f"{role} must be a constant, not {node.input(index)!r}")
                if value.size != 1 or np.isnan(value).any():
                    raise PearrayError(f"{role} must be one number, not {value.tolist()}")
                limits[index - 1] = float(value.item())
        return limits[0], limits[1]

    def _value(self, name: str) -> np.ndarray | None:
        """Value of a constant, as real numbers where it is stored; None if it is none."""
        stored = self._known.get(name)
        if not isinstance(stored, Stored):
            return self._graph.constants.get(name)
        value = self._graph.constants.get(stored.name)
        return None if value is None else real(value, stored.quantisation)

    def _names(self, name: str) -> Names | None:
        """Names of the stored form of a float tensor, if it has one."""
        found = self._known.get(name)
        return (found.name, found.scale, found.zero_point) if isinstance(found, Stored) else None

    def _attend(self, node: OnnxNode) -> None:
        """Take a node of attention, whose result a QuantizeLinear stores, unless a product on stored integers does."""
        made = stored_attention(node, self._graph, self._floats)
        av = node.attributes["av"] if (node.domain, node.op_type) == SPELLED else node
        if av.op_type == "QLinearMatMul":
            emit(_finished(made, av.inputs[6:8], node.outputs), self._graph)
        else:
            self._known[node.outputs[0]] = Result(node, _ends(made))


def _is_read_twice(readers: Sequence[OnnxNode], outputs: Sequence[str]) -> bool:
    """Whether several nodes read a tensor for the runtime, which makes one of those that compute the same.

    The last one stays; another does, too, if it makes an output of the network.
    """
    kinds = [(node.domain, node.op_type, *node.inputs, repr(sorted(node.attributes.items()))) for node in readers]
    return len({*kinds}) > 1 or any(name in outputs for node in readers[:-1] if node is not readers[-1]
                                    for name in node.outputs)


def _finished(node: OnnxNode, end: Sequence[str], outputs: list[str]) -> OnnxNode:
    """Operator on stored integers with the scale and the zero point of its result."""
    return replace(node, inputs=[*node.inputs, *end], outputs=outputs, attributes=dict(node.attributes))


def _ends(node: OnnxNode) -> Callable[[OnnxNode, Scaling], OnnxNode]:
    """Function that gives an operator on stored integers the result of a QuantizeLinear."""
    return lambda end, _: _finished(node, end.inputs[1:], end.outputs)


#: Float operators that may stand between DequantizeLinear and QuantizeLinear.
FLOAT_OPERATORS = tuple(sorted({*_MOVING, *ELEMENT_WISE, *OTHERS, *ATTENTION, *NORMS, *QUANTISED, "Dropout",
                                "RotaryEmbedding"}))
