"""What a run gave: tensors, and figures of the whole and of each layer from the hardware's counters."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

import numpy as np

from .compiler.compile import Compiled
from .compiler.compile import Layer as CompiledLayer
from .compiler.graph.arithmetic import zero_share
from .compiler.graph.graph import Node
from .compiler.operators import Contraction, Requant
from .hdl.shell.config import Config
from .sim.engine import Outcome

__all__ = ["Figures", "Layer", "Result", "layers_of", "record_bytes", "result_of", "total_active_pes"]


@dataclass(kw_only=True)
class Figures:
    """Figures of a whole run or of one layer.

    Parameters
    ----------
    macs : int
        Multiply-accumulates, unpadded.
    cycles : int
        Of a run from the start write to the done flag; of a layer from the end of the one before (or the start) to
        its own end.
    utilisation : float
        ``macs / (pes * cycles)``.
    dram_read_bytes, dram_write_bytes : int
        Beats in that time, times the width of the data; the program is included.
    host_packed_bytes : int
        Constants that the host packed.
    counters : dict of str to int
        Performance counters of the hardware: all of a run; of a layer the words of its profile record, on an
        array whose record tells how long it waits for memory only.
    active_pes : float or None
        PEs that the passes use at most; of a run the mean over layers, weighted by their processing cycles. This
        and all that follow are None on other arrays.
    processing_cycles : int or None
        Cycles but those in which the array waited for memory.
    global_buffer_bytes : int or None
        Read from the global buffer into the array (ifmaps and psums) and written back (psums); neither loads nor
        stores count.
    ifmap_zeros, ofmap_zeros : float or None
        Share of zeros in the activations and in the output of a contraction; None also where a tensor was not kept.
    """

    macs: int
    cycles: int
    utilisation: float
    dram_read_bytes: int
    dram_write_bytes: int
    host_packed_bytes: int
    counters: dict[str, int] = field(default_factory=dict, repr=False)
    active_pes: float | None = None
    processing_cycles: int | None = None
    global_buffer_bytes: int | None = None
    ifmap_zeros: float | None = None
    ofmap_zeros: float | None = None


@dataclass(kw_only=True)
class Layer(Figures):
    """What one layer of a run did.

    Parameters
    ----------
    name, operator : str
        Name of the node and of its operator.
    output : str
        Name of the tensor it makes.
    shape : tuple of int
        Shape of that tensor.
    mapping : dict of str to int
        Parameters of its mapping, where its kind of array has some.
    """

    name: str
    operator: str
    output: str
    shape: tuple[int, ...]
    mapping: dict[str, int] = field(default_factory=dict)


@dataclass(kw_only=True)
class Result(Figures):
    """What a run on the accelerator gave.

    Parameters
    ----------
    outputs : dict of str to ndarray
        Outputs by name, and with `keep` the tensors between.
    layers : list of Layer
        The figures of each layer.
    pes : int
        Processing elements of the configuration.
    build_s, sim_s : float
        Seconds for Verilog and its compilation, and for the simulated run alone.
    verilog_sha256 : str
        Hash of the Verilog that ran.
    """

    outputs: dict[str, np.ndarray]
    layers: list[Layer] = field(repr=False)
    pes: int
    build_s: float
    sim_s: float
    verilog_sha256: str


def record_bytes(config: Config) -> int:
    """Bytes of a record that a layer leaves in memory."""
    return 4 * len(config.commands.record)


def result_of(compiled: Compiled, outcome: Outcome, records: Sequence[bytes], outputs: dict[str, np.ndarray],
              inputs: Mapping[str, np.ndarray]) -> Result:
    """Make a result of what the hardware left behind.

    Parameters
    ----------
    compiled : Compiled
        What ran.
    outcome : Outcome
        The run.
    records : sequence of bytes
        Records of the layers in order; that of the last layer may be missing.
    outputs, inputs : mapping of str to ndarray
        Tensors made and given.
    """
    layers = layers_of(compiled, outcome, records, {**inputs, **outputs})
    config, macs = compiled.config, sum(layer.macs for layer in layers)
    totals = _totals(outcome)
    result = Result(
        outputs=outputs, cycles=outcome.cycles, counters=outcome.counters, layers=layers, macs=macs, pes=config.pes,
        utilisation=_share(macs, config.pes, outcome.cycles), dram_read_bytes=totals["read_beats"] * config.beat_bytes,
        dram_write_bytes=totals["write_beats"] * config.beat_bytes, host_packed_bytes=compiled.host_packed_bytes,
        build_s=outcome.build_s, sim_s=outcome.sim_s, verilog_sha256=outcome.verilog_sha256)
    if _has_activity(config):
        result.active_pes = total_active_pes(layers)
        result.processing_cycles = sum(layer.processing_cycles or 0 for layer in layers)
        result.global_buffer_bytes = sum(layer.global_buffer_bytes or 0 for layer in layers)
    return result


def total_active_pes(layers: Sequence[Layer]) -> float:
    """Mean of the layers' active PEs, weighted by their processing cycles."""
    cycles = [layer.processing_cycles or 0 for layer in layers]
    total = sum((layer.active_pes or 0) * some for layer, some in zip(layers, cycles, strict=True))
    return round(total / sum(cycles), 1) if sum(cycles) else 0.0


def layers_of(compiled: Compiled, outcome: Outcome, records: Sequence[bytes],
              tensors: Mapping[str, np.ndarray]) -> list[Layer]:
    """Split the counts of a run at the records that layers left behind; the last layer ends with the run."""
    config = compiled.config
    names = config.commands.record
    nodes = {node.name: node for node in compiled.graph.nodes}
    before = dict.fromkeys(names, 0)
    layers = []
    for index, layer in enumerate(compiled.layers):
        end = dict(before)
        if index < len(records):
            words = dict(zip(names, struct.unpack(f"<{len(names)}I", records[index]), strict=True))
            # Counts are modulo 2**32.
            end = {name: start + (words[name] - start) % (1 << 32) for name, start in before.items()}
        if layer is compiled.layers[-1]:
            end |= {name: count for name, count in _totals(outcome).items() if name in end}
        done = {name: end[name] - before[name] for name in names}
        before = end
        made = Layer(
            name=layer.name, operator=layer.kind, output=layer.output, shape=layer.shape, macs=layer.macs,
            cycles=done["cycles"], utilisation=_share(layer.macs, config.pes, done["cycles"]),
            dram_read_bytes=done["read_beats"] * config.beat_bytes,
            dram_write_bytes=done["write_beats"] * config.beat_bytes, host_packed_bytes=layer.packed_bytes)
        if _has_activity(config):
            made.mapping = _parameters(layer)
            # This one is a greatest value since the record before, and no count.
            done["active_pes"] = words["active_pes"]
            _add_activity(made, done, config, nodes[layer.name], tensors)
        layers.append(made)
    return layers


def _add_activity(layer: Layer, done: dict[str, int], config: Config, node: Node,
                  tensors: Mapping[str, np.ndarray]) -> None:
    layer.counters = done
    layer.active_pes = done["active_pes"]
    layer.processing_cycles = done["cycles"] - done["stall_dram"]
    layer.global_buffer_bytes = (done["ifmap_reads"] * config.operand_bytes
                                 + (done["psum_reads"] + done["psum_writes"]) * config.sum_bytes)
    operator = node.operator
    if isinstance(operator, Contraction):
        requant = operator.requant
        y_zero = requant.y_zero_point if isinstance(requant, Requant) else 0
        x, y = tensors.get(node.inputs[operator.roles[0]]), tensors.get(layer.output)
        layer.ifmap_zeros = None if x is None else zero_share(x, operator.zero_points[0])
        layer.ofmap_zeros = None if y is None else zero_share(y, y_zero)


def _parameters(layer: CompiledLayer) -> dict[str, int]:
    """Parameters of a layer's mapping, those with a default only where they differ from it."""
    if layer.mapping is None:
        return {}
    values = {item.name: (getattr(layer.mapping, item.name), item.default) for item in fields(layer.mapping)}
    return {name: value for name, (value, default) in values.items() if value != default}


#: Words of a profile record of which the figures of activity are made.
_ACTIVITY = {"stall_dram", "ifmap_reads", "psum_reads", "psum_writes", "active_pes"}


def _has_activity(config: Config) -> bool:
    return _ACTIVITY <= set(config.commands.record)


def _totals(outcome: Outcome) -> dict[str, int]:
    """Counts of a whole run under the names of a record."""
    counters = outcome.counters
    events = {name.removeprefix("execute_"): count for name, count in counters.items() if name.startswith("execute_")}
    return {**events, "cycles": outcome.cycles, "read_beats": counters["fetch_beats"] + counters["load_beats"],
            "write_beats": counters["write_beats"]}


def _share(macs: int, pes: int, cycles: int) -> float:
    return macs / (pes * cycles) if cycles else 0.0
