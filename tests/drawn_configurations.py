"""Random configurations of every kind of array, of any size, for the sweep of docs/bench_sweep.py."""

import fixed_layers
import numpy as np
from example import EXAMPLE
from random_workloads import configuration, random_functions

import pearray as pe
from pearray.hdl.shell.config import Config
from pearray.hdl.shell.functions import FUNCTIONS

__all__ = ["drawn_configuration", "kind_of"]

#: Kinds of array by number, again and again.
_KINDS = ("systolic", "systolic", "systolic", "systolic", "row-stationary", "systolic", "dot", "row-stationary",
          "systolic", "row-stationary")
#: Of these the number that has words of 16 bits, in fixed point.
_FIXED_POINT = 9

#: Sides of the array, small ones often since they build fast; the last ones once in a while.
_SIDES = [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16]
_LARGE_SIDES = [17, 24, 31, 32, 48, 64]
#: Configurations that every sweep has: both ends of the range.
_CORNERS = {0: (1, 1), 1: (64, 64), 2: (64, 1), 3: (1, 64)}


def kind_of(number: int) -> str:
    """Kind of array of a configuration."""
    return _KINDS[number % len(_KINDS)]


def drawn_configuration(rng: np.random.Generator, number: int) -> Config:
    """Draw configuration ``number`` of a sweep, of a kind that the number says."""
    return {"systolic": _systolic, "row-stationary": _row_stationary, "dot": _dot}[kind_of(number)](rng, number)


def _power(least: int) -> int:
    return 1 << max(0, int(least) - 1).bit_length()


def _systolic(rng: np.random.Generator, number: int) -> Config:
    """Array, memory width, scratchpads down to the smallest allowed, lanes, functions: none, some or all."""
    sides = _LARGE_SIDES if number % 15 == 5 else _SIDES
    rows, cols = (int(side) for side in rng.choice(sides, 2))
    rows, cols = _CORNERS.get(number, (rows, cols))
    divisors = [lanes for lanes in (1, 2, 4, 8, 16) if cols % lanes == 0]
    lanes = int(rng.choice([*divisors, divisors[-1], divisors[-1]]))
    data_width, bits = int(rng.choice([32, 64, 128, 256, 512])), int(rng.choice([4, 8, 8, 8, 8, 12, 16]))
    item, sums = (1, 4) if bits <= 8 else (2, 8)
    least = max(64, 2 * item * _power(max(rows, cols, data_width // 8 // item)))

    def times(*factors: int) -> int:
        return int(rng.choice(factors))

    memories = (least * times(1, 2, 8, 64), least * times(1, 2, 8, 64),
                max(least, 2 * _power(lanes * sums), _power(cols * sums) * times(1, 2, 16)),
                max(16, _power(cols) * times(1, 8)),
                max(4, _power(rows) * times(1, 2, 8)))
    have = rng.choice(["all", "some", "none"])
    functions = random_functions(rng) if have == "some" else dict.fromkeys(FUNCTIONS, int(have == "all"))
    # Of no use without MOVEs: softmax of blocks is there for attention alone.
    moves = max(times(0, 1), functions["softmax"])
    toeplitz = int(min(rows, cols) > 1 and times(0, 1))
    return configuration(rows, cols, *memories, lanes, data_width, bits, moves, toeplitz, **functions)


def _row_stationary(rng: np.random.Generator, number: int) -> Config:
    """Array, scratchpads of PEs, buffers; softmax and MOVEs, but for those of fixed point."""
    if number % len(_KINDS) == _FIXED_POINT:
        return fixed_layers.random_configuration(rng, 16)
    return fixed_layers.random_configuration(rng, 8, softmax=int(rng.integers(4) > 0))


def _dot(rng: np.random.Generator, number: int) -> Config:
    """Units, products of each, memories, lanes; operands of 4 bits now and then."""
    data_width, bits = int(rng.choice([32, 64])), 8 if number % 4 else 4
    rows, cols = int(rng.choice([1, 2, 4, 8])), data_width // 8 * int(rng.choice([1, 2]))
    return pe.load_config(EXAMPLE / "dot-8x8.toml", {
        "array.rows": rows, "array.cols": cols, "array.operand_bits": bits, "memory.data_width": data_width,
        "scratchpads.activation_bytes": 256 * int(rng.choice([1, 4, 16])),
        "scratchpads.weight_bytes": 256 * int(rng.choice([1, 4, 16])),
        "accumulators.depth": int(rng.choice([16, 64, 256])),
        "post.lanes": int(rng.choice([lanes for lanes in (1, 2, 4) if rows % lanes == 0])),
    }).hardware
