"""The model of time and accesses is held to the RTL's counters."""

from pathlib import Path

import numpy as np
import pytest
from arithmetics import ARITHMETICS, with_arithmetic
from random_workloads import operands

import pearray as pe
from pearray.compiler.compile import compile_graph
from pearray.compiler.graph.graph import Graph
from pearray.compiler.systolic.cost import EXACT, predict
from pearray.sim.engine import Job, run

SMALL = Path(__file__).parents[1] / "cocotb" / "configuration.toml"


def _size(rng, most):
    return int(most ** rng.random())


def _workload(rng):
    """Draw an operator and its tensors."""
    if rng.random() < 0.5:
        m, k, n = (_size(rng, 90) for _ in range(3))
        tensors = {"a": operands(rng, (m, k)), "b": operands(rng, (k, n))}
        return pe.Gemm(requant=pe.Requant.onnx(1.0, 0, 1.0, 0, float(np.sqrt(k) * 130), 0)), tensors
    r, s = (int(rng.integers(1, 4)) for _ in range(2))
    x = (int(rng.integers(1, 3)), _size(rng, 24), r + _size(rng, 12), s + _size(rng, 12))
    tensors = {"x": operands(rng, x), "w": operands(rng, (_size(rng, 24), x[1], r, s))}
    return pe.Conv2d(stride=int(rng.integers(1, 3)), padding=int(rng.integers(0, 2))), tensors


@pytest.mark.parametrize("on", ["systolic-8x8"])
def test_counters_are_predicted(rng, on):
    """A model that misses an access or a cycle misleads the choice of tilings and everyone who reads its figures."""
    config = pe.load_config(on).hardware
    for _ in range(4):
        operator, tensors = _workload(rng)
        compiled = compile_graph(Graph.of(operator, tensors), config)
        inputs = {name: tensors[name] for name in compiled.inputs}
        job = Job(config, compiled.segments + compiled.bind(inputs), compiled.program_address, [])
        counters, expected = run(job).counters, predict(config, compiled.program)
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        assert {name: counters[name] for name in EXACT} == {name: expected[name] for name in EXACT}, shapes
        assert abs(expected["cycles"] - counters["cycles"]) <= 0.02 * counters["cycles"], shapes
        assert expected.keys() == counters.keys()


@pytest.mark.parametrize("arithmetic", ["slow-product", "float-like"])
def test_another_arithmetic(rng, arithmetic):
    """A delay of an accelerator, or of the model of its time, that doesn't follow from the arithmetic's is wrong."""
    config = with_arithmetic(pe.load_config(SMALL).hardware, ARITHMETICS[arithmetic](8))
    requant = pe.Requant.onnx(1.0, 3, 1.0, -2, 300.0, 5)
    for operator, tensors in (
            (pe.Gemm(requant=requant), {"a": operands(rng, (11, 29)), "b": operands(rng, (29, 9)),
                                        "c": rng.integers(-9999, 9999, 9, dtype=np.int32)}),
            (pe.MaxPool2d(kernel=2), {"x": operands(rng, (1, 5, 4, 6))})):
        compiled = compile_graph(Graph.of(operator, tensors), config)
        inputs = {name: tensors[name] for name in compiled.inputs}
        placed = compiled.outputs["y"]
        job = Job(config, compiled.segments + compiled.bind(inputs), compiled.program_address,
                  [(placed.address, placed.nbytes)])
        outcome, expected = run(job, "amaranth"), predict(config, compiled.program)
        np.testing.assert_array_equal(placed.from_bytes(outcome.regions[0]), pe.golden_run(operator, tensors)["y"])
        assert {name: outcome.counters[name] for name in EXACT} == {name: expected[name] for name in EXACT}
        assert expected["cycles"] == outcome.cycles


def test_cycles_do_not_depend_on_data(rng):
    """Time that depends on data would make every figure a matter of luck, and would tell what is computed."""
    operator = pe.Gemm(requant=pe.Requant.onnx(1.0, 0, 1.0, 0, 1500.0, 0))
    shapes = {"a": (20, 30), "b": (30, 25)}
    random = {name: operands(rng, shape) for name, shape in shapes.items()}
    zeros = {name: np.zeros(shape, np.int8) for name, shape in shapes.items()}
    counters = [pe.run(operator, tensors, on="systolic-8x8").counters for tensors in (random, zeros)]
    assert counters[0] == counters[1]
