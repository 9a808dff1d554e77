"""How tensors of workloads are drawn, and the scales that fit what is drawn."""

import numpy as np

from ..compiler.operators.fields import check_size

__all__ = ["STEPS_PER_DEVIATION", "UNIT", "drawn"]

#: Scale with which int8 operands over the full range have a deviation of 1.
UNIT = (12 / ((1 << 16) - 1)) ** 0.5

#: Steps of the output in a standard deviation of the sums: int8 then covers 3.2 deviations on either side.
STEPS_PER_DEVIATION = 40


def drawn(rng: np.random.Generator, shape: tuple[int, ...], bits: int = 8) -> np.ndarray:
    """Draw an int8 or int16 tensor over the full range of `bits`.

    Raises
    ------
    PearrayError
        If it has more elements than a tensor may have.
    """
    check_size("tensor of the workload", shape)
    limit = 1 << bits - 1
    return rng.integers(-limit, limit, shape, dtype=np.int8 if bits == 8 else np.int16)
