"""Planning of layers: what makes it fast must not change what it finds."""

import numpy as np
from random_workloads import configuration, operands

from pearray import load_config
from pearray.compiler.compile import compile_graph
from pearray.compiler.graph.graph import Graph, Node, Tensor
from pearray.compiler.kinds import compiler_for
from pearray.compiler.operators import Conv2d, Gemm, LinearGrad, Requant
from pearray.compiler.systolic import mapper, repeat, tiling
from pearray.compiler.systolic.bounds import Bounds


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


def test_bounds_hold(rng, monkeypatch):
    """A bound above what a program takes would refuse tilings unseen, among them the best."""
    timed = []
    least = Bounds.least_cycles

    def noted(self, steps):
        timed.append(least(self, steps))
        return timed[-1]

    monkeypatch.setattr(Bounds, "least_cycles", noted)
    cycles_of = tiling.cycles_of

    def checked(*args):
        found = cycles_of(*args)
        assert timed[-1] <= found
        return found

    monkeypatch.setattr(tiling, "cycles_of", checked)
    # Lanes take as long as the array in the last: banks are handed over in flight.
    for sizes in ((20, 30, 40), (64, 64, 64), (1, 100, 9), (130, 7, 11), (72, 26, 25)):
        _gemm(rng, *sizes)
    assert len(timed) > 20


def test_dataflows_are_compared_from_the_beginning(rng):
    """A way that is timed twice must not find its tiles where the first time left them, or the worse one is chosen."""
    config = configuration(4, 1, 64, 512, 64, 16, 8, 1, 32, 16)
    tensors = {"x": operands(rng, (3, 16), np.int16, 16), "w": operands(rng, (3, 16), np.int16, 16),
               "dy": operands(rng, (3, 3), np.int16, 16)}
    cycles = {dataflow: compiler_for(config).cycles(config, compile_graph(
        Graph.of(LinearGrad(), tensors), config, dataflow=dataflow).program) for dataflow in mapper.DATAFLOWS}
    assert cycles["cheapest"] <= 1.01 * min(cycles.values()), cycles
