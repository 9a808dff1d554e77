"""Run, compile and check operators and networks."""

from collections.abc import Callable, Collection, Mapping
from os import PathLike
from typing import Any

import numpy as np

from .compiler.frontends.model import Model
from .compiler.frontends.onnx.importer import load_onnx
from .compiler.frontends.tflite.importer import load_tflite
from .compiler.graph.graph import Graph
from .compiler.kinds import compiler_for
from .compiler.operators.operator import Operator
from .configuration import System, load_config
from .handle import Handle, arrays, kept
from .hdl.errors import PearrayError, check_names, check_path, unknown
from .hdl.shell.config import Config
from .parts import Parts, handle_for, mapped
from .results import Layer, Result
from .workloads.published import named_settings

__all__ = [
    "Handle", "Layer", "Model", "Parts", "Result", "Runnable", "compile", "golden_run", "load_onnx", "load_tflite",
    "run", "system_of",
]

#: What can be run: an operator, a network from a file, or a graph of operators.
Runnable = Operator | Model | Graph


def system_of(on: str | PathLike[str] | System | Config) -> System:
    """An accelerator and its memory, of a preset's name, a TOML path, or what is one already."""
    if isinstance(on, Config):
        return System(on)
    return on if isinstance(on, System) else load_config(on)


def _arrays(what: Runnable, tensors: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Tensors as arrays. Which of a model's are masks is known once it is read, for which shapes are needed."""
    is_open = isinstance(what, Model) and isinstance(tensors, Mapping)
    return arrays(tensors, tensors.keys() if is_open else getattr(what, "masks", ()))


def _graph(what: Runnable, tensors: Mapping[str, np.ndarray],
           constants: Collection[str] | None = None) -> tuple[Graph, dict[str, np.ndarray]]:
    """Graph of anything runnable, and the inputs of its run."""
    if constants is not None and not isinstance(what, Operator):
        raise PearrayError("constants are told of an operator; a model or a graph has its own")
    if isinstance(what, Operator):
        fixed = None if constants is None else check_names("constants", constants)
        for name in fixed or ():
            if name not in what.roles:
                raise unknown("constant", name, what.roles)
        graph = Graph.of(what, tensors, fixed)
        return graph, {name: tensors[name] for name in graph.inputs}
    if isinstance(what, Model):
        graph = what.graph_for(tensors)
        return graph, arrays({name: value for name, value in tensors.items() if name not in graph.constants},
                             graph.masks)
    if isinstance(what, Graph):
        if not what.outputs:
            raise PearrayError("the graph must have an output; name those that runs return by Graph.output")
        return what, dict(tensors)
    raise PearrayError(f"op_or_model must be an operator such as pearray.Gemm(), a pearray.Graph, or a model of "
                       f"pearray.load_onnx or load_tflite, not {type(what).__name__}")


def _handle(what: Runnable, tensors: Mapping[str, Any], system: System, constants: Collection[str] | None,
            settings: Mapping[str, Any], keep: str) -> tuple[Handle | Parts, dict[str, np.ndarray]]:
    """Handle of anything runnable, and the inputs of its run; compiled if a part of it might be left to the host."""
    given = _arrays(what, tensors)
    graph, inputs = _graph(what, given, constants)
    if isinstance(what, Model) and what.fallback is not None:
        return mapped(what, lambda model: model.graph_for(given), system, inputs, settings, keep), inputs
    return handle_for(graph, system, inputs, **named_settings(settings, graph)), inputs


def run(op_or_model: Runnable, tensors: Mapping[str, Any], on: str | PathLike[str] | System | Config,
        engine: str = "verilator", keep: str | Collection[str] | None = None,
        progress: Callable[[int], None] | None = None, **settings: Any) -> Result:
    """Run an operator or a network on generated hardware.

    Parameters
    ----------
    op_or_model : operator, Graph or Model
        What to compute.
    tensors : mapping of str to array_like
        Inputs by name, in ONNX's layouts, or in those of the file.
    on : str, path, System or Config
        Accelerator and the memory behind it; see :func:`pearray.load_config`.
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
    system = system_of(on)
    handle, inputs = _handle(op_or_model, tensors, system, None, settings, "outputs" if keep is None else "all")
    return handle.run(inputs, engine, keep, progress)


def golden_run(op_or_model: Runnable, tensors: Mapping[str, Any], keep: str | Collection[str] | None = None,
               on: str | PathLike[str] | System | Config | None = None) -> dict[str, np.ndarray]:
    """Compute with NumPy what :func:`run` computes on hardware; what is left to the host, as the host does.

    Parameters
    ----------
    op_or_model : operator, Graph or Model
        What to compute.
    tensors : mapping of str to array_like
        Inputs by name, in ONNX's layouts, or in those of the file.
    keep : "all" or collection of str, optional
        As for :func:`run`.
    on : str, path, System or Config, optional
        Accelerator, for what depends on its array: blocks of quantised attention, and the order in which floats are
        added, without which they are added one after another.

    Returns
    -------
    dict of str to ndarray
        The same tensors as :func:`run`'s ``outputs``.

    Raises
    ------
    PearrayError
        If an input is wrong.
    """
    graph, inputs = _graph(op_or_model, _arrays(op_or_model, tensors))
    if on is not None:
        system = system_of(on)
        # How long is searched for the best program changes none of its results.
        brief: dict[str, Any] = {"effort": 0} if "effort" in compiler_for(system.hardware).settings else {}
        graph = Handle(graph, system, **brief).golden_graph
    made = graph.golden(inputs)
    return {name: made[name] for name in kept(graph, list(made), keep)}


def compile(op_or_model: Runnable, tensors: Mapping[str, Any], on: str | PathLike[str] | System | Config,
            to: str | PathLike[str] | None = None, constants: Collection[str] | None = None,
            **settings: Any) -> Handle | Parts:
    """Compile an operator or a network, to be run often.

    Parameters
    ----------
    op_or_model : operator, Graph or Model
        What to compute.
    tensors : mapping of str to array_like
        Inputs by name, in ONNX's layouts or the file's: their shapes and types count. Constants among them become
        part of the program, and with `to` the values of the rest go into the memory image.
    on : str, path, System or Config
        Accelerator and the memory behind it; see :func:`pearray.load_config`.
    to : path, optional
        Folder to write what somebody else's host and memory need: ``program.bin``; ``program.txt``, the same for
        reading; ``memory.bin``, the memory image from address 0 with program, packed constants and inputs;
        ``tensors.json``, the address, shape, layout and dtype of every input and output, and the program's address.
    constants : collection of str, optional
        Tensors of an operator that become part of the program; each run gives the others. If absent they are those
        that the operator names: weights, biases and masks. Without its mask, attention takes another at each run.
    **settings
        As for :func:`run`.

    Returns
    -------
    Handle or Parts
        Whose ``run(inputs, engine="verilator", keep=None)`` runs it; parts where the host computes some of a network.
        In `to` each part has a folder then, and ``parts.json`` says their order.

    Raises
    ------
    PearrayError
        If an input or the configuration is wrong, an operator cannot be mapped, or the folder
        cannot be written.
    """
    system, folder = system_of(on), None if to is None else check_path("to", to)
    handle, inputs = _handle(op_or_model, tensors, system, constants, settings, "outputs")
    handle.programs()
    if folder is not None:
        handle.write(folder, inputs)
    return handle
