"""Fused attention on the RTL: scores, softmax, MOVEs, weighed values and normalised rows, against the golden model."""

import numpy as np
import pytest
from attention_draws import attention_array
from attention_program import OUTPUTS, PROGRAM, AttentionCase, OverlappedCase
from slow import engines

from pearray import load_config
from pearray.compiler.kinds import interpreter
from pearray.compiler.validate import validate
from pearray.hdl.shell.commands import Opcode
from pearray.sim.engine import Job, run

#: The smaller one is the other engines' too; many tests share the larger one.
ARRAYS = {"8x8": load_config("systolic-8x8").hardware,
          "4x6": attention_array("4x6")}


def outcome_of(case, **job):
    """Run a case, on the interpreter first, which finds races; both must store what the golden model says."""
    segments = case.segments()
    validate(segments[0][1], queues=case.config.commands.queues)
    machine = interpreter(case.config, OUTPUTS + 0x1000)
    machine.write(segments)
    machine.run(PROGRAM)
    np.testing.assert_array_equal(case.read(machine.read), case.expected)
    engine = job.pop("engine", "verilator")
    outcome = run(Job(case.config, segments, PROGRAM, [(OUTPUTS, case.expected.size)], **job), engine)
    np.testing.assert_array_equal(case.read(lambda *_: outcome.regions[0]), case.expected)
    return outcome


@pytest.mark.parametrize("kind", [AttentionCase, OverlappedCase])
@pytest.mark.parametrize("array", ARRAYS)
def test_attention(seed, array, kind):
    """A shift, state, quotient or numerator that is wrong, late or another row's gives another output."""
    for number in range(12):
        outcome_of(kind.drawn(np.random.default_rng([seed, number]), ARRAYS[array]))


def fixed(rng, queries, keys, elements, features, *, two_bytes):
    """Two heads of a given size, without masks: queries and keys, elements of each, and features of values."""
    q, k, v = (rng.integers(-128, 128, (2, *shape)).astype(np.int8)
               for shape in ((queries, elements), (keys, elements), (keys, features)))
    options = {"q_scale": 0.01, "k_scale": 0.05, "v_scale": 0.04, "y_scale": 0.03, "causal": False, "offset": 0,
               "two_bytes": two_bytes, "window": None, "lengths": None}
    return OverlappedCase(ARRAYS["4x6"], q, k, v, options, queries)


def test_scores_come_in_beside_those_that_are_read(rng):
    """If the array waited for post-processing, softmax would cost the cycles that it should not."""
    # Of two tiles of elements, the first of which overwrites.
    case = fixed(rng, 24, 30, 7, 9, two_bytes=False)
    outcome = outcome_of(case, trace=True)
    seen = {}
    for opcode in (Opcode.EXECUTE, Opcode.POST):
        number = list(case.config.commands.queues).index(opcode)
        bodies = [command.body for command in case.program().commands if command.opcode is opcode]
        seen[opcode] = list(zip(bodies, outcome.trace.commands(number), strict=True))
    groups = case.rows * case.config.array.cols // case.config.post.lanes
    reading = [taken for body, (_, taken, _) in seen[Opcode.POST] if body.get("softmax")]
    beside = [done for body, (_, _, done) in seen[Opcode.EXECUTE] if body.get("first") and not body.get("bank")
              and any(taken < done < taken + groups for taken in reading)]
    assert beside, reading


@pytest.mark.parametrize("engine", engines("cocotb", "amaranth"))
def test_engines(rng, engine):
    """Each engine rescales and normalises."""
    outcome_of(fixed(rng, 4, 14, 5, 7, two_bytes=True), engine=engine)
