"""Products with weights and with outputs stationary, on the RTL."""

from functools import partial

import numpy as np
import pytest
from kinds import SMALL
from random_workloads import conv, gemm, linear, operands

import pearray as pe
from pearray.compiler.compile import compile_graph
from pearray.compiler.graph.graph import Graph
from pearray.compiler.systolic.cost import EXACT, predict
from pearray.sim.engine import Job, run

DATAFLOWS = ("weight-stationary", "output-stationary")


def _fixed(rng, bits, sizes, **attributes):
    """A convolution of (images, channels, height, width) with (outputs, channels of a group, height, width)."""
    x, w = sizes
    tensors = {"x": operands(rng, x, bits=bits), "w": operands(rng, w, bits=bits)}
    return pe.Conv2d(**attributes), tensors, None


#: Where lowerings differ: one element contracted, one row, strides with and without padding, groups.
CASES = {
    "drawn product": gemm, "drawn layer": linear, "drawn convolution": conv,
    "one pixel": partial(_fixed, sizes=((1, 70, 1, 1), (9, 70, 1, 1))),
    "one channel": partial(_fixed, sizes=((2, 1, 5, 7), (11, 1, 1, 1))),
    "stride": partial(_fixed, sizes=((2, 3, 9, 8), (5, 3, 3, 2)), stride=2, padding=1),
    "groups": partial(_fixed, sizes=((1, 6, 7, 7), (9, 2, 3, 3)), groups=3, padding=(0, 1, 2, 1)),
    "dilation": partial(_fixed, sizes=((1, 4, 9, 9), (3, 4, 2, 3)), dilation=(3, 2), stride=(1, 2)),
}


def _check(config, graph, tensors, dataflow):
    """Run one graph; outputs equal golden's, accesses and work are those predicted, cycles within 2 %."""
    compiled = compile_graph(graph, config, dataflow=dataflow)
    inputs = {name: tensors[name] for name in compiled.inputs}
    placed = compiled.outputs["y"]
    job = Job(config, compiled.segments + compiled.bind(inputs), compiled.program_address,
              [(placed.address, placed.nbytes)])
    outcome, expected = run(job), predict(config, compiled.program)
    np.testing.assert_array_equal(placed.from_bytes(outcome.regions[0]), graph.golden(inputs)["y"])
    assert {name: outcome.counters[name] for name in EXACT} == {name: expected[name] for name in EXACT}
    assert abs(expected["cycles"] - outcome.cycles) <= 0.02 * outcome.cycles
    return sum(command.body.get("output_stationary", 0) for command in compiled.program.commands)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("config", [pe.load_config("systolic-8x8").hardware, SMALL["systolic"], SMALL["systolic-16"]],
                         ids=["8x8", "small", "small-16"])
def test_each_dataflow_equals_golden(rng, case, config):
    """A pixel, channel, tap or part of a long contraction that one dataflow leaves out shows as an element."""
    operator, tensors, _ = CASES[case](rng, config.array.operand_bits)
    graph = Graph.of(operator, tensors)
    chosen = [_check(config, graph, tensors, dataflow) for dataflow in DATAFLOWS]
    is_product = getattr(operator, "groups", 1) == 1 or case == "groups"
    assert chosen[0] == 0
    assert chosen[1] or not is_product


def test_unknown_dataflow(rng):
    """A misspelt choice that is taken for the default would compare a dataflow with itself."""
    tensors = {"a": operands(rng, (4, 5)), "b": operands(rng, (5, 6))}
    with pytest.raises(pe.PearrayError, match=r"^dataflow must be 'cheapest', 'weight-stationary' or 'output-"):
        pe.run(pe.Gemm(), tensors, on="systolic-8x8", dataflow="weights")
