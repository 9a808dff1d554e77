"""The pass that takes branches out of compiled models."""

import subprocess
from pathlib import Path

import pytest

import pearray.sim
from pearray.sim import tools
from pearray.sim.branchless import rewrite

EXPRESSIONS = [
    "((a & 1U) ? b : c)",
    "((a & 1U) ? ((b & 2U) ? c : a) : ((c & 4U) ? b : (a + c)))",
    "(0xffU & ((2U == (3U & a)) ? (b >> 1U) : (- c)))",
    "(static_cast<uint16_t>((a > b) ? static_cast<uint16_t>(a) : b))",
    "((a < b) ? static_cast<uint64_t>(c) : (static_cast<uint64_t>(a) << 20U))",
    "(std::max(a, b) ? c : b)",
    "((a & 1U) ? (b & 2U) ? a : b : c)",
    "((a < 4U) ? table[a] : table[1U])",
]


def test_values_stay(tmp_path, rng):
    """A choice that gives another value would make the simulation lie about the hardware."""
    body = "\n".join(f"  show({expression});" for expression in EXPRESSIONS)
    function = f"void run(uint32_t a, uint32_t b, uint32_t c) {{ // it's (a ? comment\n{body}\n}}\n"
    head = '#include <algorithm>\n#include <cstdint>\n#include <cstdio>\n#include "branchless.h"\n' \
           "static uint32_t table[4] = {5, 6, 7, 8};\n" \
           'template <class T> void show(T v) { std::printf("%zu ? %llu:\\n", sizeof v, (unsigned long long)v); }\n'
    values = [[int(value) for value in row] for row in rng.integers(0, 1 << 32, (40, 3))]
    values += [[a, b, 7] for a in range(6) for b in range(3)]
    calls = "".join(f"run({a}U, {b}U, {c}U);" for a, b, c in values)
    main = f"int main() {{ {calls} }}\n"
    assert rewrite(function).count("pearray_select") == 8
    outputs = []
    for name, text in (("plain", head + function + main), ("rewritten", head + rewrite(function) + main)):
        (tmp_path / f"{name}.cpp").write_text(text)
        subprocess.run([tools.compiler(), "-std=gnu++20", "-O1", f"-I{Path(pearray.sim.__file__).parent}", "-o",
                        tmp_path / name, tmp_path / f"{name}.cpp"], check=True, timeout=120)
        outputs.append(subprocess.run([tmp_path / name], check=True, capture_output=True, timeout=20).stdout)
    assert outputs[0] == outputs[1]


@pytest.mark.parametrize("text", [
    "x = ((i < 4U) ? table[i] : 0U);",
    "x = (a ? VL_DIV_III(32, b, c) : c);",
    "x = (a ? next() : c);",
    'f("(a ? b : c)");',
    "for (i = (0U); i < 4U; ++i) {}",
    "case 1: x = ::y(b); // (a ? b : c)",
])
def test_what_could_do_harm_stays(text):
    """Computing the side that isn't wanted must have no effect and can't fail."""
    assert rewrite(text) == text
