"""Files of other tools as workloads, on drawn inputs."""

import numpy as np

from ..compiler.frontends.onnx.importer import load_onnx
from ..compiler.frontends.tflite.importer import load_tflite
from ..compiler.graph.graph import Graph
from ..compiler.operators import DynamicQuantize, Hosted, Quantize, QuantizeBlocks
from ..compiler.operators.fields import check_size
from ..hdl.errors import PearrayError
from .made import Workload
from .operands import Operands
from .settings import Settings

__all__ = ["file_workload"]


def file_workload(name: str, rng: np.random.Generator, settings: Settings, numbers: type[Operands],
                  fallback: str | None = None) -> Workload:
    """Read the network of a file, and draw its inputs; the one setting is `batch`.

    `fallback` is that of the file's reader.

    Raises
    ------
    PearrayError
        If the file, the setting or an input is wrong.
    """
    model = (load_tflite if name.endswith(".tflite") else load_onnx)(name, fallback)
    batch = settings.integer("batch", 0, 0)
    settings.finish()
    graph = model.graph(batch or None)
    return Workload(name, graph, {key: _input(graph, key, rng) for key in graph.inputs}, notes=model.notes,
                    model=model if fallback is not None else None)


def _input(graph: Graph, name: str, rng: np.random.Generator) -> np.ndarray:
    """Draw an input so that what the network sees of it covers the whole range of its type."""
    tensor = graph.tensors[name]
    check_size(name, tensor.shape)
    if name in graph.masks:
        # Words of which every second is one, or what hides the others from all queries.
        shown = rng.integers(0, 2, tensor.shape)
        return ((shown - 1) * 1e4 if tensor.dtype.kind == "f" else shown).astype(tensor.dtype)
    if rows := _rows(graph, name):
        return rng.integers(0, min(rows), tensor.shape, dtype=tensor.dtype)
    if tensor.dtype.kind in "iu":
        info = np.iinfo(tensor.dtype)
        return rng.integers(info.min, info.max + 1, tensor.shape, dtype=tensor.dtype)
    for node in graph.nodes:
        operator = node.operator
        if isinstance(operator, Quantize) and node.inputs["x"] == name:
            info = np.iinfo(graph.tensors[node.outputs["y"]].dtype)
            stored = rng.integers(info.min, info.max + 1, tensor.shape)
            return ((stored - int(operator.zero_point)) * operator.scale).astype(tensor.dtype)
    if not any(name in node.inputs.values() for node in graph.nodes):
        return np.zeros(tensor.shape, tensor.dtype)
    if any(isinstance(node.operator, (DynamicQuantize, Hosted, QuantizeBlocks)) and name in node.inputs.values()
           for node in graph.nodes):
        return rng.normal(0, 1, tensor.shape).astype(tensor.dtype)
    raise PearrayError(f"input {name!r} must be quantised before anything else, as the accelerator computes "
                       f"with integers")


def _rows(graph: Graph, name: str) -> list[int]:
    """Rows of tables in which the host looks up an input."""
    return [node.operator.function.rows[taken] for node in graph.nodes if isinstance(node.operator, Hosted)
            for role, taken in zip(node.operator.required, node.operator.takes, strict=True)
            if node.inputs[role] == name and taken in node.operator.function.rows]
