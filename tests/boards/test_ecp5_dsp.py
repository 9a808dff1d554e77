"""Registers in multipliers: the netlist with them does what the design says."""

import json
import subprocess
import sys

import pytest

from pearray.boards.ecp5_dsp import pack_registers

# Each output is one case; operands of 2 bits keep the proof short.
DESIGN = """
module top(input clk, input rst, input en, input other, input signed [1:0] a, input signed [1:0] b,
           output reg signed [3:0] plain, output reg signed [3:0] enabled, output signed [1:0] shared,
           output reg signed [3:0] cleared, output signed [3:0] twice, output reg signed [4:0] sum,
           output reg signed [5:0] chained, output reg [3:0] two, output reg [3:0] from_one,
           output reg signed [3:0] again);
  reg signed [1:0] a1 = 0, b1 = 0, held = 0, held_b = 0, reset_a = 0, early = 0, ones = -1, last = 0;
  reg signed [3:0] product = 0, read_twice = 0, middle = 0;
  initial begin plain = 0; enabled = 0; cleared = 0; sum = 0; chained = 0; two = 0; from_one = 0;
    again = 0; end
  assign shared = held;
  assign twice = read_twice + b * a;
  always @(posedge clk) begin
    a1 <= a; b1 <= b;
    plain <= a1 * b1;                      // both operands and the product
    if (en) held <= a;
    if (other) held_b <= b;
    if (en) enabled <= held * held_b;      // three enables, and an operand that others read
    if (rst) reset_a <= 0; else reset_a <= a;
    if (rst) cleared <= 0; else cleared <= reset_a * b1;   // with a reset, so b1 stays too
    read_twice <= b * a;                   // the product is read without the register too
    product <= a1 * held_b; sum <= product + held;
    middle <= a * b1; chained <= middle * a1;              // one product is the next one's operand
    early <= b; if (en) two <= a1 * early;
    ones <= a; from_one <= ones * b1;      // begins with another value than 0, so b1 stays
    last <= b ^ a; again <= a1 * last;     // a1 is an operand of two multipliers
  end
endmodule
"""


def _model():
    """Verilog of the multiplier with its registers, as far as the pass uses them."""
    def pins(letter, count):
        return [f"{letter}{index}" for index in range(count)]

    inputs = [*pins("A", 18), *pins("B", 18), *pins("C", 18), "SIGNEDA", "SIGNEDB", "SOURCEA", "SOURCEB", "CLK0",
              *pins("CE", 4), "RST0"]
    lines = [f"module MULT18X18D({', '.join(inputs + pins('P', 36))});",
             *(f"  input {name};" for name in inputs), *(f"  output {name};" for name in pins("P", 36))]
    for stage in ("INPUTA", "INPUTB", "OUTPUT"):
        lines += [f'  parameter REG_{stage}_{kind} = "{value}";'
                  for kind, value in (("CLK", "NONE"), ("CE", "CE0"), ("RST", "RST0"))]
    for name, value, width, stage in (
            ("a", f"{{{', '.join(reversed(pins('A', 18)))}}}", 18, "INPUTA"),
            ("b", f"{{{', '.join(reversed(pins('B', 18)))}}}", 18, "INPUTB"),
            ("p", "$signed({SIGNEDA & a[17], a}) * $signed({SIGNEDB & b[17], b})", 36, "OUTPUT")):
        enable = "0"
        for number in range(4):
            enable = f'REG_{stage}_CE == "CE{number}" ? CE{number} : {enable}'
        lines += [f"  wire [{width - 1}:0] {name}_in = {value}, {name};",
                  f"  reg [{width - 1}:0] {name}_q = 0;",
                  f"  always @(posedge CLK0) if (RST0) {name}_q <= 0; else if ({enable}) {name}_q <= {name}_in;",
                  f'  assign {name} = REG_{stage}_CLK == "NONE" ? {name}_in : {name}_q;']
    return "\n".join([*lines, f"  assign {{{', '.join(reversed(pins('P', 36)))}}} = p;", "endmodule", ""])


def _yosys(folder, *script):
    (folder / "script.ys").write_text("\n".join([*script, ""]))
    done = subprocess.run([sys.executable, "-m", "pearray.boards.yosys", "script.ys"], cwd=folder,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    """Folder with the mapped netlist, and the netlist."""
    folder = tmp_path_factory.mktemp("mapped")
    (folder / "design.v").write_text(DESIGN)
    (folder / "model.v").write_text(_model())
    _yosys(folder, "read_verilog design.v", "synth_ecp5 -top top -json mapped.json")
    return folder, (folder / "mapped.json").read_text()


@pytest.mark.parametrize("most_enables", [0, 100])
def test_same_function(mapped, most_enables):
    """A register that moves though something else needs it would change results on the board, where nobody looks."""
    folder, text = mapped
    design = json.loads(text)
    packed = pack_registers(design["modules"]["top"], most_enables=most_enables)
    (folder / "packed.json").write_text(json.dumps({"modules": {"top": design["modules"]["top"]}}))
    assert min(packed[stage] for stage in ("INPUTA", "INPUTB", "OUTPUT")) >= (3 if most_enables else 2)
    _yosys(folder, "read_verilog model.v", "read_verilog -overwrite +/lattice/cells_sim_ecp5.v",
           "read_json packed.json", "hierarchy -check -top top", "proc", "flatten", "opt_clean", "select -module top",
           "write_rtlil -selected gate.il")
    _yosys(folder, "read_rtlil gate.il", "rename top gate", "read_verilog design.v", "proc",
           "rename top gold", "async2sync", "opt_clean", "miter -equiv -make_assert -flatten gold gate miter",
           "sat -verify -prove-asserts -set-init-zero -tempinduct-baseonly -maxsteps 5 miter")


@pytest.mark.parametrize("most_enables", [0, 100])
def test_both_operands(mapped, most_enables):
    """With a register at one operand only, nextpnr times both as though the multiplier had none."""
    module = json.loads(mapped[1])["modules"]["top"]
    pack_registers(module, most_enables=most_enables)
    stages = [{stage for stage in ("INPUTA", "INPUTB") if f"REG_{stage}_CLK" in cell["parameters"]}
              for cell in module["cells"].values() if cell["type"] == "MULT18X18D"]
    assert {len(each) for each in stages} == {0, 2}


def test_no_enables(mapped):
    """Where the placer would find no room for a multiplier's enable, none may use one."""
    _, text = mapped
    module = json.loads(text)["modules"]["top"]
    pack_registers(module)
    enables = {bit for cell in module["cells"].values() if cell["type"] == "MULT18X18D"
               for port, bits in cell["connections"].items() if port.startswith("CE") for bit in bits}
    assert enables == {"1"}
