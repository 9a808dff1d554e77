"""Run, compile and check operators and networks."""

from collections.abc import Callable, Collection, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from .compiler.compile import Compiled, compile_graph
from .compiler.frontends.onnx.importer import Model, load_onnx
from .compiler.graph.graph import Graph
from .compiler.operators.operator import Operator
from .configuration import load_config
from .hdl.errors import PearrayError
from .hdl.shell.config import Config
from .results import Layer, Result, record_bytes, result_of
from .sim.engine import Job
from .sim.engine import run as simulate
from .workloads.published import named_settings

__all__ = [
    "Layer", "Model", "Result", "Runnable", "compile", "compiled_for", "golden_run", "load_onnx", "run",
    "run_compiled",
]

#: What can be run: an operator, a network from a file, or a graph of operators.
Runnable = Operator | Model | Graph


def _configured(on: str | PathLike[str] | Config) -> Config:
    return on if isinstance(on, Config) else load_config(on)


def _arrays(tensors: Mapping[str, Any]) -> dict[str, np.ndarray]:
    if not isinstance(tensors, Mapping):
        raise PearrayError(f"tensors must be a dict of arrays by name, not {type(tensors).__name__}")
    arrays = {}
    for name, value in tensors.items():
        if value is None:
            continue
        try:
            array = np.asarray(value)
        except ValueError:
            raise PearrayError(f"tensor {name!r} must be an array, not {value!r}") from None
        if array.dtype.kind not in "iuf":
            raise PearrayError(f"tensor {name!r} must hold numbers, not {array.dtype}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise PearrayError(f"tensor {name!r} must be finite, not {array[~np.isfinite(array)].flat[0]}")
        arrays[name] = array
    return arrays


def _graph(what: Runnable, tensors: Mapping[str, np.ndarray]) -> tuple[Graph, dict[str, np.ndarray]]:
    """Graph of anything runnable, and the inputs of its run."""
    if isinstance(what, Operator):
        graph = Graph.of(what, tensors)
        return graph, {name: tensors[name] for name in graph.inputs}
    if isinstance(what, Model):
        return what.graph_for(tensors), dict(tensors)
    if isinstance(what, Graph):
        return what, dict(tensors)
    raise PearrayError(f"op_or_model must be an operator such as pearray.Gemm() or a model of "
                       f"pearray.load_onnx, not {what!r}")


def run(op_or_model: Runnable, tensors: Mapping[str, Any], on: str | PathLike[str] | Config,
        engine: str = "verilator", keep: str | Collection[str] | None = None,
        progress: Callable[[int], None] | None = None, **settings: Any) -> Result:
    """Run an operator or a network on generated hardware.

    Parameters
    ----------
    op_or_model : operator or Model
        What to compute.
    tensors : mapping of str to array_like
        Inputs by name, in ONNX's layouts.
    on : str, path or Config
        Configuration; see :func:`pearray.load_config`.
    engine : str
        ``"verilator"``, ``"cocotb"`` or ``"amaranth"``; all give the same tensors.
    keep : "all" or collection of str, optional
        Tensors between to return as well: all, or those of these names.
    progress : callable, optional
        Called now and then with the cycles simulated so far.
    **settings
        Settings of the array's mapper, such as ``mapping``; see :attr:`.compiler.kinds.ArrayCompiler.settings`.

    Returns
    -------
    Result

    Raises
    ------
    PearrayError
        If an input, the configuration or the engine is wrong, or the operator cannot be mapped.
    """
    config = _configured(on)
    graph, inputs = _graph(op_or_model, _arrays(tensors))
    return run_compiled(compiled_for(graph, config, inputs, settings), inputs, engine, keep, progress)


def compiled_for(graph: Graph, config: Config, inputs: Mapping[str, np.ndarray],
                 settings: Mapping[str, Any] | None = None) -> Compiled:
    """Compile a graph for inputs that are like these.

    Parameters
    ----------
    graph : Graph
        What to compute.
    config : Config
        Accelerator.
    inputs : mapping of str to ndarray
        Inputs of a run.
    settings : mapping, optional
        As for :func:`run`.

    Raises
    ------
    PearrayError
        If an input is wrong, an operator cannot be mapped, or the array takes no such setting.
    """
    return compile_graph(graph, config, "all", inputs=inputs, **named_settings(settings or {}, graph))


def run_compiled(compiled: Compiled, inputs: Mapping[str, np.ndarray], engine: str = "verilator",
                 keep: str | Collection[str] | None = None,
                 progress: Callable[[int], None] | None = None) -> Result:
    """Run a compiled graph; see :func:`run`."""
    wanted = _kept(compiled.graph, compiled.output_names, keep)
    regions = [(placed.address, placed.nbytes) for placed in compiled.outputs.values()]
    records = [(layer.profile, record_bytes(compiled.config)) for layer in compiled.layers if layer.profile is not None]
    job = Job(compiled.config, compiled.segments + compiled.bind(inputs), compiled.program_address,
              [*regions, *records])
    outcome = simulate(job, engine, progress)
    contents = dict(zip(job.read, outcome.regions, strict=True))
    outputs = {name: compiled.extract(name, lambda address, length: contents[address, length])
               for name in wanted}
    return result_of(compiled, outcome, [contents[record] for record in records], outputs, inputs)


def _kept(graph: Graph, known: Collection[str], keep: str | Collection[str] | None) -> list[str]:
    """Names of the tensors to return."""
    if keep is None:
        return list(graph.outputs)
    if keep == "all":
        return list(known)
    names = [keep] if isinstance(keep, str) else list(keep)
    for name in names:
        if name not in known:
            raise PearrayError(f"keep must be None, 'all' or names among {', '.join(known)}, not {name!r}")
    return list(dict.fromkeys([*graph.outputs, *names]))


def golden_run(op_or_model: Runnable, tensors: Mapping[str, Any],
               keep: str | Collection[str] | None = None) -> dict[str, np.ndarray]:
    """Compute with NumPy alone what :func:`run` computes on hardware.

    Parameters
    ----------
    op_or_model : operator or Model
        What to compute.
    tensors : mapping of str to array_like
        Inputs by name, in ONNX's layouts.
    keep : "all" or collection of str, optional
        As for :func:`run`.

    Returns
    -------
    dict of str to ndarray
        The same tensors as :func:`run`'s ``outputs``.

    Raises
    ------
    PearrayError
        If an input is wrong.
    """
    graph, inputs = _graph(op_or_model, _arrays(tensors))
    made = graph.golden(inputs)
    return {name: made[name] for name in _kept(graph, list(made), keep)}


def compile(op_or_model: Runnable, tensors: Mapping[str, Any], on: str | PathLike[str] | Config,
            to: str | PathLike[str], **settings: Any) -> Compiled:
    """Write everything that somebody else's host and memory need to run an operator or a network.

    Parameters
    ----------
    op_or_model : operator or Model
        What to compute.
    tensors : mapping of str to array_like
        Inputs by name, in ONNX's layouts; their values go into the memory image.
    on : str, path or Config
        Configuration; see :func:`pearray.load_config`.
    to : path
        Folder to write: ``program.bin``; ``program.txt``, the same for reading; ``memory.bin``, the
        memory image from address 0 with program, packed constants and inputs; ``tensors.json``, the
        address, shape, layout and dtype of every input and output, and the program's address.
    **settings
        As for :func:`run`.

    Returns
    -------
    Compiled
        What was written.

    Raises
    ------
    PearrayError
        If an input or the configuration is wrong, an operator cannot be mapped, or the folder
        cannot be written.
    """
    config = _configured(on)
    graph, inputs = _graph(op_or_model, _arrays(tensors))
    compiled = compiled_for(graph, config, inputs, settings)
    folder = Path(to)
    try:
        compiled.write(folder, inputs)
        (folder / "program.txt").write_text(compiled.commands + "\n")
    except OSError as error:
        raise PearrayError(f"folder {str(folder)!r} cannot be written: {error.strerror}") from None
    return compiled
