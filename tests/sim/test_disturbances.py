"""Stalls, latencies and error responses of every kind, on the RTL, over many seeds."""

from dataclasses import replace

import numpy as np
import pytest

import pearray as pe
from pearray.compiler.compile import compile_graph
from pearray.compiler.graph.graph import Graph
from pearray.hdl.shell.commands import COMMAND_BYTES, Opcode
from pearray.sim import Disturbance, Job, run

CONFIG = pe.load_config("systolic-8x8")


def configuration(rng):
    """Draw a memory from the fastest to one that is slow, narrow and in order; the Verilog is the same."""
    return replace(CONFIG, memory=replace(
        CONFIG.memory, read_latency=int(rng.choice([1, 2, 7, 32, 150])), write_latency=int(rng.choice([1, 2, 32, 150])),
        outstanding=int(rng.choice([1, 2, 8, 16])), beats_per_cycle=float(rng.choice([1.0, 1.0, 0.6, 0.25]))))


def workload(rng):
    """Draw a convolution of several tiles and commands of every kind; return its graph and inputs."""
    c, m, size = (int(value) for value in rng.integers([1, 1, 4], [12, 20, 12]))
    tensors = {"x": rng.integers(-128, 128, (1, c, size, size), dtype=np.int8),
               "w": rng.integers(-128, 128, (m, c, 3, 3), dtype=np.int8)}
    operator = pe.Conv2d(padding=1, requant=pe.Requant.onnx(1.0, 0, 1.0, 0, 300.0, 3))
    graph = Graph.of(operator, tensors, ["w"])
    return graph, {"x": tensors["x"]}


def job(config, graph, inputs):
    """Compile for the plain configuration, so that all draws run one program, and return it with its blocks."""
    compiled = compile_graph(graph, CONFIG)
    places = list(compiled.outputs.values())
    regions = [(placed.address, placed.nbytes) for placed in places]
    return compiled, Job(config, compiled.segments + compiled.bind(inputs), compiled.program_address, regions)


def program_bytes(task):
    """Bytes of the program, its end included."""
    start, image = next((start, image) for start, image in task.segments
                        if start <= task.program_address < start + len(image))
    offset = task.program_address - start
    length = 0
    while image[offset + length] != Opcode.END.value:
        length += COMMAND_BYTES
    return length + COMMAND_BYTES


def test_stalls_and_latencies(rng):
    """Data would be lost, repeated or reordered at some rhythm of the memory, or the accelerator would hang."""
    for _ in range(12):
        graph, inputs = workload(rng)
        compiled, task = job(configuration(rng), graph, inputs)
        outcome = run(task, disturbance=Disturbance(stall=float(rng.choice([0.0, 0.1, 0.4, 0.8])),
                                                    seed=int(rng.integers(1 << 30))))
        contents = dict(zip(task.read, outcome.regions, strict=True))
        expected = graph.golden(inputs)
        for name in compiled.output_names:
            found = compiled.extract(name, lambda address, length, contents=contents: contents[address, length])
            np.testing.assert_array_equal(found, expected[name])


@pytest.mark.parametrize("kind", ["fetch", "load", "store"])
@pytest.mark.parametrize("response", ["SLVERR", "DECERR"])
def test_errors_on_any_beat(rng, kind, response):
    """An error on some beat, the first or last of a burst too, would be lost, hang the ports or name a wrong cause."""
    for _ in range(10):
        graph, inputs = workload(rng)
        compiled, task = job(configuration(rng), graph, inputs)
        if kind == "fetch":
            start, length = task.program_address, program_bytes(task)
        else:
            placed = next(iter((compiled.inputs if kind == "load" else compiled.outputs).values()))
            start, length = placed.address, placed.nbytes
        # Ends of the block, which are first or last beats, as often as its middle.
        address = start + int(rng.choice([0, length - 1, int(rng.integers(length))]))
        disturbance = Disturbance(
            stall=float(rng.choice([0.0, 0.3])), seed=int(rng.integers(1 << 30)), decode_error=response == "DECERR",
            **{"write_error" if kind == "store" else "read_error": address})
        cause = f"{'write' if kind == 'store' else 'read'} {response.lower()}"
        with pytest.raises(pe.PearrayError, match=rf"^the accelerator stopped with error \d \({cause}\)") as caught:
            run(task, disturbance=disturbance)
        burst = int(str(caught.value).rpartition("0x")[2], 16)
        # The address is that of the burst, at most 16 beats before.
        assert burst - CONFIG.beat_bytes < address < burst + 16 * CONFIG.beat_bytes, str(caught.value)
