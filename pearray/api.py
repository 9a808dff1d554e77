"""Run, compile and check operators and networks."""

import struct
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from .compiler.compile import Compiled, compile_graph
from .compiler.graph import Graph
from .compiler.onnx_import import Model, load_onnx
from .compiler.operator import Operator
from .configuration import load_config
from .hdl.config import Config
from .hdl.errors import PearrayError
from .sim.engine import Job, Outcome
from .sim.engine import run as simulate

__all__ = [
    "Layer", "Model", "Result", "Runnable", "compile", "golden_run", "load_onnx", "run", "run_compiled",
]

#: What can be run: an operator, a network from a file, or a graph of operators.
Runnable = Operator | Model | Graph


@dataclass
class Layer:
    """What one layer of a run did.

    Parameters
    ----------
    name, operator : str
        Name of the node and of its operator.
    output : str
        Name of the tensor it makes.
    shape : tuple of int
        Shape of that tensor.
    macs : int
        Multiply-accumulates, unpadded.
    cycles : int
        From the end of the layer before (or the start) to the end of this one.
    utilisation : float
        ``macs / (pes * cycles)``.
    dram_read_bytes, dram_write_bytes : int
        Beats in that time, times the width of the data.
    host_packed_bytes : int
        Constants of this layer that the host packed.
    """

    name: str
    operator: str
    output: str
    shape: tuple[int, ...]
    macs: int
    cycles: int
    utilisation: float
    dram_read_bytes: int
    dram_write_bytes: int
    host_packed_bytes: int


@dataclass
class Result:
    """What a run on the accelerator gave.

    Parameters
    ----------
    outputs : dict of str to ndarray
        Outputs by name, and with `keep` the tensors between.
    cycles : int
        From the start write to the done flag.
    counters : dict of str to int
        Performance counters of the hardware.
    layers : list of Layer
        The same for each layer.
    macs, pes : int
        Multiply-accumulates of the whole, unpadded; processing elements of the configuration.
    utilisation : float
        ``macs / (pes * cycles)``.
    dram_read_bytes, dram_write_bytes : int
        Beats times the width of the data, the program included.
    host_packed_bytes : int
        Constants that the host packed.
    build_s, sim_s : float
        Seconds for Verilog and its compilation, and for the simulated run alone.
    verilog_sha256 : str
        Hash of the Verilog that ran.
    """

    outputs: dict[str, np.ndarray]
    cycles: int
    counters: dict[str, int] = field(repr=False)
    layers: list[Layer] = field(repr=False)
    macs: int
    pes: int
    utilisation: float
    dram_read_bytes: int
    dram_write_bytes: int
    host_packed_bytes: int
    build_s: float
    sim_s: float
    verilog_sha256: str


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
        progress: Callable[[int], None] | None = None) -> Result:
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
    return run_compiled(compile_graph(graph, config, "all"), inputs, engine, keep, progress)


def run_compiled(compiled: Compiled, inputs: Mapping[str, np.ndarray], engine: str = "verilator",
                 keep: str | Collection[str] | None = None,
                 progress: Callable[[int], None] | None = None) -> Result:
    """Run a compiled graph; see :func:`run`."""
    wanted = _kept(compiled.graph, compiled.output_names, keep)
    regions = [(placed.address, placed.nbytes) for placed in compiled.outputs.values()]
    records = [(layer.profile, _RECORD.size) for layer in compiled.layers if layer.profile is not None]
    job = Job(compiled.config, compiled.segments + compiled.bind(inputs), compiled.program_address,
              [*regions, *records])
    outcome = simulate(job, engine, progress)
    contents = dict(zip(job.read, outcome.regions, strict=True))
    outputs = {name: compiled.extract(name, lambda address, length: contents[address, length])
               for name in wanted}
    totals = _totals(compiled.config, outcome)
    layers = _layers(compiled, [contents[record] for record in records], totals)
    macs, pes = sum(layer.macs for layer in layers), compiled.config.pes
    return Result(outputs, outcome.cycles, outcome.counters, layers, macs, pes,
                  _share(macs, pes, outcome.cycles), totals[1], totals[2], compiled.host_packed_bytes,
                  outcome.build_s, outcome.sim_s, outcome.verilog_sha256)


#: A profile record: cycles since start, read beats, write beats, cycles with an operand vector.
_RECORD = struct.Struct("<4I")


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


def _share(macs: int, pes: int, cycles: int) -> float:
    return macs / (pes * cycles) if cycles else 0.0


def _totals(config: Config, outcome: Outcome) -> tuple[int, int, int]:
    """Cycles, bytes read and bytes written of a whole run."""
    counters = outcome.counters
    read = counters["fetch_beats"] + counters["load_beats"]
    return outcome.cycles, read * config.beat_bytes, counters["write_beats"] * config.beat_bytes


def _layers(compiled: Compiled, records: list[bytes], totals: tuple[int, int, int]) -> list[Layer]:
    """Split the totals of a run at the records that each layer but the last left behind."""
    beat = compiled.config.beat_bytes
    ends = [(cycles, read * beat, written * beat)
            for cycles, read, written, _ in map(_RECORD.unpack, records)]
    before = (0, 0, 0)
    layers = []
    for layer, end in zip(compiled.layers, [*ends, totals], strict=True):
        cycles, read, written = (stop - start for start, stop in zip(before, end, strict=True))
        layers.append(Layer(
            layer.name, layer.kind, layer.output, layer.shape, layer.macs, cycles,
            _share(layer.macs, compiled.config.pes, cycles), read, written, layer.packed_bytes))
        before = end
    return layers


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
            to: str | PathLike[str]) -> Compiled:
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
    compiled = compile_graph(graph, config, "all")
    folder = Path(to)
    try:
        compiled.write(folder, inputs)
        (folder / "program.txt").write_text(compiled.commands + "\n")
    except OSError as error:
        raise PearrayError(f"folder {str(folder)!r} cannot be written: {error.strerror}") from None
    return compiled
