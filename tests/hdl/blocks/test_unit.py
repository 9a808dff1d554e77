# amaranth: UnusedElaboratable=no
"""Repeated units: emitted once, and the same design as what is simulated."""

import subprocess
import time

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib.wiring import Component, In, Out
from amaranth.sim import Simulator
from array_schedule import Schedule
from both import compile_with

from pearray.hdl.arithmetic.integer import IntegerArithmetic
from pearray.hdl.blocks import unit
from pearray.hdl.blocks.delay import Delay, Skew
from pearray.hdl.blocks.structure import Structure
from pearray.hdl.systolic.array import SystolicArray
from pearray.sim.verilog import emit, manifest

HARNESS = """
#include <cstdio>
#include "Varray.h"
#include "verilated.h"
double sc_time_stamp() { return 0; }
int main() {
  VerilatedContext context;
  Varray top{&context};
  unsigned a, control, w_top, w_left, w_control;
  top.rst = 0;
  while (scanf("%x %x %x %x %x", &a, &control, &w_top, &w_left, &w_control) == 5) {
    top.a = a; top.control = control; top.w_top = w_top; top.w_left = w_left; top.w_control = w_control;
    top.clk = 0; top.eval();
    printf("%llx\\n", (unsigned long long)top.psum);
    top.clk = 1; top.eval();
  }
}
"""


def packed(values, width):
    """Return elements as one number, the first in the lowest bits."""
    return sum((value & (1 << width) - 1) << index * width for index, value in enumerate(values))


def test_simulated_is_emitted(rng, tmp_path):
    """Amaranth's simulator and Verilator agree in every bit of every cycle, on all of a random run.

    The Verilog has hierarchy, shared modules and structures that the simulator never sees.
    """
    rows, cols, arithmetic = 5, 3, IntegerArithmetic(5)
    bits, width = arithmetic.word.width, arithmetic.psum(32).width
    dut = SystolicArray(rows, cols, arithmetic, 32)
    schedule = Schedule(dut, rng, 0.1)
    schedule.random(25)
    inputs = [schedule.inputs(cycle) for cycle in range(schedule.cycles)]
    simulated = []

    async def testbench(ctx):
        for step in inputs:
            for name, value in step.items():
                ctx.set(getattr(dut, name), value)
            simulated.append([ctx.get(dut.psum[col]) for col in range(cols)])
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    schedule.check(simulated)

    program = compile_with(tmp_path, "array", emit(SystolicArray(rows, cols, arithmetic, 32), "array"), HARNESS)
    order = ("swap", "output_stationary", "clear", "drain")
    lines = [" ".join(f"{value:x}" for value in (
        packed(step["a"], bits), packed([step["control"][name] for name in order], 1),
        packed(step["w_top"], bits), packed(step["w_left"], bits),
        packed([step["w_control"][name] for name in ("left", "capture")], 1))) for step in inputs]
    output = subprocess.run([program], input="\n".join(lines), check=True, capture_output=True, text=True).stdout
    assert [int(line, 16) for line in output.split()] == [packed(step, width) for step in simulated]


def test_each_unit_once():
    """A 16 x 16 array holds 256 PEs but one module of a PE and one of a row."""
    described = manifest(SystolicArray(16, 16, IntegerArithmetic(8), 64), "array")
    instances = {module["name"]: module["instances"] for module in described["modules"]}
    assert (instances["pe"], instances["pe_row"], instances["array"]) == (256, 16, 1)
    assert len(instances) == 10


def test_large_array():
    """A 256 x 256 array is seconds and megabytes; time doesn't grow with the number of PEs."""
    seconds, sizes = [], []
    for size in (64, 256):
        start = time.process_time()
        text = emit(SystolicArray(size, size, IntegerArithmetic(8), 512), "array")
        seconds.append(time.process_time() - start)
        sizes.append(len(text))
    assert seconds[1] < 20
    assert seconds[1] < 8 * seconds[0]      # 16 times the PEs; a fixed cost is in both
    assert sizes[1] < 5_000_000


@pytest.mark.parametrize("step", [1, 3])
@pytest.mark.parametrize("reverse", [False, True])
def test_skew(rng, reverse, step):
    """Element i is delayed by i steps of some cycles, or, reversed, by count - 1 - i of them."""
    count = 6
    dut = Skew(8, count, step=step, reverse=reverse)
    given = rng.integers(256, size=(30, count))
    seen = []

    async def testbench(ctx):
        for row in given.tolist():
            for wire, value in zip(dut.i, row, strict=True):
                ctx.set(wire, value)
            seen.append([ctx.get(wire) for wire in dut.o])
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    for element in range(count):
        cycles = step * (count - 1 - element if reverse else element)
        np.testing.assert_array_equal(np.array(seen)[cycles:, element], given[:len(given) - cycles, element])


class Pair(Component):
    """Two units of the given kinds side by side."""

    def __init__(self, *units):
        self.units = units
        super().__init__({"i": In(8), "o": Out(8).array(len(units))})

    def elaborate(self, platform):
        """Build it."""
        m = Module()
        for index, part in enumerate(self.units):
            unit.add(m, f"part_{index}", part, platform)
            m.d.comb += [part.i.eq(self.i), self.o[index].eq(part.o)]
        return m


class Halves(unit.Unit):
    """Unit that asks for other units, with state of its own."""

    def __init__(self, cycles):
        self.cycles = cycles
        super().__init__({"i": In(8), "o": Out(8)})

    def elaborate(self, platform):
        """Build it."""
        m = Module()
        line = Delay(8, self.cycles)
        unit.add(m, "line", line, platform)
        last = Signal(8)
        m.d.sync += last.eq(line.o)
        m.d.comb += [line.i.eq(self.i), self.o.eq(last)]
        return m


def test_names():
    """Equal arguments, however written, share a module; others get a module and a name of their own."""
    names = [module["name"] for module in
             manifest(Pair(Halves(1), Halves(cycles=1), Halves(2), Delay(8, 2)), "top")["modules"]]
    assert sorted(names) == ["delay_8x1", "delay_8x2", "halves", "halves_2", "top"]
    assert "halves_2" in [module["name"] for module in manifest(Pair(Halves(1)), "halves")["modules"]]


class Loose(Structure):
    """Structure with the given wires around one delay line."""

    def __init__(self, wires):
        self._wires = wires
        super().__init__({"i": In(8), "o": Out(8), "wide": In(9)})

    def parts(self):
        """Build it."""
        return {"line": (Delay, (8, 1))}

    def wires(self):
        """Build it."""
        return self._wires


@pytest.mark.parametrize(("wires", "message"), [
    ((("line.i", "i"),), r"^port 'o' in top must have a wire$"),
    ((("line.i", "wide"), ("o", "line.o")), r"^wire from 'wide' to 'line.i' of top must be"),
    ((("line.i", "i"), ("line.i", "i"), ("o", "line.o")), r"^wire from 'i' to 'line.i' of top must be"),
    ((("line.i", "i"), ("line.o", "i"), ("o", "line.o")), r"^wire from 'i' to 'line.o' of top must be"),
])
def test_structure_is_checked(wires, message):
    """A forgotten, doubled, backward or too narrow wire is an error, not silent hardware."""
    with pytest.raises(ValueError, match=message):
        emit(Loose(wires), "top")


def test_bad_units():
    """What isn't a unit, or has arguments that can't be compared, is refused."""
    with pytest.raises(TypeError, match=r"^component 'x' must be a Unit, not"):
        unit.add(Module(), "x", Pair(), None)
    with pytest.raises(TypeError, match=r"^Arguments of unit Delay must be hashable"):
        Delay([8], 1)
