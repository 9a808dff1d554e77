"""Wrapper of a design for the native engine: inputs change with the clock, so one evaluation a cycle does."""

import re

from .resting import CLOCKS

__all__ = ["SAMPLED", "sampled"]

#: Name of the wrapper.
SAMPLED = "pearray_sampled"

#: Inputs that are passed on as they are.
_CLOCKS = ("clk", CLOCKS)

_PORT = re.compile(r"^  (input|output) (\[\d+:0\] )?(\w+);\n", re.MULTILINE)


def sampled(text: str, top: str) -> str:
    """Add a wrapper with the same ports, whose registers pass the inputs on.

    Whoever drives a design from outside must evaluate it twice a cycle: once when inputs change, for
    what depends on them in the same cycle, and once at the clock's edge. The second would do for all
    if inputs changed together with the state, which is what registers in front of them bring about:
    inputs set before an edge belong to the cycle after it.

    Parameters
    ----------
    text : str
        Verilog of the design, as :func:`pearray.sim.verilog.emit` writes it.
    top : str
        Name of its top module.

    Returns
    -------
    str
        Verilog of both; the top module is called :data:`SAMPLED`.
    """
    body = re.search(rf"^module {top}\(.*?^endmodule", text, re.MULTILINE | re.DOTALL)
    assert body is not None
    ports = _PORT.findall(body[0])
    inputs = [(width, name) for kind, width, name in ports if kind == "input" and name not in _CLOCKS]
    lines = [f"module {SAMPLED}({', '.join(name for _, _, name in ports)});"]
    lines += [f"  {kind} {width}{name};" for kind, width, name in ports]
    # The design must not see a cycle before its reset.
    lines += [f"  reg {width}{name}_sampled = {int(name == 'rst')};" for width, name in inputs]
    lines += ["  always @(posedge clk) begin"]
    lines += [f"    {name}_sampled <= {name};" for _, name in inputs]
    passed = {name: f"{name}_sampled" for _, name in inputs}
    wires = ", ".join(f".{name}({passed.get(name, name)})" for _, _, name in ports)
    lines += ["  end", f"  {top} sampled({wires});"]
    return text + "\n".join([*lines, "endmodule", ""])
