"""Every float unit in one compiled model, for millions of numbers."""

import subprocess

import numpy as np
from amaranth.hdl import Module
from amaranth.lib.wiring import Component, In, Out
from both import compile_with
from float_draws import ALL, SHORT

from pearray.hdl.arithmetic.float_add import FloatAdd
from pearray.hdl.arithmetic.float_convert import FloatNarrow, widened
from pearray.hdl.arithmetic.float_multiply import FloatMultiply
from pearray.hdl.blocks.pipeline import delay
from pearray.sim.verilog import emit

#: Results, each of 32 bits, and cycles until they are there.
RESULTS = ["sum", *(f"product_{format.name}" for format in ALL), *(f"narrow_{format.name}" for format in SHORT),
           *(f"wide_{format.name}" for format in SHORT)]
LATENCY = 4


class Floats(Component):
    """One of each unit, all with one latency; the low bits of x and y are the numbers of shorter formats."""

    def __init__(self):
        super().__init__({"x": In(32), "y": In(32), **{name: Out(32) for name in RESULTS}})

    def elaborate(self, platform):
        """Build them."""
        m = Module()
        m.submodules.add = adder = FloatAdd(LATENCY)
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


def compiled(folder):
    """Compile the model, and return its executable."""
    program = _PROGRAM.replace("RESULTS", str(len(RESULTS))).replace("LATENCY", str(LATENCY)).replace(
        "COLLECT", " ".join(f"*next++ = top.{name};" for name in RESULTS))
    return compile_with(folder, "floats", emit(Floats(), "floats"), program)


def run(model, folder, x, y):
    """Results for bits x and y, by name."""
    given, found = folder / "given", folder / "found"
    np.stack([x, y], axis=1).astype("<u4").tofile(given)
    subprocess.run([model, given, found], check=True, timeout=600)
    results = np.fromfile(found, "<u4").reshape(-1, len(RESULTS))
    return {name: results[:len(x), place] for place, name in enumerate(RESULTS)}
