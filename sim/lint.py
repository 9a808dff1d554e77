"""Rewriting of what Yosys would write in a way that Verilator's lint warns of."""

import re

__all__ = ["clean_rtlil", "clean_verilog"]

_CELL = re.compile(r"^  cell \$(shift|shiftx|shr|sshr|gt|lt|ge|le) (\S+)\n((?:    .*\n)*)  end\n",
                   re.MULTILINE)
_NO_BITS = re.compile(r"^(?:  attribute .*\n)*  wire width 0 .*\n|^ *connect \S+ \{ *\}\n", re.MULTILINE)
_SETTING = re.compile(r"^    (?:parameter|connect) \\(\w+) (.*)\n", re.MULTILINE)
_INITIAL = re.compile(r"^  \(\* init = \S+ \*\)\n(?=  (?:wire|output) )", re.MULTILINE)
_NOT = re.compile(r"^(  assign .* = )! ", re.MULTILINE)
_TWICE = re.compile(r"^(  (?:input|output) (.*;\n))  wire \2", re.MULTILINE)


def clean_rtlil(body: str) -> str:
    """Rewrite a module: shifts that truncate, comparisons that are constant, wires without bits."""
    return _NO_BITS.sub(_without_bits, _CELL.sub(_clean_cell, body))


def _without_bits(found: re.Match[str]) -> str:
    # A connection of a cell, which is indented further, stays.
    return found[0] if found[0].startswith("    ") else ""


def _clean_cell(cell: re.Match[str]) -> str:
    kind, name, text = cell.groups()
    settings = dict(_SETTING.findall(text))
    if "sh" in kind:
        if int(settings["A_WIDTH"]) <= int(settings["Y_WIDTH"]):
            return cell[0]
        wide = text.replace(f"\\Y_WIDTH {settings['Y_WIDTH']}\n", f"\\Y_WIDTH {settings['A_WIDTH']}\n")
        wide = wide.replace(f"    connect \\Y {settings['Y']}\n", f"    connect \\Y {name}$wide\n")
        return (f"  wire width {settings['A_WIDTH']} {name}$wide\n  cell ${kind} {name}\n{wide}  end\n"
                f"  connect {settings['Y']} {name}$wide [{int(settings['Y_WIDTH']) - 1}:0]\n")
    constant = re.fullmatch(r"\d+'([01]+)|\{ *\}", settings["B"])
    if settings["A_SIGNED"] != "0" or not constant:
        return cell[0]
    bits = (constant[1] or "").lstrip("0")
    largest = bits == "1" * int(settings["A_WIDTH"])
    if (largest and kind in ("gt", "le")) or (not bits and kind in ("lt", "ge")):
        value = int(kind in ("le", "ge"))
        return f"  connect {settings['Y']} {settings['Y_WIDTH']}'{value:0{settings['Y_WIDTH']}b}\n"
    return cell[0]


def clean_verilog(text: str) -> str:
    """Rewrite Verilog: comparisons with zero, cases without default, repeated declarations.

    Yosys compares with 0 by the logical negation of a number. It repeats the initial value of a
    register at its other names, and declares every port twice.
    """
    text = _TWICE.sub(r"\1", _INITIAL.sub("", _NOT.sub(r"\1~| ", text)))
    lines = []
    complete: list[bool] = []
    for line in text.splitlines(keepends=True):
        word = line.lstrip()
        if word.startswith("casez"):
            complete.append(False)
        elif word.startswith("default:"):
            complete[-1] = True
        elif word.startswith("endcase") and not complete.pop():
            lines.append(f"{line[:-len(word)]}  default: ;\n")
        lines.append(line)
    return "".join(lines)
