"""Time and memory of compilations: a part of docs/bench.py.

``python docs/bench_compile.py WORKLOAD CONFIG`` makes the workload, compiles it, and prints its figures as JSON.
``resnet-50-qdq`` stands for ResNet-50 in QDQ form on 224 x 224 images, with drawn weights and scales, and
``gemm-trans-a`` for a product whose first operand stands transposed.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import pearray as pe
from pearray.configuration import System
from pearray.workloads.workload import load_workload

__all__ = ["INTRODUCTION", "compilation", "resnet_50", "rows"]

INTRODUCTION = (
    "Seconds of the processor that a compilation takes, from the graph to the bytes of the program and of packed "
    "constants, and by how many MB (10^6 bytes) the process's memory peaks above what it held before. Making the "
    "workload, its tensors and its scales is not counted.")

#: Workload, configuration, and the seconds and MB that its compilation may take at most.
RUNS: list[tuple[str, str, float | None, float | None]] = [
    ("resnet-50-qdq", "systolic-32x32", 20.0, None),
    ("gemm:4096x4096x4096", "systolic-8x8", 10.0, 300.0),
    ("gemm-trans-a:1x70000x1", "tests/cocotb/row_stationary.toml", 10.0, None),
    ("alexnet-conv", "systolic-32x32", None, None),
    ("mnist", "systolic-8x8", None, None),
]


def rows() -> list[str]:
    """First cells of :func:`compilation`."""
    return [f"`python docs/bench_compile.py {workload} {config}`" for workload, config, *_ in RUNS]


def compilation() -> Iterator[str]:
    """Table of times and memory, one line for each compilation."""
    yield "| command | s of processor | at most | MB | at most | commands |"
    yield "|---|---|---|---|---|---|"
    for (workload, config, most_s, most_mb), command in zip(RUNS, rows(), strict=True):
        print("compile", workload, config, flush=True)
        # A process of its own: its peak of memory is nothing else's.
        done = subprocess.run([sys.executable, __file__, workload, config], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, check=False)
        if done.returncode:
            yield f"| {command} | {(done.stderr.strip().splitlines() or ['no figures'])[-1]} | | | | |"
            continue
        record = json.loads(done.stdout)
        yield (f"| {command} | {record['seconds']:.1f} | {_goal(record['seconds'], most_s)} "
               f"| {record['megabytes']:,.0f} | {_goal(record['megabytes'], most_mb)} | {record['commands']:,} |")


def _goal(figure: float, most: float | None) -> str:
    """What a figure may be at most, and whether it is more."""
    return "" if most is None else f"{most:,.0f}" if figure <= most else f"{most:,.0f}: **missed**"


class _Network:
    """A network in QDQ form under construction: float nodes between QuantizeLinear and DequantizeLinear."""

    def __init__(self, rng: np.random.Generator):
        import onnx

        self._onnx = onnx
        self._rng = rng
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._scales: dict[str, np.ndarray] = {}

    def _node(self, kind: str, sources: list[str], result: str, **attributes: Any) -> str:
        self.nodes.append(self._onnx.helper.make_node(kind, sources, [result], name=result, **attributes))
        return result

    def _constant(self, name: str, value: Any) -> str:
        self.constants.append(self._onnx.numpy_helper.from_array(np.asarray(value), name))
        return name

    def staged(self, name: str, relu: bool = False) -> str:
        """Quantise a float tensor and take it back; with `relu` nothing below zero is left."""
        self._scales[name] = np.float32(self._rng.uniform(0.01, 0.1))
        # The least value stands for zero: quantisation clamps as ReLU does, which exporters then leave out.
        zero = -128 if relu else self._rng.integers(-20, 20)
        triple = [self._constant(f"{name}.scale", self._scales[name]), self._constant(f"{name}.zero", np.int8(zero))]
        self._node("QuantizeLinear", [name, *triple], f"{name}.q")
        self._scales[f"{name}.d"] = self._scales[name]
        return self._node("DequantizeLinear", [f"{name}.q", *triple], f"{name}.d")

    def _stored(self, name: str, values: np.ndarray, scale: np.ndarray, zero: np.ndarray) -> str:
        triple = [self._constant(f"{name}.q", values), self._constant(f"{name}.scale", scale),
                  self._constant(f"{name}.zero", zero)]
        return self._node("DequantizeLinear", triple, f"{name}.d", axis=0)

    def product(self, kind: str, name: str, source: str, shape: tuple[int, ...], relu: bool,
                **attributes: Any) -> str:
        """Conv or Gemm with weights of a scale for each output channel, ReLU if asked for, and quantisation."""
        rng, count = self._rng, shape[0]
        deviation = 1 / np.sqrt(np.prod(shape[1:]))
        scale = (rng.uniform(0.5, 1.5, count) * deviation / 64).astype(np.float32)
        w = self._stored(f"{name}.w", rng.integers(-127, 128, shape).astype(np.int8), scale,
                         np.zeros(count, np.int8))
        b = self._stored(f"{name}.b", rng.integers(-1000, 1000, count).astype(np.int32),
                         self._scales[source] * scale, np.zeros(count, np.int32))
        return self.staged(self._node(kind, [source, w, b], name, **attributes), relu)

    def convolution(self, name: str, source: str, shape: tuple[int, int, int, int], stride: int = 1,
                    relu: bool = True) -> str:
        """Convolution of odd filters, padded so that the stride alone makes the output smaller."""
        pad = shape[2] // 2
        return self.product("Conv", name, source, shape, relu, strides=[stride] * 2, pads=[pad] * 4)

    def block(self, name: str, source: str, channels: int, inner: int, stride: int) -> str:
        """Bottleneck block: 1 x 1, 3 x 3, 1 x 1, and the source, projected where its shape is another."""
        made = self.convolution(f"{name}.1", source, (inner, channels, 1, 1))
        made = self.convolution(f"{name}.2", made, (inner, inner, 3, 3), stride)
        made = self.convolution(f"{name}.3", made, (4 * inner, inner, 1, 1), relu=False)
        if stride > 1 or channels != 4 * inner:
            source = self.convolution(f"{name}.0", source, (4 * inner, channels, 1, 1), stride, relu=False)
        return self.staged(self._node("Add", [made, source], f"{name}.out"), relu=True)

    def model(self, source: str, shape: tuple[int, ...], result: str) -> Any:
        """ONNX model of all nodes."""
        helper, float32 = self._onnx.helper, self._onnx.TensorProto.FLOAT
        graph = helper.make_graph(self.nodes, "network", [helper.make_tensor_value_info(source, float32, shape)],
                                  [helper.make_empty_tensor_value_info(result)], self.constants)
        return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)])


def resnet_50(rng: np.random.Generator, size: int = 224) -> Any:
    """ResNet-50 (version 1.5: the 3 x 3 filters have the stride) in QDQ form, with drawn weights and scales.

    Parameters
    ----------
    rng : numpy.random.Generator
        Draws weights, biases, scales and zero points.
    size : int
        Height and width of the image.
    """
    network = _Network(rng)
    made = network.convolution("stem", network.staged("image"), (64, 3, 7, 7), 2)
    network._node("MaxPool", [made], "pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    network._scales["pool.d"] = network._scales[made]
    made, channels = network.staged("pool"), 64
    for stage, (blocks, inner) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512)), 1):
        for index in range(blocks):
            stride = 2 if stage > 1 and index == 0 else 1
            made = network.block(f"stage{stage}.{index}", made, channels, inner, stride)
            channels = 4 * inner
    made = network.staged(network._node("GlobalAveragePool", [made], "average"))
    flat = network._node("Flatten", [made], "flat")
    network._scales[flat] = network._scales[made]
    logits = network.product("Gemm", "logits", flat, (1000, channels), relu=False, transB=1)
    return network.model("image", (1, 3, size, size), logits)


def _kilobytes(name: str) -> int:
    """A figure of this process's memory by its name in Linux's table."""
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines()
                if line.startswith(f"{name}:"))


def _made(name: str, system: System) -> tuple[Any, dict[str, np.ndarray]]:
    """What to compile, and its tensors."""
    rng = np.random.default_rng(0)
    if name == "gemm-trans-a:1x70000x1":
        return pe.Gemm(trans_a=True), {role: rng.integers(-128, 128, (70_000, 1)).astype(np.int8) for role in "ab"}
    with tempfile.TemporaryDirectory() as folder:
        if name == "resnet-50-qdq":
            file = Path(folder) / "resnet-50.onnx"
            file.write_bytes(resnet_50(rng).SerializeToString())
            name = str(file)
        workload = load_workload(name, 0, {}, system.hardware)
    return workload.graph, workload.inputs


def _figures(name: str, config: str) -> dict[str, float]:
    """Compile once; seconds of the processor, MB above what stood before, commands."""
    system = pe.load_config(config)
    model, tensors = _made(name, system)
    # From here on the peak counts anew.
    Path("/proc/self/clear_refs").write_text("5")
    before, begin = _kilobytes("VmRSS"), time.process_time()
    program = pe.compile(model, tensors, system).compiled().program
    return {"seconds": time.process_time() - begin, "commands": program.length,
            "megabytes": (_kilobytes("VmHWM") - before) * 1024 / 1e6}


if __name__ == "__main__":
    print(json.dumps(_figures(*sys.argv[1:3])))
