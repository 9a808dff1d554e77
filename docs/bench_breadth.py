"""Breadth: operators with drawn shapes on the RTL, against onnxruntime, LiteRT or an int64 einsum."""

import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
from hypothesis import HealthCheck, Phase

import pearray as pe

ROOT = Path(__file__).parents[1]

__all__ = ["INTRODUCTION", "breadth", "rows"]

INTRODUCTION = ("Operators whose shapes, types, scales and features hypothesis draws (`tests/operator_cases.py`, which "
                "says what each family holds), run by `pe.run` and compared element for element with onnxruntime, "
                "LiteRT's reference kernels, or, for 4 and 16 bits, an int64 einsum. Refused cases are those for which "
                "no exact program exists, and say so.")

#: Cases of each family; an exact addition is searched for, which takes about a second.
CASES, ADDITIONS = 30, 10

PRESET = "systolic-8x8"


def _families() -> tuple[dict[str, Any], dict[Any, int]]:
    """Strategies of the families, and those of other widths with their bits."""
    # The tests' folder is no package.
    if str(ROOT / "tests") not in sys.path:
        sys.path.insert(0, str(ROOT / "tests"))
    from operator_cases import FAMILIES, WIDTHS
    return FAMILIES, WIDTHS


def rows() -> list[str]:
    """First cells of :func:`breadth`."""
    families, widths = _families()
    return [*families, *(strategy.__name__ for strategy in widths)]


def breadth(seed: int = 0) -> Iterator[str]:
    """Table of mismatches, one line for each family."""
    families, widths = _families()

    yield "| family | what it draws | configuration | cases | refused | mismatches | Verilog |"
    yield "|---|---|---|---|---|---|---|"
    for name, strategy in families.items():
        yield _line(name, strategy, PRESET, PRESET, seed)
    small = ROOT / "tests" / "cocotb" / "configuration.toml"
    for strategy, bits in widths.items():
        config = pe.load_config(small, overrides={"array.operand_bits": bits}).hardware
        yield _line(strategy.__name__, strategy, config, f"6 x 4 of {bits} bits", seed)


def _line(name: str, strategy: Callable[[], Any], config: Any, label: str, seed: int) -> str:
    print("breadth", name, flush=True)
    cases = elements = refused = wrong = 0
    digest = ""

    @hypothesis.seed(seed)
    @hypothesis.settings(max_examples=ADDITIONS if name == "add" else CASES, deadline=None, database=None,
                         phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @hypothesis.given(strategy())
    def run(case: Any) -> None:
        nonlocal cases, elements, refused, wrong, digest
        expected = case.expected()
        cases += 1
        try:
            result = pe.run(case.operator, case.tensors, on=config)
        except pe.PearrayError as error:
            if "can't be computed exactly" not in str(error):
                raise
            refused += 1
            return
        digest = result.verilog_sha256
        actual = result.outputs["y"]
        elements += expected.size
        same = actual.shape == expected.shape and actual.dtype == expected.dtype
        wrong += int(np.sum(actual != expected)) if same else expected.size

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run()
    what = (strategy.__doc__ or "").split("\n")[0].rstrip(".")
    return f"| {name} | {what} | {label} | {cases} | {refused} | {wrong} of {elements:,} | `{digest[:12]}` |"


if __name__ == "__main__":
    print("\n".join(breadth(int(sys.argv[1]) if len(sys.argv) > 1 else 0)))
