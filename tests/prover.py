"""Proofs about small circuits, by temporal induction with the SAT solver that is part of Yosys."""

import subprocess
import sys

from amaranth.back import rtlil
from amaranth.hdl import Assume, Elaboratable, Module, Signal

__all__ = ["Held", "assume_held", "prove"]


class Held(Elaboratable):
    """Assume of the environment what :func:`pearray.hdl.blocks.rules.held` asserts of the design."""

    def __init__(self, valid, ready, *payload):
        self._valid, self._ready, self._payload = valid, ready, payload

    def elaborate(self, platform):
        """Build the memory of what was offered, and the assumption."""
        m = Module()
        waiting = Signal()
        m.d.sync += waiting.eq(self._valid & ~self._ready)
        m.d.comb += Assume(~waiting | self._valid)
        for part in self._payload:
            before = Signal.like(part)
            m.d.sync += before.eq(part)
            m.d.comb += Assume(~waiting | (part == before))
        return m


def assume_held(m, name, stream):
    """Add :class:`Held` for a stream that the environment drives."""
    m.submodules[f"{name}_held"] = Held(stream.valid, stream.ready, stream.payload)


def prove(design, ports, folder, *, steps=None, most=24):
    """Prove that no assertion of a design can fail, whatever its ports do that is not assumed away.

    Parameters
    ----------
    design : Elaboratable
        The design, with its rules; it starts from its initial values.
    ports : list of Signal
        Inputs, which are free in every cycle.
    folder : Path
        Where to work.
    steps : int, optional
        Prove only for so many cycles from the start, instead of for ever.
    most : int
        Length of the longest induction to try.

    Raises
    ------
    AssertionError
        If there is a counterexample, or no induction of that length closes. The message ends with it.
    """
    (folder / "design.il").write_text(rtlil.convert(design, name="top", ports=ports))
    goal = f"-seq 1 -tempinduct -maxsteps {most}" if steps is None else f"-seq {steps}"
    (folder / "script.ys").write_text("\n".join([
        "read_rtlil design.il", "hierarchy -top top", "proc", "flatten", "memory_map", "async2sync", "chformal -lower",
        "opt -full", "setundef -undriven -zero",
        f"sat -verify -prove-asserts -set-assumes {goal} -set rst 0 top", ""]))
    done = subprocess.run([sys.executable, "-m", "pearray.boards.yosys", "script.ys"], cwd=folder, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "proof" in done.stdout.lower(), done.stdout[-3000:]
