"""ONNX files: reading, and bringing them into the one form that is imported."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ....hdl.errors import PearrayError, check_path, is_file
from ...graph.graph import Tensor
from ...operators.fields import NARROW
from .builder import MICROSOFT

__all__ = [
    "NEWEST_CONVERTED", "File", "Shapes", "captured", "fixed_batches", "free_inputs", "inputs_of", "narrow_inputs",
    "opsets_of", "read",
]

#: Operators that onnxruntime reads and writes under the standard's domain, which does not know them.
_RUNTIME_ONLY = ("SimplifiedLayerNormalization",)

#: Operators of com.microsoft that say what the standard's say.
_STANDARD = ("DequantizeLinear", "QuantizeLinear")

#: First operator set whose Resize states how an element is found.
_RESIZES = 11

#: Oldest operator set whose operators are taken at their word, and to which older ones are converted.
NEWEST_CONVERTED = 13

#: Oldest operator set that onnx converts.
_OLDEST = 7

#: What exporters write where a dimension has no name.
_NAMELESS = ("", "?")

#: Most elements of a constant that can be the shape, or the axes, of something.
_MOST_SIZES = 1024


class File(NamedTuple):
    """A file that has been read.

    Members
    -------
    name : str
        Its name without ``.onnx``.
    model : onnx.ModelProto
        What it holds, without functions of its own, in operator set 13 or later.
    constants : dict of str to ndarray
        Its initialisers.
    notes : list of str
        What has been changed in it, for the user.
    """

    name: str
    model: Any
    constants: dict[str, np.ndarray]
    notes: list[str]


def read(path: Any) -> File:
    """Read an ONNX file.

    Raises
    ------
    PearrayError
        If onnx is not installed, or the file is missing, corrupt or too old.
    """
    try:
        import onnx
    except ImportError:
        raise PearrayError("reading ONNX files needs onnx: run `pip install 'pearray[onnx]'`") from None
    file = check_path("ONNX file", path)
    if not is_file(file):
        raise PearrayError(f"ONNX file {str(file)!r} is not a file")
    try:
        model = onnx.load(str(file))
        _check_texts(model)
        model = _checked(model)
        opset = opsets_of(model).get("", 0)
        constants = {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}
    except Exception as error:
        # A corrupt file can raise anything from the parser, the checker or the reading of outside data.
        raise PearrayError(f"ONNX file {str(file)!r} cannot be read: {_reason(error)}") from None
    if opset < NEWEST_CONVERTED:
        model = _converted(model, opset, file)
    try:
        _standard_names(model)
    except Exception as error:
        raise PearrayError(f"ONNX file {str(file)!r} cannot be read: {_reason(error)}") from None
    if opset >= NEWEST_CONVERTED:
        return File(file.stem, model, constants, [])
    constants = {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}
    return File(file.stem, model, constants, [
        f"operator set {opset} has been converted to {NEWEST_CONVERTED} by onnx.version_converter"])


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _check_texts(message: Any) -> None:
    """Check that all names within a message are text: protobuf reads some that are not, as bytes."""
    for item, value in message.ListFields():
        if item.type == item.TYPE_MESSAGE:
            for each in [value] if hasattr(value, "ListFields") else value:
                _check_texts(each)
        elif item.type == item.TYPE_STRING:
            for each in [value] if isinstance(value, (str, bytes)) else value:
                if isinstance(each, bytes):
                    raise ValueError(f"{item.full_name} {each!r} is not UTF-8")


def _checked(model: Any) -> Any:
    """Return what a file holds, functions of its own written out, once it has been checked."""
    import onnx
    from onnx import inliner

    # Before version 4 initialisers had to be listed as inputs too; quantisers do not bother.
    model.ir_version = max(model.ir_version, 4)
    for item in model.graph.output:
        # Runtimes infer the type of an output that states none; the checker insists on one.
        if not item.HasField("type"):
            item.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
            item.type.tensor_type.shape.SetInParent()
    _own_names(model)
    if model.functions:
        model = inliner.inline_local_functions(model)
    onnx.checker.check_model(model)
    if not model.graph.node:
        raise ValueError("it holds no network")
    if not model.graph.output:
        raise ValueError("its network has no output")
    if opsets_of(model).get("", 0) > onnx.defs.onnx_opset_version():
        raise ValueError(f"operator set {opsets_of(model)['']} is newer than the {onnx.defs.onnx_opset_version()} that "
                         f"the installed onnx {onnx.__version__} knows; export it for that one, or update onnx")
    return model


def _converted(model: Any, opset: int, file: Path) -> Any:
    """Return a network of an older operator set as one of the oldest that is taken at its word."""
    from onnx import version_converter

    wanted = f"ONNX file {str(file)!r} must have operator set {NEWEST_CONVERTED} or later, not {opset}"
    if opset < _OLDEST:
        raise PearrayError(f"{wanted}: export it again; onnx.version_converter takes {_OLDEST} or later")
    try:
        converted = version_converter.convert_version(model, NEWEST_CONVERTED)
    except Exception as error:
        # What the converter raises has no common base.
        raise PearrayError(f"{wanted}, and onnx.version_converter cannot convert it: {_reason(error)}") from None
    if opset < _RESIZES:
        _state_rule(converted)
    return converted


def _state_rule(model: Any) -> None:
    """State by which rule Resize and Upsample of old operator sets find elements, which the converter leaves out."""
    from onnx import helper

    for node in model.graph.node:
        if node.op_type == "Resize" and node.domain in ("", "ai.onnx"):
            # An empty name is that of the rule before there were others.
            node.attribute.extend([helper.make_attribute("coordinate_transformation_mode", "asymmetric"),
                                   helper.make_attribute("nearest_mode", "")])


def _standard_names(model: Any) -> None:
    """Give operators of com.microsoft that are the standard's of newer operator sets the standard's domain."""
    import onnx

    own = [node for node in model.graph.node if node.domain == MICROSOFT and node.op_type in _STANDARD]
    for node in own:
        node.domain = ""
    if own:
        onnx.checker.check_model(model)


def _own_names(model: Any) -> None:
    """Give operators that only onnxruntime has under the standard's domain the domain that is its own."""
    from onnx import helper

    own = [node for node in model.graph.node if node.domain in ("", "ai.onnx") and node.op_type in _RUNTIME_ONLY]
    for node in own:
        node.domain = MICROSOFT
    if own and all(item.domain != MICROSOFT for item in model.opset_import):
        model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))


def captured(node: Any) -> list[str]:
    """Names that the branches of a node read, and that they do not make themselves."""
    from onnx import AttributeProto

    found: dict[str, None] = {}
    for item in node.attribute:
        graphs = [item.g] if item.type == AttributeProto.GRAPH else item.graphs
        for graph in graphs:
            own = {each.name for each in (*graph.input, *graph.initializer)}
            for inner in graph.node:
                found |= dict.fromkeys(name for name in (*inner.input, *captured(inner)) if name and name not in own)
                own |= {*inner.output}
            found |= dict.fromkeys(each.name for each in graph.output if each.name not in own)
    return list(found)


def opsets_of(model: Any) -> dict[str, int]:
    """Operator sets of a network by domain, of which that of the standard is empty."""
    return {"" if item.domain == "ai.onnx" else item.domain: item.version for item in model.opset_import}


def free_inputs(model: Any) -> frozenset[str]:
    """Names of the inputs of a network that have dimensions which the file leaves free."""
    return frozenset(item.name for item in model.graph.input
                     if any(size.dim_value < 1 for size in item.type.tensor_type.shape.dim))


def fixed_batches(model: Any) -> set[int]:
    """First dimensions that a file fixes for the inputs of a network."""
    constants = {item.name for item in model.graph.initializer}
    first = [item.type.tensor_type.shape.dim[0].dim_value for item in model.graph.input
             if item.name not in constants and item.type.tensor_type.shape.dim]
    return {size for size in first if size > 0}


def narrow_inputs(model: Any) -> dict[str, tuple[int, int]]:
    """Ranges of the inputs of a network that have fewer than 8 bits, which bytes hold."""
    from onnx import helper

    kinds = {item.name: helper.tensor_dtype_to_np_dtype(item.type.tensor_type.elem_type).name
             for item in model.graph.input if item.type.tensor_type.elem_type}
    return {name: NARROW[kind][1] for name, kind in kinds.items() if kind in NARROW}


def inputs_of(model: Any, batch: int | None = None, given: Mapping[str, tuple[int, ...]] | None = None
              ) -> dict[str, Tensor]:
    """Inputs of a network, which are not known, in the file's order.

    Parameters
    ----------
    model : onnx.ModelProto
        The network.
    batch : int, optional
        First dimension of each, instead of the file's.
    given : mapping of str to shapes, optional
        Shapes of what is given, which tell the sizes of dimensions that the file leaves free. A first one is 1 without
        them, others are -1.

    Raises
    ------
    PearrayError
        If one is no tensor, or a dimension of one name would have several sizes.
    """
    from onnx import helper

    constants = {item.name for item in model.graph.initializer}
    inputs, named = {}, dict[str, int]()
    for item in model.graph.input:
        if item.name in constants:
            continue
        kind = item.type.tensor_type
        if not kind.elem_type:
            raise PearrayError(f"input {item.name!r} of the ONNX file must be a tensor")
        if kind.elem_type not in helper.get_all_tensor_dtypes():
            raise PearrayError(f"input {item.name!r} of the ONNX file must be of a type that onnx knows, not "
                               f"{kind.elem_type}")
        known, shape = (given or {}).get(item.name, ()), []
        rank = len(kind.shape.dim)
        if given and item.name in given and len(known) != rank:
            raise PearrayError(f"input {item.name!r} must have {rank} dimensions, not shape {known}")
        for axis, size in enumerate(kind.shape.dim):
            is_free = size.dim_value < 1
            if axis == 0 and batch is not None:
                shape.append(batch)
            elif is_free and len(known) == len(kind.shape.dim):
                shape.append(known[axis])
            else:
                shape.append(size.dim_value if not is_free else 1 if axis == 0 else -1)
            is_named = is_free and size.dim_param not in _NAMELESS
            if is_named and given and named.setdefault(size.dim_param, shape[-1]) != shape[-1]:
                raise PearrayError(f"dimension {size.dim_param!r} of the ONNX file's inputs must have one size, not "
                                   f"{named[size.dim_param]} and {shape[-1]}, which {item.name!r} has")
        dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
        inputs[item.name] = Tensor(item.name, tuple(shape), np.dtype(NARROW.get(dtype.name, (dtype,))[0]))
    return inputs


class Shapes:
    """Shapes and types that onnx infers for the tensors of a network, once its inputs have theirs.

    Parameters
    ----------
    model : onnx.ModelProto
        The network.
    inputs : mapping of str to Tensor
        Its inputs.
    """

    def __init__(self, model: Any, inputs: Mapping[str, Tensor]):
        self._model, self._inputs = model, inputs
        self._found: dict[str, Tensor] | None = None

    def get(self, name: str) -> Tensor | None:
        """Shape and type of a tensor; None if it has none, or onnx cannot tell it."""
        if self._found is None:
            self._found = self._inferred()
        return self._found.get(name)

    def _inferred(self) -> dict[str, Tensor]:
        from onnx import helper, shape_inference

        graph = self._model.graph
        large = [item for item in graph.initializer if np.prod(item.dims, dtype=np.int64) > _MOST_SIZES]
        ends = [helper.make_tensor_value_info(tensor.name, helper.np_dtype_to_tensor_dtype(tensor.dtype), tensor.shape)
                for tensor in self._inputs.values()]
        ends += [helper.make_tensor_value_info(item.name, item.data_type, item.dims) for item in large]
        small = [item for item in graph.initializer if all(item is not each for each in large)]
        outputs = [helper.make_empty_tensor_value_info(item.name) for item in graph.output]
        copy = helper.make_model(helper.make_graph(list(graph.node), "shapes", ends, outputs, small),
                                 opset_imports=list(self._model.opset_import), ir_version=self._model.ir_version)
        try:
            made = shape_inference.infer_shapes(copy, data_prop=True).graph
        except Exception:
            # What does not fit together is found where it is imported, where there is more to say of it.
            return {}
        found = {}
        for item in (*made.value_info, *made.output):
            kind = item.type.tensor_type
            sizes = tuple(size.dim_value if size.HasField("dim_value") else -1 for size in kind.shape.dim)
            if kind.elem_type and kind.HasField("shape") and min(sizes, default=1) > 0:
                found[item.name] = Tensor(item.name, sizes, helper.tensor_dtype_to_np_dtype(kind.elem_type))
        return found
