"""The pass that makes loops of rows of processing elements with logic between them."""

import re

import pytest
from both import run_both

from pearray.hdl.arithmetic.fixed_point import FixedPointArithmetic
from pearray.hdl.arithmetic.integer import IntegerArithmetic
from pearray.hdl.row_stationary.array import RowStationaryArray
from pearray.hdl.row_stationary.row import ArrayShape, tag_bits
from pearray.sim.branchless import branchless
from pearray.sim.replicas import replicas
from pearray.sim.verilog import emit

MAIN = """
#include "Vboth.h"
int main() {
    Vboth both;
    for (int edge = 0; edge < 20000; ++edge) {
        both.clk = edge & 1;
        both.eval();
        if (both.differs) return 1;
    }
    return both.worked ? 0 : 2;
}
"""


def emitted(bits):
    arithmetic = FixedPointArithmetic(bits) if bits == 16 else IntegerArithmetic(bits)
    row_tag, col_tag = tag_bits(4, 4)
    return emit(RowStationaryArray(ArrayShape(
        rows=4, cols=4, arithmetic=arithmetic, ifmap_words=5, filter_words=9, psum_words=3, filter_lanes=64 // bits,
        psum_lanes=64 // arithmetic.accumulator.width, row_tag_bits=row_tag, col_tag_bits=col_tag)), "array")


@pytest.fixture(scope="module")
def array():
    return emitted(16)


def test_every_output_in_every_cycle(array, tmp_path, seed):
    """A loop that takes a value too early, too late or from the wrong place simulates other hardware."""
    loops = replicas(array, "pe_row")
    assert "pe_row row_0" in array
    assert "pe_row row_0" not in loops
    header = re.search(r"^module array\(.*?^endmodule\n", loops, re.MULTILINE | re.DOTALL)[0]
    ports = {name: (kind, width) for kind, width, name in
             re.findall(r"^  (input|output) (\[\d+:0\] )?(\w+);$", header, re.MULTILINE)}
    inputs = [(width, name) for name, (kind, width) in ports.items() if kind == "input" and name != "clk"]
    outputs = [(width, name) for name, (kind, width) in ports.items() if kind == "output"]
    assert len(outputs) >= 9

    def instance(name, end):
        wires = [f".{port}({port})" for _, port in inputs] + [f".{port}({port}_{end})" for _, port in outputs]
        return f"  {name} {end}(.clk(clk), {', '.join(wires)});"

    # Few different tags and setups, few resets, so that data go everywhere.
    mask = 0x101  # Two bits of a tag.
    beats = f"{{$urandom, $urandom, $urandom}} & {{66'h3FFFFFFFFFFFFFFFF, 11'd{mask}}}"
    shape = 3 | 3 << 3 | 3 << 6 | 3 << 9 | 1 << 13 | 1 << 25 | 1 << 33  # Short windows and rows, few filters.
    values = {"rst": "$urandom % 1000 == 0", "setup_valid": "$urandom % 50 == 0", "filters_payload": beats,
              "setup_payload": f"{{$urandom, $urandom}} & 64'd{7 | mask << 3 | mask << 14 | mask << 25}",
              "shapes_payload": f"{{$urandom, $urandom}} & 64'd{shape}", "psums_payload": beats,
              "ifmap_payload": f"$urandom & {{16'hFFFF, 11'd{mask}}}", "wants_payload": f"$urandom & 11'd{mask}"}
    lines = ["module both(input clk, output reg differs, output reg worked);", "  initial {differs, worked} = 0;"]
    lines += [f"  reg {width}{name} = 0;" for width, name in inputs]
    lines += [f"  wire {width}{name}_{end};" for width, name in outputs for end in ("plain", "loops")]
    lines += ["  always @(posedge clk) begin"]
    lines += [f"    {name} <= {values.get(name, '{$urandom, $urandom, $urandom, $urandom}')};" for _, name in inputs]
    lines += [f"    if ({name}_plain != {name}_loops) differs <= 1;" for _, name in outputs]
    lines += ["    if (out_valid_plain) worked <= 1;"]
    lines += ["  end", instance("array", "plain"), instance("array_loops", "loops"), "endmodule", ""]
    run_both(tmp_path, array + header.replace("module array(", "module array_loops(") + "\n".join(lines),
             MAIN.replace("Vboth both;", f"Vboth both; Verilated::randSeed({seed + 1});"))


def test_both_arithmetics():
    """An array whose text the pass doesn't know stays as it is, and simulates many times slower."""
    assert "pe_row row_0" not in replicas(emitted(8), "pe_row")


def test_what_stays(array):
    """Rules look into modules by names that loops do not have; text that is not known must stay as it is."""
    assert replicas(array, "pe_row", {"row_stationary_pe_shapes"}) == array
    assert replicas(array, "row") == array
    changed = array.replace("  assign i__ready = ~ full;\n", "  assign i__ready = ~ full;\n  initial begin end\n", 1)
    assert changed != array
    assert replicas(changed, "pe_row") == changed


@pytest.mark.parametrize(("text", "expected"), [
    ("    a = b;\n    if (c) begin\n      a = 4'h3;\n    end\n",
     "    a = b;\n    a = ({4{(c)}} & (4'h3)) | (~{4{(c)}} & (a));\n"),
    ("    a = c ? b : 4'h0;\n", "    a = ({4{c}} & (b)) | (~{4{c}} & (4'h0));\n"),
    ("    a = b;\n    case (b)\n", "    a = b;\n    case (b)\n"),
    ("    a = b;\n    if (b) begin\n      a = 4'h3;\n    end\n", None),
    ("    a = b;\n    if (c) begin\n      a = $signed(b);\n    end\n", None),
])
def test_conditions_become_masks(text, expected):
    """A mask of the wrong width, or of what is no truth value, changes other bits than the condition would."""
    result = branchless(text, {"a": "[3:0] ", "b": "[3:0] ", "c": ""})
    assert result.replace(" ", "") == (text if expected is None else expected).replace(" ", "")
