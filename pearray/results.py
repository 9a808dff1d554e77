"""What a run gave: tensors, and figures of the whole and of each layer from the hardware's counters."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from .compiler.compiled import Compiled
from .compiler.graph.parts import Crossing
from .compiler.kinds import compiler_for
from .compiler.operators.hosted import HostedKind
from .hdl.shell.config import Config
from .ledger import charge, computed, total
from .sim.engine import Outcome
from .sim.trace import Trace

__all__ = ["Figures", "HostWork", "Layer", "Result", "in_parts", "joined", "layers_of", "record_bytes", "result_of"]


@dataclass(kw_only=True)
class Figures:
    """Figures of a whole run or of one layer.

    Parameters
    ----------
    macs : int
        Multiply-accumulates, unpadded.
    cycles : int
        Of a run from the start write to the done flag; of a layer from the end of the one before (or the start) to
        its own end, when its last output is in memory. Cycles in which the array has worked for the next layer before
        that are the next layer's. Those of all layers are those of the run.
    utilisation : float
        ``macs / (pes * cycles)``.
    dram_read_bytes, dram_write_bytes : int
        Beats between these ends, times the width of the data; the program is included.
    host_packed_bytes : int
        Constants that the host packed.
    counters : dict of str to int
        Performance counters of the hardware: all of a run; of a layer those of its record that the kind of array tells,
        less those of the record before: what was counted between the ends of layers, whichever layer it was for.
    ledger : dict of str to int
        Cycles by cause, which add up to ``cycles``, by the names of :data:`.hdl.shell.ledger.CAUSES`.
    extras : dict
        Figures that the kind of array alone has, by name; they can be asked for as attributes, too.
    """

    macs: int
    cycles: int
    utilisation: float
    dram_read_bytes: int
    dram_write_bytes: int
    host_packed_bytes: int
    counters: dict[str, int] = field(default_factory=dict, repr=False)
    ledger: dict[str, int] = field(default_factory=dict, repr=False)
    extras: dict[str, Any] = field(default_factory=dict, repr=False)

    def __getattr__(self, name: str) -> Any:
        extras = self.__dict__.get("extras", {})
        if name not in extras:
            raise AttributeError(f"{type(self).__name__} has no figure {name!r} on this array")
        return extras[name]


@dataclass(kw_only=True)
class Layer(Figures):
    """What one layer of a run did.

    Parameters
    ----------
    name, operator : str
        Name of the node and of its operator.
    outputs : tuple of str
        Names of the tensors it makes.
    shape : tuple of int
        Shape of the first.
    """

    name: str
    operator: str
    outputs: tuple[str, ...]
    shape: tuple[int, ...]

    @property
    def output(self) -> str:
        """Name of the first tensor it makes."""
        return self.outputs[0]


@dataclass(frozen=True)
class HostWork:
    """What the host computes of a network, between programs.

    Parameters
    ----------
    kinds : list of HostedKind
        Operators, how many nodes of each, the name of the first, and why.
    parts, programs : int
        How many parts the host computes, and how many the accelerator.
    macs, own_macs : int
        Multiply-accumulates of the host and of the accelerator.
    crossings : list of Crossing
        Tensors that go from programs to the host and back, with their bytes.
    """

    kinds: list[HostedKind]
    parts: int
    programs: int
    macs: int
    own_macs: int
    crossings: list[Crossing]

    @property
    def share(self) -> float:
        """Share of the multiply-accumulates that the accelerator does; 0 if there are none."""
        return self.own_macs / (self.own_macs + self.macs) if self.own_macs else 0.0


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
    trace : Trace or None
        What happened when, if it was kept.
    host : HostWork or None
        What the host has computed between programs, whose figures are added up then.
    """

    outputs: dict[str, np.ndarray]
    layers: list[Layer] = field(repr=False)
    pes: int
    build_s: float
    sim_s: float
    verilog_sha256: str
    trace: Trace | None = field(default=None, repr=False)
    host: HostWork | None = field(default=None, repr=False)


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
        outputs=outputs, cycles=outcome.cycles, counters=outcome.counters,
        ledger=_ledger(outcome, layers, config.pes), layers=layers, macs=macs, pes=config.pes,
        utilisation=_share(macs, config.pes, outcome.cycles), dram_read_bytes=totals["read_beats"] * config.beat_bytes,
        dram_write_bytes=totals["write_beats"] * config.beat_bytes, host_packed_bytes=compiled.host_packed_bytes,
        build_s=outcome.build_s, sim_s=outcome.sim_s, verilog_sha256=outcome.verilog_sha256,
        trace=outcome.trace)
    if all(layer.extras for layer in layers):
        result.extras = compiler_for(config).run_figures([layer.extras for layer in layers])
    return result


def joined(first: Result, name: str, others: Sequence[Result]) -> Result:
    """One result of a run and of others behind it, of one program, whose layers are added up under names of theirs.

    Outputs of the others, one behind another along a new axis, and layers have `name` and a colon before their own
    names. What was packed for that program counts once.
    """
    if not others:
        return first
    layers = [replace(_added([other.layers[index] for other in others], first.pes), name=f"{name}:{layer.name}",
                      outputs=tuple(f"{name}:{output}" for output in layer.outputs))
              for index, layer in enumerate(others[0].layers)]
    stacked = {f"{name}:{output}": np.stack([other.outputs[output] for other in others])
               for output in others[0].outputs}
    whole = _added([first, _added(others, first.pes)], first.pes)
    return replace(
        whole, outputs={**first.outputs, **stacked}, layers=[*first.layers, *layers],
        host_packed_bytes=first.host_packed_bytes + others[0].host_packed_bytes, trace=None,
        build_s=first.build_s + sum(other.build_s for other in others),
        sim_s=first.sim_s + sum(other.sim_s for other in others))


def in_parts(results: Sequence[Result], outputs: dict[str, np.ndarray], pes: int, host: HostWork | None) -> Result:
    """One result of runs of different programs, between which the host has computed."""
    if not results:
        return Result(outputs=outputs, layers=[], macs=0, cycles=0, pes=pes, utilisation=0.0, dram_read_bytes=0,
                      dram_write_bytes=0, host_packed_bytes=0, build_s=0.0, sim_s=0.0, verilog_sha256="", host=host)
    return replace(
        _added(results, pes), outputs=outputs, layers=[layer for result in results for layer in result.layers],
        host_packed_bytes=sum(result.host_packed_bytes for result in results), trace=None, host=host,
        build_s=sum(result.build_s for result in results), sim_s=sum(result.sim_s for result in results))


AnyFigures = TypeVar("AnyFigures", bound=Figures)


def _added(figures: Sequence[AnyFigures], pes: int) -> AnyFigures:
    """The first of some figures with the sums of all; figures of a kind of array alone are left out."""
    macs, cycles = (sum(getattr(each, name) for each in figures) for name in ("macs", "cycles"))
    return replace(
        figures[0], macs=macs, cycles=cycles, utilisation=_share(macs, pes, cycles),
        dram_read_bytes=sum(each.dram_read_bytes for each in figures),
        dram_write_bytes=sum(each.dram_write_bytes for each in figures), extras={},
        counters={name: sum(each.counters[name] for each in figures) for name in figures[0].counters},
        ledger=total([each.ledger for each in figures]))


def layers_of(compiled: Compiled, outcome: Outcome, records: Sequence[bytes],
              tensors: Mapping[str, np.ndarray]) -> list[Layer]:
    """Split the counts of a run at the records that layers left behind; the last layer ends with the run."""
    config = compiled.config
    names = config.commands.record
    nodes = {node.name: node for node in compiled.device.nodes}
    before = dict.fromkeys(names, 0)
    layers, work, lents = [], 0, [0]
    for index, layer in enumerate(compiled.layers):
        end, words = dict(before), {}
        if index < len(records):
            words = dict(zip(names, struct.unpack(f"<{len(names)}I", records[index]), strict=True))
            # Counts are modulo 2**32.
            end = {name: start + (words[name] - start) % (1 << 32) for name, start in before.items()}
        if layer is compiled.layers[-1]:
            end |= {name: count for name, count in _totals(outcome).items() if name in end}
        done = {name: end[name] - before[name] for name in names}
        before, work = end, work + layer.work
        lents.append(0 if layer is compiled.layers[-1] else compiler_for(config).ahead(config, end, work))
        done["cycles"] += lents[-2] - lents[-1]
        # A position, or a mask, says how many products there are.
        macs = compiled.device.macs(nodes[layer.name], compiled.given(tensors)) if compiled.varies else layer.macs
        made = Layer(
            name=layer.name, operator=layer.kind, outputs=layer.outputs, shape=layer.shape, macs=macs,
            cycles=done["cycles"], utilisation=_share(macs, config.pes, done["cycles"]),
            dram_read_bytes=done["read_beats"] * config.beat_bytes,
            dram_write_bytes=done["write_beats"] * config.beat_bytes, host_packed_bytes=layer.packed_bytes)
        if words:
            made.extras = compiler_for(config).layer_figures(config, nodes[layer.name], layer.notes, words, done,
                                                             tensors)
            made.counters = made.extras.pop("counters", {})
        layers.append(made)
    if outcome.ledger:
        ledgers = charge(outcome.ledger, computed(compiled, [layer.macs for layer in layers]), lents[1:], config.pes)
        for made, ledger in zip(layers, ledgers, strict=True):
            made.ledger = ledger
    return layers


def _ledger(outcome: Outcome, layers: list[Layer], pes: int) -> dict[str, int]:
    """Ledger of a run: the sum of its layers'; a program without any has one all the same."""
    if layers or not outcome.ledger:
        return total([layer.ledger for layer in layers])
    return total(charge(outcome.ledger, [0], [0], pes))


def _totals(outcome: Outcome) -> dict[str, int]:
    """Counts of a whole run under the names of a record."""
    counters = outcome.counters
    events = {name.removeprefix("execute_"): count for name, count in counters.items() if name.startswith("execute_")}
    return {**events, "cycles": outcome.cycles, "read_beats": counters["fetch_beats"] + counters["load_beats"],
            "write_beats": counters["write_beats"]}


def _share(macs: int, pes: int, cycles: int) -> float:
    return macs / (pes * cycles) if cycles else 0.0
