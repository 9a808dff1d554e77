"""The vector engine and tensors on chip, for the page of benchmarks: element-wise, thin and residual layers."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

import pearray as pe
from pearray.compiler.graph.graph import Graph, Node, Tensor
from pearray.hdl.shell.commands import COMMAND_BYTES
from pearray.workloads.workload import load_workload

__all__ = ["INTRODUCTION", "rows", "vector"]

INTRODUCTION = (
    "Layers that are no dense product, and networks whose tensors stay on chip, run by `python docs/bench.py --only "
    "vector` on the RTL with the default memory. The least that memory moves is program, constants, input and output. "
    "Products a column are multiply-accumulates over cycles and columns of the array.")


class Case(NamedTuple):
    """A network, and what it may take."""

    name: str
    config: str
    make: Callable[[np.random.Generator], tuple[Graph, dict[str, np.ndarray]]]
    #: Cycles, and memory bytes over what must be moved, at most; 0 for no limit.
    cycles: int = 0
    bytes: float = 0.0


def _int8(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(-128, 128, shape, dtype=np.int8)


def _add(*scales: float) -> Callable[[np.random.Generator], tuple[Graph, dict[str, np.ndarray]]]:
    def make(rng: np.random.Generator) -> tuple[Graph, dict[str, np.ndarray]]:
        tensors = {"a": _int8(rng, 1, 64, 14, 14), "b": _int8(rng, 1, 64, 14, 14)}
        return Graph.of(pe.Add(scales[0], 3, scales[1], -5, scales[2], np.int8(7)), tensors), tensors
    return make


def _average(rng: np.random.Generator) -> tuple[Graph, dict[str, np.ndarray]]:
    tensors = {"x": _int8(rng, 1, 64, 14, 14)}
    return Graph.of(pe.AvgPool2d(2, stride=2, x_scale=0.1, x_zero_point=3, y_scale=0.1, y_zero_point=np.int8(3)),
                    tensors), tensors


def _depthwise(channels: int, height: int, width: int) -> Callable[[np.random.Generator],
                                                                   tuple[Graph, dict[str, np.ndarray]]]:
    def make(rng: np.random.Generator) -> tuple[Graph, dict[str, np.ndarray]]:
        requant = pe.Requant.onnx(0.02, 3, 0.01, 0, 0.1, np.int8(-4))
        operator = pe.Conv2d(padding=1, groups=channels, requant=requant)
        x, w = _int8(rng, 1, channels, height, width), _int8(rng, channels, 1, 3, 3)
        b = rng.integers(-1000, 1000, channels, dtype=np.int32)
        graph = Graph([Node("depthwise", operator, {"x": "x", "w": "w", "b": "b"}, {"y": "y"})],
                      {"x": Tensor("x", x.shape, x.dtype)}, {"w": w, "b": b}, ["x"], ["y"])
        return graph, {"x": x}
    return make


def _residual(rng: np.random.Generator) -> tuple[Graph, dict[str, np.ndarray]]:
    """Two 3 x 3 convolutions of 64 channels and their input, added; zero points of -128 make results those of Relu."""
    x, nodes = _int8(rng, 1, 64, 56, 56), []
    constants: dict[str, np.ndarray] = {}
    for number, (source, target) in enumerate((("x", "t1"), ("t1", "t2"))):
        constants[f"w{number}"] = _int8(rng, 64, 64, 3, 3)
        constants[f"b{number}"] = rng.integers(-1000, 1000, 64, dtype=np.int32)
        requant = pe.Requant.onnx(0.02, -128, 0.0005, 0, 0.05, np.int8(-128))
        nodes.append(Node(f"conv{number}", pe.Conv2d(padding=1, requant=requant),
                          {"x": source, "w": f"w{number}", "b": f"b{number}"}, {"y": target}))
    nodes.append(Node("add", pe.Add(0.05, -128, 0.02, -128, 0.06, np.int8(-128)), {"a": "t2", "b": "x"}, {"y": "y"}))
    return Graph(nodes, {"x": Tensor("x", x.shape, x.dtype)}, constants, ["x"], ["y"]), {"x": x}


def _digit(_: np.random.Generator) -> tuple[Graph, dict[str, np.ndarray]]:
    made = load_workload("mnist", 0, {}, pe.load_config("systolic-8x8").hardware)
    return made.graph, made.inputs


#: An addition may take 1.15 times what its 12,544 outputs take on two lanes, and 300 cycles.
_ADD = 12544 // 2 * 115 // 100 + 300

CASES = [
    Case("Add of 64 x 14 x 14, scales .02, .03, .04", "systolic-8x8", _add(0.02, 0.03, 0.04), _ADD),
    Case("Add of 64 x 14 x 14, scales .023529, .019608, .031373", "systolic-8x8",
         _add(0.023529, 0.019608, 0.031373), _ADD),
    Case("AvgPool2d 2 x 2 of 64 x 14 x 14, equal scales", "systolic-8x8", _average),
    Case("depthwise 3 x 3, 64 channels, 25 x 5 pixels", "systolic-16x16", _depthwise(64, 25, 5), 2200),
    Case("depthwise 3 x 3, 32 channels, 112 x 112 pixels", "systolic-16x16", _depthwise(32, 112, 112),
         112 * 112 * 32 * 9 * 10 // 25 // 16),
    Case("residual block, 64 channels, 56 x 56 pixels", "systolic-32x32", _residual,
         2 * 56 * 56 * 64 * 64 * 9 // 1024 * 10 // 9, 1.1),
    Case("mnist", "systolic-8x8", _digit, 14000, 1.05),
]


def rows() -> list[str]:
    """First cells of :func:`vector`."""
    return [f"{case.name}, on {case.config}" for case in CASES]


def _bound(value: str, reached: bool, limit: float) -> str:
    return value if not limit else value if reached else f"{value}: not reached"


def _measure(case: Case, name: str) -> str:
    graph, inputs = case.make(np.random.default_rng(0))
    handle = pe.compile(graph, inputs, on=case.config)
    result, expected = handle.run(inputs), graph.golden(inputs)
    compiled, config = handle.compiled(), pe.load_config(case.config).hardware
    wrong = sum(int((result.outputs[output] != expected[output]).sum()) for output in graph.outputs)
    checked = sum(expected[output].size for output in graph.outputs)
    least: Any = (compiled.program.length + 1) * COMMAND_BYTES
    least += sum(value.nbytes for value in (*graph.constants.values(), *inputs.values()))
    least += sum(expected[output].nbytes for output in graph.outputs)
    moved = result.dram_read_bytes + result.dram_write_bytes
    cycles = _bound(f"{case.cycles:,}" if case.cycles else "", result.cycles <= case.cycles, case.cycles)
    times = _bound(f"{case.bytes}" if case.bytes else "", moved <= case.bytes * least, case.bytes)
    macs = sum(layer.macs for layer in result.layers)
    return (f"| {name} | {result.cycles:,} | {cycles} | {100 * macs / config.pes / result.cycles:.1f} % "
            f"| {macs / config.array.cols / result.cycles:.2f} | {moved:,} | {moved / least:.2f} | {times} "
            f"| {wrong} of {checked:,} | `{result.verilog_sha256[:12]}` |")


def vector() -> Iterator[str]:
    """Table, one line for each case."""
    yield ("| network | cycles | at most | utilisation | products a column | memory bytes | over the least | at most "
           "| mismatches | Verilog |")
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for case, name in zip(CASES, rows(), strict=True):
        print(name, flush=True)
        yield _measure(case, name)
