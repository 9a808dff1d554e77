# amaranth: UnusedElaboratable=no
"""The pass that makes loops of arrays of equal modules."""

import re

import pytest
from both import run_both

from pearray.hdl.arithmetic.float_formats import BFLOAT16
from pearray.hdl.arithmetic.floating import FloatArithmetic
from pearray.hdl.arithmetic.integer import IntegerArithmetic
from pearray.hdl.blocks.delay import Skew
from pearray.hdl.systolic.pe_rows import PEBlock
from pearray.sim.loops import rewrite
from pearray.sim.verilog import emit

MAIN = """
#include "Vboth.h"
int main() {
    Vboth both;
    for (int edge = 0; edge < 6000; ++edge) {
        both.clk = edge & 1;
        both.eval();
        if (both.differs) return 1;
    }
}
"""


def module(text, name):
    return re.search(rf"^module {name}\(.*?^endmodule\n", text, re.MULTILINE | re.DOTALL)[0]


@pytest.fixture(scope="module")
def block():
    return emit(PEBlock(5, 7, IntegerArithmetic(8), 16), "block")


@pytest.fixture(scope="module")
def floats():
    """Elements with units inside, and delay lines between them."""
    return emit(PEBlock(4, 4, FloatArithmetic(BFLOAT16, 2, 4), 16), "block")


@pytest.mark.parametrize(("design", "cols"), [("block", 7), ("floats", 4)])
def test_every_output_in_every_cycle(request, design, cols, tmp_path, seed):
    """A loop that takes a value from the wrong neighbour, or too late, simulates other hardware."""
    block = request.getfixturevalue(design)
    loops = module(rewrite(block), "block")
    assert loops.count("for (") > 8
    ports = re.findall(r"^  (input|output) (?:reg )?(\[\d+:0\] )?\\(\w+) ;$", loops, re.MULTILINE)
    inputs = [(width, name) for kind, width, name in ports if kind == "input" and name != "clk"]
    outputs = [(width, name) for kind, width, name in ports if kind == "output"]
    assert len(outputs) == 4 * cols

    def instance(name, end):
        wires = [f".{port}({port})" for _, port in inputs] + [f".{port}({port}_{end})" for _, port in outputs]
        return f"  {name} {end}(.clk(clk), {', '.join(wires)});"

    lines = ["module both(input clk, output reg differs);", "  initial differs = 0;"]
    lines += [f"  reg {width}{name} = 0;" for width, name in inputs]
    lines += [f"  wire {width}{name}_{end};" for width, name in outputs for end in ("plain", "loops")]
    lines += ["  always @(posedge clk) begin", *(f"    {name} <= $urandom;" for _, name in inputs)]
    lines += [f"    if ({name}_plain != {name}_loops) differs <= 1;" for _, name in outputs]
    lines += ["  end", instance("block", "plain"), instance("block_loops", "loops"), "endmodule", ""]
    run_both(tmp_path, block + loops.replace("module block(", "module block_loops(") + "\n".join(lines),
             MAIN.replace("Vboth both;", f"Vboth both; Verilated::randSeed({seed + 1});"))


def test_watched_modules_stay(block):
    """Assertions look into a module by the names of its signals, which a loop doesn't have."""
    assert rewrite(block, {"pe"}) == block


def test_watched_units_inside_stay(floats):
    """An adder that has rules must not vanish in its element."""
    assert rewrite(floats, {"pe_total_adder"}) == floats


@pytest.mark.parametrize("change", [
    ("  assign addend = ", "  initial begin end\n  assign addend = "),
    ("  always @(posedge clk)\n    token <= arrived;\n", "  assign token = token_above;\n"),
    ("    token <= arrived;\n", "    if (rst) token <= arrived;\n"),
])
def test_unknown_text_stays(block, change):
    """What the pass doesn't understand must be simulated as it is."""
    old, new = change
    assert block.count(old) == 1
    text = block.replace(old, new)
    assert rewrite(text) == text


def test_other_structures_stay():
    """Skew registers consist of different delay lines, and few PEs are not worth loops."""
    for component in (Skew(8, 40), PEBlock(3, 5, IntegerArithmetic(8), 16)):
        text = emit(component, "small")
        assert rewrite(text) == text
