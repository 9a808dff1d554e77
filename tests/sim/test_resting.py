# amaranth: UnusedElaboratable=no
"""The pass that gives modules that rest a clock of their own."""

import re

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from both import run_both

from pearray.hdl.blocks import unit
from pearray.hdl.blocks.rules import rests
from pearray.sim.resting import resting
from pearray.sim.verilog import emit_with_rules

#: Cycles of the inner and of the outer part.
INNER, OUTER = 5, 3

MAIN = """
#include <cstdlib>
#include "Vboth.h"
int main() {
    Vboth both;
    int left_out = 0, ticks = 0;
    for (int cycle = 0; cycle < 20000; ++cycle) {
        both.rst = cycle < 2 || rand() % 500 == 0;
        both.start = rand() % 25 == 0;
        both.clk = both.resting_clock = 0;
        both.eval();
        const int go = both.resting_awake;
        both.resting_clock = go;
        both.clk = 1;
        both.eval();
        left_out += (go != 3);
        ticks += both.tick;
        if (both.differs || go == 1) return 1;
    }
    return left_out < 5000 || ticks < 500 ? 2 : 0;
}
"""


class Inner(unit.Unit):
    """Gives a pulse some cycles after another."""

    def __init__(self):
        super().__init__({"start": In(1), "tick": Out(1)})

    def elaborate(self, platform):
        """Count down."""
        m = Module()
        left = Signal(range(INNER))
        m.d.sync += self.tick.eq(left == 1)
        with m.If(self.start):
            m.d.sync += left.eq(INNER - 1)
        with m.Elif(left != 0):
            m.d.sync += left.eq(left - 1)
        rests(m, self.start, self.tick, INNER + 1)
        return m


class Outer(wiring.Component):
    """Counts pulses of another part, and passes them on."""

    start: In(1)
    tick: Out(1)
    count: Out(16)

    def elaborate(self, platform):
        """Connect the other part."""
        m = Module()
        inner = Inner()
        unit.add(m, "inner", inner, platform)
        m.d.comb += inner.start.eq(self.start)
        m.d.sync += [self.tick.eq(inner.tick), self.count.eq(self.count + inner.tick)]
        rests(m, self.start, self.tick, OUTER)
        return m


class Top(wiring.Component):
    """Parts beside one that does not rest, which all see the same."""

    start: In(1)
    tick: Out(1)
    count: Out(16)
    cycles: Out(16)

    def elaborate(self, platform):
        """Connect the part."""
        m = Module()
        m.submodules.outer = outer = Outer()
        m.d.comb += [outer.start.eq(self.start), self.tick.eq(outer.tick), self.count.eq(outer.count)]
        m.d.sync += self.cycles.eq(self.cycles + 1)
        return m


class Two(wiring.Component):
    """Two parts of one module."""

    start: In(1)
    tick: Out(1)

    def elaborate(self, platform):
        """Connect the parts."""
        m = Module()
        left, right = Inner(), Inner()
        unit.add(m, "left", left, platform)
        unit.add(m, "right", right, platform)
        m.d.comb += [left.start.eq(self.start), right.start.eq(left.tick), self.tick.eq(right.tick)]
        return m


@pytest.fixture(scope="module")
def texts():
    return emit_with_rules(Top(), "top")


def test_every_output_in_every_cycle(texts, tmp_path):
    """What rests too early, or is not woken by a reset or a part inside, simulates other hardware."""
    text, clocks = resting(*texts, "top")
    assert clocks == 2
    plain = re.sub(r"\b(top\w*|inner)\b", r"plain_\1", texts[0])
    both = ("module both(input clk, input rst, input start, input [1:0] resting_clock, output [1:0] resting_awake,"
            " output differs, output tick);\n  wire [15:0] a, b, c, d;\n  wire other;\n"
            "  top one(.clk(clk), .rst(rst), .start(start), .tick(tick), .count(a), .cycles(b),"
            " .resting_clock(resting_clock), .resting_awake(resting_awake));\n"
            "  plain_top two(.clk(clk), .rst(rst), .start(start), .tick(other), .count(c), .cycles(d));\n"
            "  assign differs = {a, b, tick} != {c, d, other};\nendmodule\n")
    run_both(tmp_path, text + plain + both, MAIN)


def test_modules_that_are_there_twice_stay(texts):
    """One clock for two instances would stop the one when the other rests."""
    text, rules = emit_with_rules(Two(), "two")
    assert resting(text, rules, "two") == (text, 0)


def test_without_rules_nothing_changes(texts):
    """A design in which nothing rests would get ports that nobody drives."""
    assert resting(texts[0], "", "top") == (texts[0], 0)
