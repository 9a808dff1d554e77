"""One design in three forms: as users simulate it, with its rules, and as it was emitted.

Users run a text that has been changed to simulate faster (:mod:`pearray.sim.loops`, ``replicas``, ``sampled``). Rules
look into modules, which then stay as they are, so that other tests run another text than users do.
"""

import numpy as np
import pytest
from kinds import each_build, each_program

import pearray as pe
from pearray.sim import Disturbance, run
from pearray.sim.design import emitted
from pearray.sim.verilator import AS_EMITTED, CHECK, changed

FORMS = {"users'": {}, "with rules": {CHECK: "1"}, "as emitted": {AS_EMITTED: "1"}}

#: Programs of each kind.
PROGRAMS = 12


def outcomes(monkeypatch, job, disturbance):
    """What comes of a job in each form: regions, counters and ledger, or the message of the error that ends it."""
    results = {}
    for form, variables in FORMS.items():
        for name in (CHECK, AS_EMITTED):
            monkeypatch.setenv(name, variables.get(name, "0"))
        try:
            outcome = run(job, disturbance=disturbance)
        except pe.PearrayError as error:
            results[form] = str(error)
        else:
            assert outcome.counters["cycles"] == outcome.cycles
            results[form] = outcome.regions, outcome.counters, outcome.ledger
    return results


def draw(rng, kind):
    """Draw an operator that the kind's accelerator can hold."""
    while True:
        try:
            return kind.random(rng).compile(kind.small)
        except pe.PearrayError:
            continue


def job_of(rng, kind, case):
    """Draw a memory; return the case's job."""
    return case.job(kind.small, pe.MemoryTiming(
        read_latency=int(rng.integers(1, 40)), write_latency=int(rng.integers(1, 40)),
        outstanding=int(rng.integers(1, 9)), beats_per_cycle=float(rng.choice([1.0, 1.0, 0.4]))))


@each_program
def test_users_form_has_loops(kind):
    """If this fails, the array is no more simulated as loops, many times slower, and the test below compares less."""
    text, _ = changed(kind.small, emitted(kind.small))
    assert ("unroll_disable" in text) == kind.loops


@each_build
@pytest.mark.timeout(1800)
def test_forms_agree(kind, seed, monkeypatch):
    """What users see would differ from the hardware: an element, a counter, a cycle, or how a run ends."""
    for number in range(PROGRAMS):
        rng = np.random.default_rng([seed, number])
        case = draw(rng, kind)
        job = job_of(rng, kind, case)
        disturbance = Disturbance(stall=float(rng.choice([0.0, 0.0, 0.3])), seed=int(rng.integers(1 << 30)))
        users, checked, plain = outcomes(monkeypatch, job, disturbance).values()
        assert users == plain, case.operator
        assert users == checked, case.operator
        contents = dict(zip(job.read, users[0], strict=True))
        case.compare(lambda address, length, contents=contents: contents[address, length])


@each_build
def test_failed_runs_agree(kind, seed, monkeypatch):
    """An error would end the run in another way, or at another burst, than on the hardware."""
    for number in range(3):
        rng = np.random.default_rng([seed, number])
        case = kind.layer(rng, 5, 9, 7).compile(kind.small)
        job = job_of(rng, kind, case)
        placed, = (case.compiled.outputs if number == 2 else case.compiled.inputs).values()
        address = case.address(rng, placed)
        disturbance = Disturbance(**{"write_error" if number == 2 else "read_error": address},
                                  hang=address if number == 1 else None)
        users, checked, plain = outcomes(monkeypatch, job, disturbance).values()
        assert users == plain == checked
        assert users.startswith("the accelerator")
