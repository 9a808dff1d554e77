"""Conditional assignments as masks, so that a C++ compiler sees loops without branches."""

import re
from collections.abc import Mapping

from .netlist import bare

__all__ = ["branchless"]

_NAME = r"(?:\\\S+ |[A-Za-z_][\w$]*)"
_BIT = re.compile(rf"^({_NAME}) ?(\[\d+\])?\s*$")
_IF = re.compile(r"^ *if \((.*)\) begin$")
_SHORT = re.compile(r"^ *if \((.*)\) +(\S.* = .*;)$")
_ELSE_IF = re.compile(r"^ *end else if \((.*)\) begin$")
_ELSE = re.compile(r"^ *end else begin$")
_SET = re.compile(rf"^ *({_NAME}) ?(\[[\d:]+\] )?= (.*);$")
_CHOICE = re.compile(rf"^({_NAME} ?(?:\[\d+\] ?)?)\s*\? ([^?:]*(?:\[[\d:]+\])?[^?:]*) : ([^?:]*(?:\[[\d:]+\])?[^?:]*)$")
_NOT = re.compile(r"^~ (.*)$")


class _OtherError(Exception):
    """The text has another form."""


def branchless(text: str, widths: Mapping[str, str]) -> str:
    """Rewrite the statements that make one signal.

    Parameters
    ----------
    text : str
        Assignments, conditional ones among them.
    widths : mapping
        Ranges of signals, such as "[7:0] ".

    Returns
    -------
    str
        Assignments without conditions, or the text itself if it has a form that isn't known.
    """
    try:
        return "".join(_lines(text.splitlines(), widths))
    except _OtherError:
        return text


def _lines(lines: list[str], widths: Mapping[str, str]) -> list[str]:
    guards: list[list[str]] = []
    result = []
    for line in lines:
        if match := _IF.match(line):
            guards.append([_bit(match[1], widths)])
        elif match := _ELSE_IF.match(line):
            guards[-1] = [*guards[-1][:-1], _not(guards[-1][-1]), _bit(match[1], widths)]
        elif _ELSE.match(line):
            guards[-1] = [*guards[-1][:-1], _not(guards[-1][-1])]
        elif line.strip() == "end" and guards:
            guards.pop()
        elif match := _SHORT.match(line):
            result.append(_set(match[2], [_bit(match[1], widths)], widths))
        else:
            result.append(_set(line, [guard for inner in guards for guard in inner], widths))
    if guards:
        raise _OtherError
    return result


def _bit(text: str, widths: Mapping[str, str]) -> str:
    match = _BIT.match(text)
    if match is None or (not match[2] and widths.get(bare(match[1]), "[") != ""):
        raise _OtherError
    return text


def _set(line: str, guards: list[str], widths: Mapping[str, str]) -> str:
    match = _SET.match(line)
    if match is None:
        raise _OtherError
    part = match[2] or widths[bare(match[1])]
    high, _, low = part.strip()[1:-1].partition(":")
    bits = int(high) - int(low) + 1 if low else 1
    target, value = f"{match[1]}{match[2] or ''}", match[3]
    choice = _CHOICE.match(value)
    if "$signed" not in value and choice is not None and _is_bit(choice[1], widths):
        value = _mask(bits, choice[1], choice[2], choice[3])
    elif bits == 1 and (match := _NOT.match(value)) is not None and _is_bit(match[1], widths):
        value = _not(match[1])
    if guards:
        if "$signed" in value:
            raise _OtherError
        value = _mask(bits, f"({' & '.join(guards)})", value, target)
    return f"    {target}= {value};\n"


def _is_bit(text: str, widths: Mapping[str, str]) -> bool:
    try:
        return bool(_bit(text, widths))
    except _OtherError:
        return False


def _mask(bits: int, condition: str, value: str, otherwise: str) -> str:
    mask, opposite = (condition, _not(condition)) if bits == 1 else (f"{{{bits}{{{condition}}}}}",
                                                                    f"~{{{bits}{{{condition}}}}}")
    if re.fullmatch(r"\d+'h0+", value.strip()):
        return f"{opposite} & ({otherwise})"
    return f"({mask} & ({value})) | ({opposite} & ({otherwise}))"


def _not(bit: str) -> str:
    # Of ~, the C++ compiler makes truth values, for which it has no vectors.
    return f"({bit} ^ 1'h1)"
