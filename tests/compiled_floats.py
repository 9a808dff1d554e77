"""Every float unit in one compiled model, for millions of numbers."""

import subprocess

import numpy as np
from amaranth.hdl import Module, Mux, Signal
from amaranth.lib.wiring import Component, In, Out
from both import compile_with
from float_draws import ALL, SHORT

from pearray.hdl.arithmetic.float_at_random import FloatNarrowAtRandom
from pearray.hdl.arithmetic.float_convert import FloatNarrow, widened
from pearray.hdl.arithmetic.float_divide_root import FloatDivideRoot
from pearray.hdl.arithmetic.float_integer import FloatToInteger, IntegerToFloat
from pearray.hdl.arithmetic.float_multiply import FloatMultiply
from pearray.hdl.arithmetic.float_sum import FloatSum
from pearray.hdl.arithmetic.mix import Mix
from pearray.hdl.blocks.pipeline import delay
from pearray.sim.verilog import emit

#: Cycles until results are there.
LATENCY = 4


class Floats(Component):
    """One of each unit, all with one latency; the low bits of x and y are the numbers of shorter formats."""

    #: Results, each of 32 bits, and cycles until they are there.
    RESULTS = ("sum", *(f"product_{format.name}" for format in ALL), *(f"narrow_{format.name}" for format in SHORT),
               *(f"wide_{format.name}" for format in SHORT), *(f"random_{format.name}" for format in SHORT),
               "mixed", "integer", "number")
    LATENCY = LATENCY

    def __init__(self):
        super().__init__({"x": In(32), "y": In(32), **{name: Out(32) for name in self.RESULTS}})

    def elaborate(self, platform):
        """Build them."""
        m = Module()
        m.submodules.add = adder = FloatSum(LATENCY)
        m.d.comb += [adder.a.eq(self.x), adder.b.eq(self.y), self.sum.eq(adder.sum)]
        for format in ALL:
            m.submodules[f"multiply_{format.name}"] = unit = FloatMultiply(format, LATENCY)
            m.d.comb += [unit.a.eq(self.x), unit.b.eq(self.y), getattr(self, f"product_{format.name}").eq(unit.product)]
        for format in SHORT:
            m.submodules[f"narrow_{format.name}"] = unit = FloatNarrow(format, FloatNarrow.MOST)
            m.d.comb += unit.number.eq(self.x)
            narrow = delay(m, unit.narrow, LATENCY - FloatNarrow.MOST, f"narrow_{format.name}")
            wide = delay(m, widened(m, format, self.x[:format.bits]), LATENCY, f"wide_{format.name}")
            m.d.comb += [getattr(self, f"narrow_{format.name}").eq(narrow),
                         getattr(self, f"wide_{format.name}").eq(wide)]
            m.submodules[f"random_{format.name}"] = unit = FloatNarrowAtRandom(format, LATENCY)
            m.d.comb += [unit.number.eq(self.x), unit.random.eq(self.y[:16]), unit.at_random.eq(1),
                         getattr(self, f"random_{format.name}").eq(unit.narrow)]
        m.submodules.mix, m.submodules.to_integer, m.submodules.to_float = mix, to_integer, to_float = (
            Mix(LATENCY), FloatToInteger(LATENCY), IntegerToFloat(LATENCY))
        m.d.comb += [mix.value.eq(self.x), self.mixed.eq(mix.mixed), to_integer.number.eq(self.x),
                     self.integer.eq(to_integer.integer), to_float.integer.eq(self.x), self.number.eq(to_float.number)]
        return m


class Quotients(Component):
    """The quotient of x and y, and the root of x, which must come again as in :class:`FloatDivideRoot`."""

    RESULTS = ("quotient", "square_root")
    LATENCY = FloatDivideRoot.LATENCY

    #: Numbers that go round.
    PLACES = 16

    def __init__(self):
        super().__init__({"x": In(32), "y": In(32), **{name: Out(32) for name in self.RESULTS}})

    def elaborate(self, platform):
        """Build two, and count their rounds."""
        m = Module()
        place, number = Signal(range(self.PLACES)), Signal(range(FloatDivideRoot.ROUNDS))
        m.d.sync += place.eq(place + 1)
        with m.If(place == self.PLACES - 1):
            m.d.sync += number.eq(Mux(number == FloatDivideRoot.ROUNDS - 1, 0, number + 1))
        for root, name in enumerate(self.RESULTS):
            m.submodules[name] = unit = FloatDivideRoot(self.PLACES)
            m.d.comb += [unit.a.eq(self.x), unit.b.eq(self.y), unit.root.eq(root), unit.round.eq(number),
                         getattr(self, name).eq(unit.result)]
        return m


_PROGRAM = """
#include "Vfloats.h"
#include <cstdio>
#include <vector>

int main(int, char **names) {
    Vfloats top;
    FILE *given = std::fopen(names[1], "rb"), *found = std::fopen(names[2], "wb");
    unsigned numbers[2], results[RESULTS];
    for (long cycle = 0, left = LATENCY; left; ++cycle) {
        if (std::fread(numbers, sizeof numbers, 1, given) == 1) {
            top.x = numbers[0];
            top.y = numbers[1];
        } else {
            --left;
        }
        top.clk = 0;
        top.eval();
        top.clk = 1;
        top.eval();
        if (cycle >= LATENCY - 1) {
            unsigned *next = results;
            COLLECT
            std::fwrite(results, sizeof results, 1, found);
        }
    }
    return std::fclose(found);
}
"""


def compiled(folder, kind=Floats):
    """Compile the model of a component, and return its executable."""
    program = _PROGRAM.replace("RESULTS", str(len(kind.RESULTS))).replace("LATENCY", str(kind.LATENCY)).replace(
        "COLLECT", " ".join(f"*next++ = top.{name};" for name in kind.RESULTS))
    return compile_with(folder, "floats", emit(kind(), "floats"), program)


def run(model, folder, x, y, kind=Floats):
    """Results for bits x and y, by name."""
    given, found = folder / "given", folder / "found"
    np.stack([x, y], axis=1).astype("<u4").tofile(given)
    subprocess.run([model, given, found], check=True, timeout=600)
    results = np.fromfile(found, "<u4").reshape(-1, len(kind.RESULTS))
    return {name: results[:len(x), place] for place, name in enumerate(kind.RESULTS)}
