"""What random regressions draw: every operator that has a lowering, by what an accelerator must have for it.

The sweep of docs/bench_sweep.py, the cocotb environment and the tests of ledgers draw from this one table;
tests/test_draws.py holds it to the table of lowerings.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import drawn_graphs
import fixed_layers
import moved_draws
import numpy as np
import random_workloads
from drawn_graphs import alone

from pearray.compiler.graph.graph import Graph
from pearray.compiler.kinds import compiler_for
from pearray.hdl.errors import PearrayError
from pearray.hdl.shell.config import Config

__all__ = ["DRAWS", "REFUSALS", "Draw", "draw", "draws_of", "is_refusal"]

#: What an accelerator says of a drawn layer that its memories, or its functions, can't hold.
REFUSALS = ("can't hold", "must be at least", "must be more than", "can't be computed exactly")


@dataclass(frozen=True, kw_only=True)
class Draw:
    """A kind of graph that is drawn.

    Parameters
    ----------
    make : callable
        Returns a graph and its inputs, given a generator and a configuration.
    bytes_only : bool
        Whether it is for operands of 8 bits only.
    is_fixed_point : bool
        Whether it is for arrays that compute in 16-bit fixed point, and nothing else.
    needs : tuple of str
        Properties of a configuration, all of which it must have.
    """

    make: Callable[[np.random.Generator, Config], tuple[Graph, dict[str, np.ndarray]]]
    bytes_only: bool = False
    is_fixed_point: bool = False
    needs: tuple[str, ...] = ()

    def is_for(self, config: Config) -> bool:
        """Whether an accelerator has all that it needs."""
        return (compiler_for(config).is_fixed_point(config) == self.is_fixed_point
                and (config.array.operand_bits == 8 or not self.bytes_only)
                and all(getattr(config, need) for need in self.needs))


def _by_bits(maker: Callable[..., Any], **of: Any) -> Draw:
    """Draw of a maker that is given a generator and the bits of operands."""
    return Draw(make=lambda rng, config: alone(*maker(rng, config.array.operand_bits)), **of)


def _table(makers: Any, **of: Any) -> dict[str, Draw]:
    return {maker.__name__: _by_bits(maker, **of) for maker in makers.values()}


_ATTENTION = (drawn_graphs.attention, drawn_graphs.masked_attention, drawn_graphs.spread_attention,
              drawn_graphs.multi_head)

#: Kinds of graphs by name.
DRAWS: dict[str, Draw] = {
    **_table(random_workloads.OPERATORS),
    **_table(random_workloads.NARROW_OPERATORS, bytes_only=True),
    **_table(random_workloads.PARTED_OPERATORS),
    **_table(random_workloads.NARROW_PARTED_OPERATORS, bytes_only=True),
    "subtraction": _by_bits(random_workloads.subtraction, bytes_only=True, needs=("has_pairs",)),
    "addition": _by_bits(random_workloads.addition, bytes_only=True, needs=("has_pairs",)),
    "multiplication": _by_bits(random_workloads.multiplication, bytes_only=True, needs=("has_products",)),
    **_table(random_workloads.ROW_OPERATORS, bytes_only=True, needs=("has_row_softmax",)),
    **_table(random_workloads.FLOAT_ROW_OPERATORS, bytes_only=True, needs=("has_float_softmax",)),
    **{name: _by_bits(partial(moved_draws.moved, name=name)) for name in moved_draws.MOVES},
    "joined": _by_bits(moved_draws.joined),
    "split": _by_bits(moved_draws.split),
    **_table(random_workloads.NARROW_MOVED_OPERATORS, bytes_only=True),
    "filling_gemm": Draw(make=lambda rng, config: alone(*random_workloads.filling_gemm(rng, config))),
    "pooled": Draw(make=lambda rng, config: random_workloads.pooled(rng, config.array.operand_bits)),
    "append": Draw(make=drawn_graphs.append, bytes_only=True),
    "rotary": Draw(make=drawn_graphs.rotary, bytes_only=True),
    **{make.__name__: Draw(make=make, bytes_only=True, needs=("has_softmax", "has_moves")) for make in _ATTENTION},
    "layer_norm": Draw(make=drawn_graphs.layer_norm, bytes_only=True, needs=("has_norms",)),
    "rms_norm": Draw(make=drawn_graphs.rms_norm, bytes_only=True, needs=("has_norms",)),
    "normed_sum": Draw(make=drawn_graphs.normed_sum, bytes_only=True, needs=("has_norms", "has_pairs")),
    **{make.__name__: Draw(make=lambda rng, config, make=make: alone(*make(rng)), is_fixed_point=True)
       for make in (fixed_layers.fixed_conv, fixed_layers.fixed_gemm, fixed_layers.fixed_linear)},
}


def draws_of(config: Config) -> list[str]:
    """Names of what an accelerator has all functions for."""
    return [name for name, drawn in DRAWS.items() if drawn.is_for(config)]


def draw(rng: np.random.Generator, config: Config, name: str | None = None,
         most: int | None = None) -> tuple[Graph, dict[str, np.ndarray]]:
    """Draw a graph for an accelerator, and its inputs: of any kind, or of the one named.

    If given, ``most`` is how many elements inputs and constants have at most, all together.
    """
    made = DRAWS[str(rng.choice(draws_of(config))) if name is None else name]
    while True:
        graph, inputs = made.make(rng, config)
        if most is None or sum(value.size for value in (*inputs.values(), *graph.constants.values())) <= most:
            return graph, inputs


def is_refusal(error: PearrayError) -> bool:
    """Whether an error says that an accelerator can't hold a layer, and no more."""
    return any(part in str(error) for part in REFUSALS)
