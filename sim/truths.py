"""Comparisons as bits of differences, so that a C++ compiler sees no truth values, for which it has few vectors."""

import re
from collections.abc import Mapping

from .netlist import bare

__all__ = ["has_truths", "without_truths"]

_SET = re.compile(r"^( *(?:\\\S+ |[A-Za-z_][\w$]*) ?(?:\[[\d:]+\] )?= )(.*);$")
_NOT = re.compile(r"^~ ?(\\\S+ |[A-Za-z_].*)$")
_REDUCED = re.compile(r"^([|&]) ?(.*)$")
_COMPARED = re.compile(r"^(.*?) (==|!=|<|>|<=|>=) (.*)$")
_CONSTANT = re.compile(r"^(\d+)'s?h([0-9a-f]+)$")
_PART = re.compile(r"^(\\\S+ |[A-Za-z_][\w$]*) ?(?:\[(\d+)(?::(\d+))?\])?\s*$")

#: Bits of what is compared at most: differences have one more.
_MOST = 31


def has_truths(text: str) -> bool:
    """Whether a statement compares."""
    return any(_difference(match[2], None) for line in text.splitlines() if (match := _SET.match(line)))


def without_truths(text: str, widths: Mapping[str, str]) -> str:
    """Rewrite the statements that make one signal.

    Parameters
    ----------
    text : str
        Assignments.
    widths : mapping
        Ranges of signals, such as "[7:0] ".

    Returns
    -------
    str
        The same without comparisons of unsigned numbers of up to 31 bits.
    """
    lines = []
    for line in text.splitlines():
        match = _SET.match(line)
        found = _difference(match[2], widths) if match else ""
        lines.append(f"{match[1]}{found};" if match and found else line)
    return "".join(f"{line}\n" for line in lines)


def _difference(value: str, widths: Mapping[str, str] | None) -> str:
    """Return a comparison as a sign; "" of all else."""
    def short(*operands: str) -> bool:
        return widths is None or all(0 < _bits(operand, widths) <= _MOST for operand in operands)

    if "$signed" in value or "?" in value:
        return ""
    if (match := _NOT.match(value)) and widths is not None and _bits(match[1], widths) == 1:
        return _opposite(match[1])
    if (match := _REDUCED.match(value)) and short(match[2]):
        if match[1] == "|":
            return _sign("32'h0", match[2])
        ones = (1 << _bits(match[2], widths)) - 1 if widths is not None else 0
        return _opposite(_sign(match[2], f"32'h{ones:x}"))
    if (match := _COMPARED.match(value)) and short(match[1], match[3]):
        first, relation, second = match.groups()
        if relation in ("==", "!="):
            differs = _sign("32'h0", f"({first} ^ {second})")
            return differs if relation == "!=" else _opposite(differs)
        less = _sign(*((first, second) if relation in ("<", ">=") else (second, first)))
        return less if relation in ("<", ">") else _opposite(less)
    return ""


def _sign(first: str, second: str) -> str:
    """Whether the first is less."""
    return f"32'h1 & ((32'h0 + {first} - {second}) >> 31)"


def _opposite(bit: str) -> str:
    return f"32'h1 - ({bit})"


def _bits(operand: str, widths: Mapping[str, str]) -> int:
    """Bits of an operand, 0 if they are not known."""
    operand = operand.strip()
    if match := _CONSTANT.match(operand):
        return int(match[1])
    if operand.startswith("{") and operand.endswith("}"):
        parts = [_bits(part, widths) for part in operand[1:-1].split(",")]
        return sum(parts) if all(parts) else 0
    match = _PART.match(operand + " " * operand.startswith("\\"))
    if match is None or bare(match[1]) not in widths:
        return 0
    if match[2]:
        return int(match[2]) - int(match[3] or match[2]) + 1
    high = widths[bare(match[1])].strip()[1:-1].partition(":")[0]
    return int(high) + 1 if high else 1
