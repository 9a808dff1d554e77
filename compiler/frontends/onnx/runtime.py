"""onnxruntime as the importer asks it: what a user's default session computes, in one thread, without a word."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from ....hdl.errors import PearrayError
from ...graph.graph import Tensor

__all__ = ["Types", "run", "session"]

#: Types of NumPy by onnxruntime's names; what has no entry is no tensor of numbers.
_TYPES = {f"tensor({name})": np.dtype(kind) for name, kind in {
    "bool": "bool", "double": "float64", "float": "float32", "float16": "float16", **{
        f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}}.items()}


def session(model: Any, purpose: str, is_float: bool = False, optimised: bool = True) -> Any:
    """Session of onnxruntime for a network, with its kernels on integers for int8, too.

    Parameters
    ----------
    model : onnx.ModelProto
        The network.
    purpose : str
        What it computes, for messages.
    is_float : bool
        Without kernels on integers.
    optimised : bool
        Whether nodes may be put together.

    Raises
    ------
    PearrayError
        If onnxruntime is not installed or refuses the network.
    """
    try:
        import onnxruntime
    except ImportError:
        raise PearrayError(f"{purpose} needs onnxruntime: run `pip install 'pearray[onnx]'`") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    if is_float:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # Its exceptions have no common base.
        raise _refusal(purpose, error) from None


def run(made: Any, names: Sequence[str], inputs: Mapping[str, np.ndarray], purpose: str) -> dict[str, np.ndarray]:
    """Tensors of a run of a session by name.

    Raises
    ------
    PearrayError
        If onnxruntime refuses the inputs.
    """
    try:
        values = made.run(list(names), dict(inputs))
    except Exception as error:
        raise _refusal(purpose, error) from None
    return dict(zip(names, map(np.asarray, values), strict=True))


def _refusal(purpose: str, error: Exception) -> PearrayError:
    return PearrayError(f"onnxruntime, which computes {purpose}, refuses it: {' '.join(str(error).split())[-160:]}")


class Types:
    """Types and shapes that onnxruntime finds for the tensors of a network, its own operators among them.

    It is asked when they are first needed. Where it is missing or refuses the network nothing is known.

    Parameters
    ----------
    model : onnx.ModelProto
        The network.
    inputs : mapping of str to Tensor
        Its inputs, with the shapes of a run.
    """

    def __init__(self, model: Any, inputs: Mapping[str, Tensor]):
        self._model, self._inputs = model, inputs

    @cached_property
    def _session(self) -> Any:
        """Session that gives every tensor, or None."""
        from onnx import helper

        copy = type(self._model)()
        copy.CopyFrom(self._model)
        for item in copy.graph.input:
            if item.name in self._inputs:
                tensor = self._inputs[item.name]
                item.CopyFrom(helper.make_tensor_value_info(
                    item.name, helper.np_dtype_to_tensor_dtype(tensor.dtype), tensor.shape))
        del copy.graph.value_info[:]
        del copy.graph.output[:]
        names = dict.fromkeys(name for node in copy.graph.node for name in node.output if name)
        copy.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
        try:
            return session(copy, "shapes", optimised=False)
        except PearrayError:
            return None

    @cached_property
    def _outputs(self) -> dict[str, tuple[np.dtype, tuple[int, ...] | None]]:
        """Type of each tensor of numbers, and its shape.

        Neither sizes that follow from values are told, nor a rank that is not known from that of one number.
        """
        found = [] if self._session is None else self._session.get_outputs()
        return {item.name: (_TYPES[item.type], tuple(item.shape) if item.shape and all(
            isinstance(size, int) and size > 0 for size in item.shape) else None)
            for item in found if item.type in _TYPES}

    @cached_property
    def _run(self) -> dict[str, tuple[int, ...]]:
        """Shapes of a run on zeros; none if that fails."""
        zeros = {name: np.zeros(tensor.shape, tensor.dtype) for name, tensor in self._inputs.items()}
        try:
            made = run(self._session, [*self._outputs], zeros, "shapes")
        except PearrayError:
            return {}
        return {name: value.shape for name, value in made.items()}

    def dtype(self, name: str) -> np.dtype | None:
        """Type of a tensor that a node makes; None if it is not known."""
        return self._outputs[name][0] if name in self._outputs else None

    def get(self, name: str) -> Tensor | None:
        """Shape and type of a tensor, as for inputs of zeros; None if they are not known."""
        if name not in self._outputs:
            return None
        dtype, shape = self._outputs[name]
        shape = self._run.get(name) if shape is None else shape
        return None if shape is None else Tensor(name, shape, dtype)
