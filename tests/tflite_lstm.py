"""LSTMs of TensorFlow Lite files, drawn."""

import numpy as np

__all__ = ["drawn_lstm"]

#: Inputs of the operator behind the weights: peepholes, and what is behind the biases.
_ABSENT, _STATES = [-1] * 3, 18


def drawn_lstm(rng, model, x, shape, cells, *, time_major=False, clip=0.0, cell_bits=11, coupled=False):
    """Add an LSTM without projection; return the number of what it makes, its weights, and its scales.

    Parameters
    ----------
    rng, model
        Generator, and the model under construction.
    x : int
        Number of its input.
    shape : tuple of int
        Shape of the input.
    cells : int
        Cells, and elements of its output.
    time_major, clip, cell_bits, coupled
        Order of the first two axes, limit of the cell state, its bits behind the point, and whether the input gate is
        what the forget gate leaves.
    """
    batch = shape[1] if time_major else shape[0]
    hidden_scale, hidden_zero = float(np.float32(rng.uniform(0.004, 0.02))), int(rng.integers(-20, 20))
    inputs = [x]
    for size in (shape[-1], cells):
        for gate in range(4):
            values = rng.integers(-127, 128, (cells, size)).astype(np.int8)
            scale = rng.uniform(0.5, 1.5) / 127 / np.sqrt(size) * 3
            inputs.append(-1 if coupled and gate == 0 else model.constant(values, scale))
    inputs += _ABSENT
    for gate in range(4):
        values = rng.integers(-2000, 2000, cells).astype(np.int32)
        inputs.append(-1 if coupled and gate == 0 else model.constant(values, 1e-4))
    inputs += [-1, -1, model.tensor((batch, cells), hidden_scale, hidden_zero, variable=True),
               model.tensor((batch, cells), 2.0**-cell_bits, 0, "int16", variable=True), -1, -1, -1, -1]
    inner = [model.tensor((0,), 2.0**-12, 0, "int16") for _ in range(4)]
    inner.append(model.tensor((0,), hidden_scale * float(rng.choice([1, 1.25])), hidden_zero))
    made = model.tensor((*shape[:2], cells), hidden_scale, hidden_zero)
    return model.node("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, [made], "UnidirectionalSequenceLSTMOptions", inner,
                      fusedActivationFunction=4, timeMajor=time_major, cellClip=clip, projClip=0.0)
