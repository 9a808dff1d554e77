"""TensorFlow Lite files as graphs: the walk over a file's operators."""

from os import PathLike

from ....hdl.errors import PearrayError, check_choice, check_path
from ...graph.graph import Graph, Tensor
from ..model import Model
from . import contractions, elementwise, lstm, moves, reductions, resizes, shapes, slices, svdf, windows
from .builder import HANDLERS, SEVERAL, Builder
from .file import FileOperator, TfliteFile, read
from .states import without_states

__all__ = ["load_tflite"]

# Imported for what they register.
_FAMILIES = contractions, elementwise, lstm, moves, reductions, resizes, shapes, slices, svdf, windows

#: Operators that are not taken, with the reason.
_REFUSED = dict.fromkeys(("IF", "WHILE"), "what is computed must not depend on values")

#: Reason of all others.
_UNKNOWN = "there is none of this kind here"

_HOW = ("convert it to int8 with tf.lite.TFLiteConverter: optimizations = [tf.lite.Optimize.DEFAULT], a "
        "representative_dataset, and target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]")


def load_tflite(path: str | PathLike[str], fallback: str | None = None) -> Model:
    """Read a TensorFlow Lite file, quantised to int8.

    Parameters
    ----------
    path : path
        The file.
    fallback : "host" or "exact", optional
        Who computes what no program does, where it is known how: the gates of LSTMs, on the host between programs.
        Without it such a network is refused.

    Returns
    -------
    Model
        Tensors have the file's names and shapes: images are NHWC. Variables that the file keeps from one run to the
        next are inputs and outputs, its ``states``. Its operators are checked when its graph is first needed, all of
        them, but for those from which no output follows: they are left out.

    Raises
    ------
    PearrayError
        If tflite is not installed, or the file is missing, corrupt, or not quantised.
    """
    if fallback is not None:
        check_choice("fallback", fallback, ("host", "exact"))
    file = check_path("TensorFlow Lite file", path)
    where = f"TensorFlow Lite file {str(file)!r}"
    content, states = without_states(where, read(file))
    _check_quantised(where, content)
    inputs = _inputs(where, content, None)
    outputs = [content.tensors[number].name for number in content.outputs]
    return Model(file.stem, inputs, outputs, lambda binding: _import(
        where, content, binding.batch, fallback is not None), states.outputs, states.initial, fallback=fallback)


def _check_quantised(where: str, file: TfliteFile) -> None:
    computing = [each for each in _needed(file) if each.kind not in ("QUANTIZE", "DEQUANTIZE")]
    floats = [each for each in computing if any(
        file.tensors[number].kind in ("FLOAT32", "FLOAT16") for number in (*each.inputs, *each.outputs) if number >= 0)]
    if floats:
        first = floats[0]
        raise PearrayError(f"{where} is not quantised: {len(floats)} of its {len(computing)} operators compute with "
                           f"floats, the first of them {_place(file, first)}; {_HOW}")


def _place(file: TfliteFile, operator: FileOperator) -> str:
    made = f", {file.tensors[operator.outputs[0]].name!r}" if operator.outputs else ""
    return f"operator {operator.index}, {operator.kind}{made}"


def _inputs(where: str, file: TfliteFile, batch: int | None) -> dict[str, Tensor]:
    found = {}
    for number in file.inputs:
        tensor = file.tensors[number]
        if tensor.dtype is None or tensor.note or 0 in tensor.shape:
            raise PearrayError(f"{where}: input {tensor.name!r} must be a tensor of numbers, not "
                               f"{tensor.note or f'{tensor.kind.lower()} of shape {tensor.shape}'}")
        if any(tensor.free):
            raise PearrayError(f"{where}: input {tensor.name!r} must have a fixed shape behind its first dimension, "
                               f"but dimension {max(tensor.free)} is free: convert it with a fixed one")
        shape = tensor.shape if batch is None or not tensor.shape else (batch, *tensor.shape[1:])
        found[tensor.name] = Tensor(tensor.name, shape, tensor.dtype)
    return found


def _needed(file: TfliteFile) -> list[FileOperator]:
    """Operators from which an output of the network follows, in the file's order."""
    wanted, found = {*file.outputs}, []
    for operator in reversed(file.operators):
        if wanted & {*operator.outputs}:
            found.append(operator)
            wanted.update(operator.inputs)
    return found[::-1]


def _import(where: str, file: TfliteFile, batch: int | None, hosts: bool) -> Graph:
    inputs = _inputs(where, file, batch)
    declared = {file.tensors[number].shape[0] for number in file.inputs if file.tensors[number].shape}
    values = {number: tensor.value for number, tensor in enumerate(file.tensors) if tensor.value is not None}
    builder = Builder(dict(inputs), {}, file=file, values=values, hosts=hosts,
                      names={tensor.name for tensor in file.tensors})
    if batch is not None and len(declared) == 1 and declared != {batch}:
        builder.batches = declared.pop(), batch
        builder.is_batch_free = all(0 in file.tensors[number].free for number in file.inputs
                                    if file.tensors[number].shape)
    failed: dict[tuple[str, str], list[FileOperator]] = {}
    for operator in _needed(file):
        reason = _attempt(operator, builder)
        if reason:
            failed.setdefault((operator.kind, reason), []).append(operator)
            builder.declare(operator)
    if failed:
        found = "; ".join(f"{len(operators)} x {kind} (first: {_place(file, operators[0])}): {reason}"
                          for (kind, reason), operators in failed.items())
        known = f"; known: {', '.join(sorted(HANDLERS))}" if _UNKNOWN in {reason for _, reason in failed} else ""
        raise PearrayError(f"{where} has operators that cannot be mapped: {found}{known}")
    return _graph(where, file, builder, inputs)


def _attempt(operator: FileOperator, builder: Builder) -> str:
    """Append what an operator is; return why it cannot be, or nothing."""
    handler = HANDLERS.get(operator.kind)
    if handler is None:
        return _REFUSED.get(operator.kind, _UNKNOWN)
    if len(operator.outputs) != 1 and operator.kind not in SEVERAL:
        return f"it must have one output, not {len(operator.outputs)}"
    try:
        handler(operator, builder)
    except ValueError as error:
        # Golden models raise ValueError for values that they don't define.
        return " ".join(str(error).split())
    return ""


def _graph(where: str, file: TfliteFile, builder: Builder, inputs: dict[str, Tensor]) -> Graph:
    outputs = []
    made = {name for node in builder.nodes for name in node.outputs.values()}
    for number in file.outputs:
        name = builder.rows(number)
        made.update(name for node in builder.nodes for name in node.outputs.values())
        if name not in made:
            raise PearrayError(f"{where}: output {name!r} is not computed by the network")
        outputs.append(name)
    used = {name for node in builder.nodes for name in node.inputs.values()}
    constants = {name: value for name, value in builder.constants.items() if name in used}
    return Graph(builder.nodes, dict(inputs), constants, list(inputs), outputs, aliases=builder.aliases)
