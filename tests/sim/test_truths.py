"""Comparisons that are rewritten as bits of differences."""

import re
from itertools import product

import pytest

from pearray.sim.truths import has_truths, without_truths

WIDTHS = {"a": "[2:0] ", "b": "[2:0] ", "y": "", "bit": "", "$1": "", "word": "[31:0] ", "pair": "[31:0] "}


def value_of(text, a, b):
    """Bit 0 of what is assigned, of 32-bit arithmetic."""
    expression = re.fullmatch(r" *y = (.*);\n", text)[1]
    expression = re.sub(r"\d+'h([0-9a-f]+)", r"0x\1", expression)
    expression = re.sub(r"{ *a, b *}", str(a << 3 | b), expression)
    # A difference is one of 32 bits before it is shifted.
    expression = re.sub(r"\((0x0 \+ .*?)\) >> 31", r"(((\1) % 2 ** 32) >> 31)", expression)
    return eval(expression, {"a": a, "b": b}) & 1


@pytest.mark.parametrize(("value", "expected"), [
    ("| a", lambda a, b: a != 0), ("& a", lambda a, b: a == 7), ("| { a, b }", lambda a, b: a + b > 0),
    ("a == b", lambda a, b: a == b), ("a != b", lambda a, b: a != b), ("a < b", lambda a, b: a < b),
    ("a > b", lambda a, b: a > b), ("a <= b", lambda a, b: a <= b), ("a >= b", lambda a, b: a >= b),
    ("a == 3'h5", lambda a, b: a == 5),
])
def test_same_for_all_numbers(value, expected):
    """A comparison that is wrong for some numbers simulates other hardware."""
    text = f"    y = {value};\n"
    made = without_truths(text, WIDTHS)
    assert has_truths(text)
    assert made != text
    for a, b in product(range(8), repeat=2):
        assert value_of(made, a, b) == expected(a, b), f"{value} of {a} and {b}"


def test_opposites():
    """A bit that is turned is a difference, too."""
    assert without_truths("    y = ~ bit;\n", WIDTHS) == "    y = 32'h1 - (bit);\n"
    assert without_truths("    \\y = ~ \\$1 ;\n", WIDTHS | {"\\y": ""}) == "    \\y = 32'h1 - (\\$1 );\n"


@pytest.mark.parametrize("value", [
    "word == pair", "| word", "$signed(a) < $signed(b)", "a ? b : 3'h0", "~ a", "a + b", "other == b", "a & b", "a | b",
])
def test_others_stay(value):
    """Numbers of more bits than differences have room for, and all else, must stay as they are."""
    text = f"    y = {value};\n"
    assert without_truths(text, WIDTHS) == text
