"""Pass over emitted Verilog: modules that rest get a clock of their own, which the native engine leaves out then.

Verilator evaluates what every register gets in every cycle, also in a module in which nothing happens. Where a module
says when it rests (:func:`pearray.hdl.blocks.rules.rests`), its clock comes from outside, and a signal tells before
each cycle whether the clock must go.
"""

import re

from ..hdl.blocks.rules import RESTS

__all__ = ["CLOCKS", "resting"]

#: Ports of the top module, with a bit for each module that rests: its clock, and whether it must go.
CLOCKS, AWAKE = "resting_clock", "resting_awake"

_MODULE = re.compile(r"^module (\w+)\((.*?)\);\n(.*?)^endmodule\n", re.MULTILINE | re.DOTALL)
_BIND = re.compile(rf"^bind (\w+) (\w+_{RESTS}) {RESTS} \(\n((?:    .*\n)*)  \);\n", re.MULTILINE)
_INSTANCE = r"^  {module} (\\\S+ |\w+) ?\(\n(?:    \..*\n)*  \);\n"
_NEXT = re.compile(r"  always @\(posedge clk\)\n    left <= (.*);\n")
_CHECK = re.compile(r"  always @\(posedge clk\) begin\n    if \(.*\) begin\n.*\$error.*\n    end\n  end\n")
#: Signals of modules inside, which one that rests leads out.
_INSIDE = re.compile(rf"^  output {AWAKE}_(\d+);$", re.MULTILINE)


def _clock(number: int) -> str:
    return f"{CLOCKS}_{number}"


def _awake(number: int) -> str:
    return f"{AWAKE}_{number}"


def resting(text: str, rules: str, top: str) -> tuple[str, int]:
    """Give modules that rest their own clocks.

    Parameters
    ----------
    text, rules : str
        Verilog of a design and of its rules, as :func:`pearray.sim.verilog.emit_with_rules` writes them.
    top : str
        Name of the top module.

    Returns
    -------
    str
        Verilog of the design, whose top module has an input ``resting_clock`` and an output ``resting_awake``, a bit
        for each. It does the same in every cycle if bits of the one rise together with ``clk`` where those of the other
        are high. The text itself if nothing in it rests.
    int
        Number of clocks.
    """
    stated = {match[1]: match[0] for match in _MODULE.finditer(rules)}
    found = [(path, module, stated[rule], rule, wires) for module, rule, wires in _BIND.findall(rules)
             if (path := _path(text, module, top)) is not None]
    # From the inside: while something in it is awake, a module is.
    found.sort(key=lambda each: -len(each[0]))
    for number, (path, module, rule, name, wires) in enumerate(found):
        text = _told(text, module, rule, name, wires, number)
        for parent, child in zip(path, [module, *path], strict=False):
            text = _led(text, parent, child, number, is_resting=child == module, is_top=parent == top)
    if found:
        bits = f"[{len(found) - 1}:0] "
        body = f"  input {bits}{CLOCKS};\n  output {bits}{AWAKE};\n" + "".join(
            f"  assign {_clock(number)} = {CLOCKS}[{number}];\n  assign {AWAKE}[{number}] = {_awake(number)};\n"
            for number in range(len(found)))
        text = _changed(text, top, [CLOCKS, AWAKE], _found(text, top)[3] + body)
    return text, len(found)


def _path(text: str, module: str, top: str) -> list[str] | None:
    """Modules around one, from the inside, up to the top; None if one of them is there several times."""
    path: list[str] = []
    while module != top:
        around = [match[1] for match in _MODULE.finditer(text)
                  for _ in re.finditer(_INSTANCE.format(module=module), match[3], re.MULTILINE)]
        if len(around) != 1:
            return None
        module = around[0]
        path.append(module)
    return path


def _changed(text: str, module: str, ports: list[str], body: str) -> str:
    """Give a module more ports, and another body."""
    match = _found(text, module)
    made = f"module {module}({', '.join([match[2], *ports])});\n{body}endmodule\n"
    return text[:match.start()] + made + text[match.end():]


def _found(text: str, module: str) -> re.Match[str]:
    return next(match for match in _MODULE.finditer(text) if match[1] == module)


def _told(text: str, module: str, rule: str, name: str, wires: str, number: int) -> str:
    """Put the rule into the module that states it, as a part that tells whether it must go on."""
    following = _NEXT.search(rule)
    assert following is not None
    part = _CHECK.sub("", rule).replace("(clk, ", "(resting_goes, clk, ", 1).removesuffix("endmodule\n")
    # In the cycle of a reset, too.
    part += f"  output resting_goes;\n  assign resting_goes = awake | (| {following[1]});\nendmodule\n"
    body = _found(text, module)[3]
    inside = "".join(f" | {_awake(int(one))}" for one in _INSIDE.findall(body))
    body += (f"  output {_awake(number)};\n  wire resting_goes;\n  assign {_awake(number)} = resting_goes{inside};\n"
             f"  {name} {RESTS} (\n{wires.removesuffix(chr(10))},\n    .resting_goes(resting_goes)\n  );\n")
    return part + _changed(text, module, [_awake(number)], body)


def _led(text: str, parent: str, child: str, number: int, *, is_resting: bool, is_top: bool) -> str:
    """Lead a clock into a module, and the signal out of it, through the one around it."""
    body = _found(text, parent)[3]
    instance = re.search(_INSTANCE.format(module=child), body, re.MULTILINE)
    assert instance is not None
    signals = [_awake(number), *[_clock(number)] * (not is_resting)]
    made = instance[0].removesuffix("\n  );\n") + "".join(f",\n    .{name}({name})" for name in signals) + "\n  );\n"
    if is_resting:
        made = made.replace("    .clk(clk)", f"    .clk({_clock(number)})")
    kinds = ("wire", "wire") if is_top else ("input", "output")
    body = body.replace(instance[0], made) + f"  {kinds[0]} {_clock(number)};\n  {kinds[1]} {_awake(number)};\n"
    return _changed(text, parent, [] if is_top else [_clock(number), _awake(number)], body)
