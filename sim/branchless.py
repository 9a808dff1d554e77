"""Pass over the C++ of a compiled model: choices between two values become arithmetic.

Verilator writes each multiplexer as ``(condition ? first : second)``. The compiler may not read
`first` and `second` before it knows which is wanted, so it makes branches of them. A model is a long
piece of code that runs through once a cycle and never stays in the instruction cache, and there
each branch interrupts the fetching of code: without them a 16 x 16 array runs almost twice as fast.
"""

import re
from pathlib import Path

__all__ = ["rewrite", "rewrite_model"]

#: What can end or separate an expression, and what hides such characters.
_TOKEN = re.compile(r"""//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])+'|::|[()?:,;{}]""", re.DOTALL)
_CALL = re.compile(r"(\w+)\(")
#: Functions without side effects or errors: sign extension, multiplication, signed comparison.
_PURE = re.compile(r"pearray_select|VL_EXTENDS?_\w+|VL_MULS_(III|QQQ)|VL_(LT|GT|LTE|GTE)S_\w+")
#: An element of an array may lie outside it, unless its index is a constant.
_INDEX = re.compile(r"\[(?!(?:0x)?[0-9a-fA-F]+U\])")


class _Group:
    """Text between a parenthesis and its partner, cut at the marks of one choice."""

    def __init__(self) -> None:
        self.parts: list[list[str]] = [[]]
        self.marks: list[str] = []
        self.is_plain = False

    def add(self, text: str) -> None:
        self.parts[-1].append(text)

    def mark(self, mark: str) -> None:
        """Meet a question mark or colon: anything but one of each, in this order, is left alone."""
        self.is_plain |= mark != "?:"[len(self.marks)] if len(self.marks) < 2 else True
        self.marks.append(mark)
        self.parts.append([])

    def text(self) -> str:
        parts = ["".join(part) for part in self.parts]
        if len(parts) == 3 and not self.is_plain and _is_pure(parts[1]) and _is_pure(parts[2]):
            return f"(pearray_select(({parts[0]}),({parts[1]}),({parts[2]})))"
        pieces = [parts[0]]
        for mark, part in zip(self.marks, parts[1:], strict=True):
            pieces += [mark, part]
        return f"({''.join(pieces)})"


def _is_pure(text: str) -> bool:
    return _INDEX.search(text) is None and all(_PURE.fullmatch(name) for name in _CALL.findall(text))


def rewrite(source: str) -> str:
    """Rewrite one file.

    Parameters
    ----------
    source : str
        C++ as Verilator writes it.

    Returns
    -------
    str
        The same, with each parenthesised choice of which both sides can be computed without harm
        turned into a call of ``pearray_select``. What isn't recognised stays as it is.
    """
    bottom: list[str] = []
    groups: list[_Group] = []
    position = 0
    for match in _TOKEN.finditer(source):
        token = match[0]
        before, position = source[position:match.start()], match.end()
        add = groups[-1].add if groups else bottom.append
        add(before)
        if token == "(":
            groups.append(_Group())
        elif token == ")" and groups:
            text = groups.pop().text()
            (groups[-1].add if groups else bottom.append)(text)
        elif token in ("?", ":") and groups:
            groups[-1].mark(token)
        else:
            add(token)
            if token != "::":
                for group in groups if token in ";{}" else groups[-1:]:
                    group.is_plain = True
    bottom.append(source[position:])
    if groups:
        return source  # Unbalanced: not what this pass knows.
    return "".join(bottom)


def rewrite_model(folder: Path) -> None:
    """Rewrite those files of a model that run in each cycle."""
    for path in sorted(folder.glob("Vtop_*__[0-9]*.cpp")):
        if not path.stem.endswith("__Slow"):
            path.write_text('#include "branchless.h"\n' + rewrite(path.read_text()))
