"""Programs of floats on the RTL, bit for bit what the golden model adds in the array's order."""

import pytest
from drawn_floats import OPERATORS, draw_float_operator, float_configuration, same_bits

import pearray as pe
from pearray.compiler.kinds import compiler_for
from pearray.compiler.systolic.cost import EXACT, predict

#: The one accelerator of floats that the quick tests build.
SYSTEM = float_configuration()


@pytest.mark.parametrize("name", OPERATORS)
def test_rtl_equals_golden(rng, name):
    """A psum that meets another product, a wrong rounding or a bias that comes late differ in some last bit."""
    for scale in (1.0, 1e18):
        operator, tensors = draw_float_operator(rng, name, scale=scale)
        found = pe.run(operator, tensors, on=SYSTEM, effort=0).outputs
        for role, expected in pe.golden_run(operator, tensors, on=SYSTEM).items():
            assert same_bits(found[role], expected), f"{role} of {operator}"


def test_cycles_and_counters_are_predicted(rng):
    """A latency of float hardware that the model of time does not read from its component is wrong in every plan."""
    hardware = SYSTEM.hardware
    for name in ("gemm", "conv"):
        operator, tensors = draw_float_operator(rng, name)
        handle = pe.compile(operator, tensors, on=SYSTEM, effort=0)
        result = handle.run({role: tensors[role] for role in handle.graph.inputs})
        program = handle.compiled().program
        expected = predict(hardware, program)
        assert {each: result.counters[each] for each in EXACT} == {each: expected[each] for each in EXACT}
        assert abs(compiler_for(hardware).cycles(hardware, program) - result.cycles) <= 0.02 * result.cycles
        assert sum(result.ledger.values()) == result.cycles


@pytest.mark.slow
@pytest.mark.parametrize(("preset", "form"), [("systolic-8x8-bf16", "bfloat16"), ("systolic-8x8-fp8", "float8_e4m3fn")])
def test_presets_under_slow_memory(rng, preset, form):
    """What is right only where loads come in time would differ with a memory that answers late."""
    system = pe.load_config(preset, overrides={"memory.read_latency": 150, "memory.beats_per_cycle": 0.4})
    for name in OPERATORS:
        operator, tensors = draw_float_operator(rng, name, form)
        found = pe.run(operator, tensors, on=system, effort=0).outputs
        for role, expected in pe.golden_run(operator, tensors, on=system).items():
            assert same_bits(found[role], expected), f"{role} of {operator}"
