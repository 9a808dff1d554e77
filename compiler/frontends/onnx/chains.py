"""Functions of one stored tensor, element by element, as tables of 256 entries.

Nodes between DequantizeLinear and QuantizeLinear are given to onnxruntime with all 256 values of the stored tensor, so
that each entry has the bits that it computes, whatever it makes of the nodes.
"""

from collections.abc import Iterable, Sequence
from math import prod

import numpy as np

from ....golden.quantise import dequantize_linear, quantize_linear
from ....hdl.errors import PearrayError
from ...operators import Lookup, Reshape
from ...operators.channelwise import every_value
from .builder import MICROSOFT, Builder, OnnxNode, Quantisation, one
from .runtime import run, session
from .values import Chain, Stored

__all__ = [
    "ELEMENT_WISE", "OTHERS", "chain_of", "is_element_wise", "is_uniform", "joined", "real_table", "stored_alike",
    "tabulate",
]

#: Operators of the standard that compute each element of their result from one of each operand.
ELEMENT_WISE = (
    "Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atanh", "BatchNormalization", "Cast", "Ceil",
    "Celu", "Clip", "Cos", "Cosh", "Div", "Elu", "Equal", "Erf", "Exp", "Floor", "Gelu", "Greater", "GreaterOrEqual",
    "HardSigmoid", "HardSwish", "IsInf", "IsNaN", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Mean", "Min",
    "Mish", "Mod", "Mul", "Neg", "Not", "Or", "PRelu", "Pow", "Reciprocal", "Relu", "Round", "Selu", "Shrink",
    "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Swish", "Tan", "Tanh",
    "ThresholdedRelu", "Where", "Xor")

#: Those of com.microsoft.
OTHERS = ("BiasGelu", "FastGelu", "Gelu", "QuickGelu")

#: Most tables of one tensor: so many bytes of tables are as many as a large layer has of weights.
_MOST_TABLES = 1 << 14


def is_element_wise(node: OnnxNode) -> bool:
    """Whether a node computes each element of its result from one of each operand."""
    return node.op_type in {"": ELEMENT_WISE, MICROSOFT: OTHERS}.get(node.domain, ())


def chain_of(stored: Stored, name: str, graph: Builder) -> Chain:
    """Chain that only dequantises a stored tensor, which as a float tensor has a name.

    Raises
    ------
    PearrayError
        If that is no constant and has several scales.
    """
    found, zero = stored.quantisation, stored.zero_point
    if stored.name not in graph.constants:
        one("x_scale", found.scale)
    if np.asarray(found.zero_point).dtype == np.int32:
        # Sums have none in all operator sets.
        zero = ""
    node = OnnxNode("DequantizeLinear", "", name, [stored.name, stored.scale, zero], [name],
                    {"axis": found.axis} if found.scale.ndim else {})
    return Chain(stored.name, stored.name, (node,), name)


def joined(node: OnnxNode, operands: Iterable[Chain], graph: Builder) -> Chain:
    """Chain of a node behind others, of one stored tensor and of constants.

    Raises
    ------
    PearrayError
        If they are of several stored tensors.
    """
    nodes: dict[str, OnnxNode] = {}
    roots: dict[str, str] = {}
    for operand in operands:
        nodes |= {each.outputs[0]: each for each in operand.nodes}
        if operand.source not in graph.constants:
            roots[operand.source] = operand.root
    if len(roots) != 1:
        several = " and ".join(repr(graph.aliases.get(name, name)) for name in sorted(roots)) or "constants alone"
        raise PearrayError(f"a function of {several} is no table of one stored tensor: put QuantizeLinear and "
                           "DequantizeLinear before it")
    [(source, root)] = roots.items()
    return Chain(source, root, (*nodes.values(), node), node.outputs[0])


def _constants(chain: Chain, graph: Builder) -> dict[str, np.ndarray]:
    """Constants that the nodes of a chain read, by name."""
    made = {chain.root}.union(*(node.outputs for node in chain.nodes))
    names = {name for node in chain.nodes for name in node.inputs if name and name not in made}
    for name in names:
        if name not in graph.constants:
            raise PearrayError(f"{name!r}, which meets a function of a stored tensor, must be a constant")
    return {name: graph.constants[name] for name in sorted(names)}


def _varying(chain: Chain, graph: Builder) -> tuple[tuple[int, ...], list[int]]:
    """Shape of what a chain makes, and the axes along which its constants differ."""
    shapes = [tuple(graph.tensor(chain.source).shape)]
    along: set[int] = set()
    channelled = False
    for node in chain.nodes:
        if node.op_type == "DequantizeLinear":
            # Its result has the shape of its operand, which whoever reads it may broadcast.
            continue
        for place, name in enumerate(node.inputs):
            value = graph.constants.get(_origin(chain, name))
            if value is None:
                continue
            if node.op_type != "BatchNormalization":
                shapes.append(value.shape)
            elif place:
                along |= {1} if value.size > 1 else set()
                channelled = True
    try:
        whole = np.broadcast_shapes(*shapes)
    except ValueError:
        raise PearrayError(f"constants of shapes {', '.join(map(str, shapes[1:]))} must broadcast to {shapes[0]}"
                           ) from None
    if prod(whole) != prod(shapes[0]):
        raise PearrayError(f"constants must not repeat a stored tensor of shape {shapes[0]} to {whole}")
    for shape in shapes[1:]:
        along |= {len(whole) - len(shape) + axis for axis, size in enumerate(shape) if size > 1}
    if channelled and (len(whole) != len(shapes[0]) or len(whole) < 2 or 0 in along):
        raise PearrayError(f"BatchNormalization must have its channels along axis 1 of {shapes[0]}, and no constant "
                           "beside it that differs along axis 0 or has more dimensions")
    return whole, sorted(along)


def is_uniform(chain: Chain, graph: Builder) -> bool:
    """Whether a chain is one function for all elements, and makes as many."""
    shape, axes = _varying(chain, graph)
    return not axes and shape == tuple(graph.tensor(chain.source).shape)


def _origin(chain: Chain, name: str) -> str:
    """Name of what is dequantised to a tensor, or its own."""
    for node in chain.nodes:
        if node.outputs[0] == name and node.op_type == "DequantizeLinear":
            return node.inputs[0]
    return name


def _run(chain: Chain, graph: Builder, end: Sequence[OnnxNode], shape: tuple[int, ...], axes: list[int]) -> np.ndarray:
    """What onnxruntime makes of all stored values, for all indices of some axes: (..., 256).

    `end` are nodes behind the chain. All values are in the body of vectors: onnxruntime's functions may give other last
    bits to the few elements at the end of a tensor whose size is no multiple of a vector's.
    """
    dtype = graph.tensor(chain.source).dtype
    if dtype not in (np.int8, np.uint8):
        raise PearrayError(f"what is tabulated must be int8 or uint8, not {dtype}")
    whole = [shape[axis] if axis in axes else 1 for axis in range(len(shape))]
    if whole and 0 not in axes:
        whole[0] = 256
    else:
        whole = [256, *whole]
    values = np.broadcast_to(every_value(dtype).reshape(-1, *(1,) * (len(whole) - 1)), whole)
    made = _computed(chain, graph, end, np.ascontiguousarray(values))
    if made.size != prod(whole):
        raise PearrayError(f"constants must not repeat a stored tensor to shape {made.shape[1:]}")
    return np.moveaxis(made.reshape(256, -1), 0, -1)


def _computed(chain: Chain, graph: Builder, end: Sequence[OnnxNode], values: np.ndarray) -> np.ndarray:
    """What onnxruntime makes of stored values by the nodes of a chain, with the optimisations of a default session."""
    from onnx import helper, numpy_helper

    nodes = (*chain.nodes, *end)
    protos = [helper.make_node(node.op_type, node.inputs, node.outputs, domain=node.domain, **node.attributes)
              for node in nodes]
    stated = {name: graph.constants[name] for node in end for name in node.inputs[1:]}
    tensors = [numpy_helper.from_array(value, name) for name, value in (_constants(chain, graph) | stated).items()]
    kind = helper.np_dtype_to_tensor_dtype(graph.tensor(chain.source).dtype)
    inner = helper.make_graph(protos, "chain", [helper.make_tensor_value_info(chain.root, kind, None)],
                              [helper.make_empty_tensor_value_info(nodes[-1].outputs[0])], tensors)
    model = helper.make_model(inner, ir_version=min(graph.ir_version, 10), opset_imports=[
        helper.make_opsetid(domain, version) for domain, version in ({MICROSOFT: 1} | graph.opsets).items()])
    purpose = "the table"
    return run(session(model, purpose, chain.is_float), nodes[-1].outputs, {chain.root: values}, purpose)[
        nodes[-1].outputs[0]]


def tabulate(node: OnnxNode, chain: Chain, graph: Builder, target: Quantisation, zero_point: str,
             output: str) -> None:
    """Add a table of what a QuantizeLinear makes of a chain, or one for each index of an axis, under a name.

    Parameters
    ----------
    node : OnnxNode
        The QuantizeLinear.
    chain, graph
        What it quantises, and the graph under construction.
    target, zero_point
        How the result is stored, and the name of its zero point.
    output : str
        Name of the result.

    Raises
    ------
    PearrayError
        If a tensor has more than 8 bits, constants differ along axes that do not follow one another, or onnxruntime
        does not take the nodes.
    """
    if target.zero_point.dtype not in (np.int8, np.uint8) or target.scale.ndim:
        raise PearrayError(f"what is tabulated must become int8 or uint8 of one scale, not "
                           f"{target.zero_point.dtype} of {target.scale.size}")
    shape, axes = _varying(chain, graph)
    inputs = [chain.name, node.inputs[1], zero_point]
    end = OnnxNode("QuantizeLinear", "", node.name, inputs, [f"{chain.name}:table"], {})
    table = _run(chain, graph, [end], shape, axes)
    if target.clamp is not None:
        table = np.clip(table, *target.clamp)
    _look_up(node, graph, chain.source, table, (shape, axes), output)


def _look_up(node: OnnxNode, graph: Builder, source: str, table: np.ndarray, along: tuple[tuple[int, ...], list[int]],
             output: str) -> None:
    """Add tables (channels, 256) of a stored tensor along some axes of its result's shape."""
    shape, axes = along
    given = tuple(graph.tensor(source).shape)
    if len(table) == 1 or (table == table[0]).all():
        table, form = table[0], given
    else:
        first, last = axes[0], axes[-1]
        if axes != [axis for axis in range(first, last + 1) if axis in axes or shape[axis] > 1]:
            raise PearrayError(f"constants must differ along one axis, or axes that follow one another, not {axes}")
        if len(table) > _MOST_TABLES:
            raise PearrayError(f"constants must be at most {_MOST_TABLES} different ones, each a table, not "
                               f"{len(table)}: dequantise them, so that they are a tensor as any other")
        rows, columns = prod(shape[:first]), prod(shape[last + 1:])
        if shape == given and len(shape) in (2, 4) and axes == [1]:
            form = given
        else:
            form = (rows, len(table)) if columns == 1 else (rows, len(table), columns, 1)
    name, result = source, output
    if form != given:
        name = graph.inner(source, "rows")
        graph.add(node, Reshape(form), {"x": source}, name)
    if form != shape:
        result = graph.inner(output, "mapped")
    graph.add(node, Lookup(np.ascontiguousarray(table)), {"x": name}, result)
    if form != shape:
        graph.add(node, Reshape(shape), {"x": result}, output)


def real_table(chain: Chain, graph: Builder) -> tuple[np.ndarray, int]:
    """Real numbers that a chain makes of all stored values, (256,) or (channels, 256), and the axis of the channels.

    Raises
    ------
    PearrayError
        If constants differ along several axes, or the chain makes no float32.
    """
    shape, axes = _varying(chain, graph)
    if len(axes) > 1 or shape != tuple(graph.tensor(chain.source).shape):
        raise PearrayError(f"constants of a function that nobody quantises must differ along one axis, not {axes}")
    table = _run(chain, graph, [], shape, axes)
    if table.dtype != np.float32:
        raise PearrayError(f"a function that nobody quantises must give float32, not {table.dtype}")
    return (np.ascontiguousarray(table), axes[0]) if axes else (table[0], 0)


def stored_alike(node: OnnxNode, chain: Chain, graph: Builder) -> Stored | None:
    """Chain as a stored tensor with the scale and the zero point of its source, if that can hold all that it makes.

    So are Relu, and limits that are whole steps: they cost a table, and lose nothing.
    """
    first = next(each for each in chain.nodes if each.inputs[0] == chain.root)
    scale, zero_point = first.inputs[1:3]
    found = graph.quantisation(first, 1, "x", graph.tensor(chain.source).dtype)
    shape, axes = _varying(chain, graph)
    if found.scale.ndim or shape != tuple(graph.tensor(chain.source).shape):
        return None
    real, dtype = _run(chain, graph, [], shape, axes), graph.tensor(chain.source).dtype
    if real.dtype != np.float32:
        return None
    table = quantize_linear(real, found.scale, found.zero_point, dtype=dtype)
    if not np.array_equal(dequantize_linear(table, found.scale, found.zero_point), real):
        return None
    name = graph.inner(chain.name, "stored")
    _look_up(node, graph, chain.source, table, (shape, axes), name)
    return Stored(name, scale, zero_point, found)
