"""Planning of layers: what makes it fast must not change what it finds."""

import numpy as np
from random_workloads import configuration, operands

from pearray import load_config
from pearray.compiler.compile import compile_graph
from pearray.compiler.graph.graph import Graph, Node, Tensor
from pearray.compiler.kinds import compiler_for
from pearray.compiler.operators import Conv2d, Gemm, LinearGrad, Requant
from pearray.compiler.placement import MemoryPlan
from pearray.compiler.systolic import mapper, repeat, tiling
from pearray.compiler.systolic.bounds import Bounds
from pearray.compiler.systolic.lower import lower
from pearray.compiler.systolic.schedule import schedule
from pearray.compiler.systolic.timeline import timeline
from pearray.compiler.timing.latencies import LateError


def _gemm(rng, m, k, n, config=None):
    tensors = {"a": operands(rng, (m, k)), "b": operands(rng, (k, n))}
    operator = Gemm(requant=Requant.onnx(1.0, 0, 1.0, 0, float(np.sqrt(k) * 130), 0))
    return compile_graph(Graph.of(operator, tensors), config or configuration())


def test_repeated_groups_are_what_the_scheduler_would_emit(seed, monkeypatch):
    """Groups that are emitted at once must be the commands that steps one by one would have become."""
    emitted = []
    emit = repeat.Repeats.emit
    monkeypatch.setattr(repeat.Repeats, "emit", lambda self, index: emitted.append(emit(self, index)) or emitted[-1])
    config = load_config("systolic-8x8").hardware
    fast = _gemm(np.random.default_rng(seed), 1024, 1024, 1024, config).program.encode()
    assert sum(map(bool, emitted)) > 10
    monkeypatch.setattr(repeat, "_WORTH", 1 << 30)
    assert _gemm(np.random.default_rng(seed), 1024, 1024, 1024, config).program.encode() == fast


def test_equal_layers_are_planned_once(rng, monkeypatch):
    """A network's equal layers would be searched again, one by one; layers that differ must not share a tiling."""
    planned = []
    choose = mapper.choose_tiling
    monkeypatch.setattr(mapper, "choose_tiling",
                        lambda *args, **how: planned.append(args[0].problem) or choose(*args, **how))
    nodes, constants = [], {}
    for index, size in enumerate((3, 3, 1, 3)):
        constants[f"w{index}"] = operands(rng, (4, 4, size, size))
        operator = Conv2d(padding=size // 2, requant=Requant.onnx(1.0, 0, 1.0, 0, 700.0, index))
        nodes.append(Node(f"t{index + 1}", operator, {"x": f"t{index}", "w": f"w{index}"}, {"y": f"t{index + 1}"}))
    x = Tensor("t0", (1, 4, 6, 6), np.dtype(np.int8))
    compile_graph(Graph(nodes, {"t0": x}, constants, ["t0"], ["t4"]), configuration())
    assert [each.r for each in planned] == [3, 1]


def _told(steps):
    """All that a program says of steps."""
    def tile(use):
        return use and (use.pieces, use.tile.memory, use.tile.size, [piece.loads for piece in use.tile.pieces])

    return [(step.body, step.ahead, *map(tile, step.operands),
             [(output.body, output.size, output.stores, *map(tile, output.constants)) for output in step.group.outputs])
            for step in steps]


def test_what_programs_of_a_layer_share_changes_none(rng, monkeypatch):
    """Commands that another tiling of the same layer had made for its own cuts would be part of this one's program.

    And what is not timed since another states the same would have cycles that are not its own.
    """
    tilings, programs, layers = set(), {}, []

    def checked(cut, layer, plan, known):
        made = lower(cut, layer, plan, known)
        assert _told(made) == _told(lower(cut, layer, MemoryPlan(keep=False)))
        twin = lower(cut, layer, MemoryPlan(keep=False), known)
        assert (said := tiling.stated(twin)) == tiling.stated(made)
        program = schedule(layer.config, layer.timing, twin).encode()
        # Kept, as bodies are by what is known of the layer: identities are not given twice.
        layers.append((layer, known, twin))
        assert programs.setdefault((id(layer), said), program) == program
        tilings.add(cut)
        return made

    monkeypatch.setattr(tiling, "lower", checked)
    _gemm(rng, 35, 44, 50)
    shapes = {"x": (1, 6, 13, 12), "w": (10, 6, 3, 3), "b": (10,)}
    tensors = {role: operands(rng, shape).astype(np.int32 if role == "b" else np.int8)
               for role, shape in shapes.items()}
    for operator in (Conv2d(padding=1, requant=Requant.onnx(1.0, 0, 1.0, 0, 700.0, 0)), Conv2d(stride=2)):
        compile_graph(Graph.of(operator, tensors), configuration())
    assert len(tilings) > 30


def test_bounds_hold(rng, monkeypatch):
    """A bound above what a program takes would refuse tilings unseen, or stop them, among them the best."""
    timed = []
    least = Bounds.least_cycles

    def noted(self, steps):
        timed.append(least(self, steps))
        return timed[-1]

    monkeypatch.setattr(Bounds, "least_cycles", noted)
    stopped = []

    def checked(config, timing, steps, limit=None):
        program = schedule(config, timing, steps)
        found = timeline(config, program, timing).cycles
        assert timed[-1] <= found
        if limit is None:
            return found
        try:
            assert timeline(config, program, timing, limit).cycles == found
        except LateError:
            stopped.append(steps)
            assert limit.most < found
            return float("inf")
        return found

    monkeypatch.setattr(tiling, "cycles_of", checked)
    # Lanes take as long as the array in the last: banks are handed over in flight.
    for sizes in ((20, 30, 40), (64, 64, 64), (1, 100, 9), (130, 7, 11), (72, 26, 25)):
        _gemm(rng, *sizes)
    assert len(timed) > 20
    assert len(stopped) > 5


def test_dataflows_are_compared_from_the_beginning(rng):
    """A way that is timed twice must not find its tiles where the first time left them, or the worse one is chosen."""
    config = configuration(4, 1, 64, 512, 64, 16, 8, 1, 32, 16)
    tensors = {"x": operands(rng, (3, 16), np.int16, 16), "w": operands(rng, (3, 16), np.int16, 16),
               "dy": operands(rng, (3, 3), np.int16, 16)}
    cycles = {dataflow: compiler_for(config).cycles(config, compile_graph(
        Graph.of(LinearGrad(), tensors), config, dataflow=dataflow).program) for dataflow in mapper.DATAFLOWS}
    assert cycles["cheapest"] <= 1.01 * min(cycles.values()), cycles
