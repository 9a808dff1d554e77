"""As :mod:`tflite_draw`, models whose activations have 16 bits, as the converter writes them with weights of 8."""

import numpy as np
from tflite_draw import (
    activation,
    add,
    binary,
    convolution,
    draw_of,
    linear,
    mul,
    pool,
    products,
    stored,
    sub,
    transposed,
    unary,
    upto,
)
from tflite_draw_moves import reduction

__all__ = ["WORDS", "draw_words"]


def _store(model, rng):
    """Floats at both ends, with zeros put around what is between."""
    shape = tuple(upto(rng, 4) for _ in range(4))
    sides = rng.integers(0, 3, (4, 2)).astype(np.int32) * np.array([[0], [1], [1], [1]], np.int32)
    whole, form = tuple(int(size) for size in np.array(shape) + sides.sum(axis=1)), stored(rng, "int16", 2, 4)
    x, first = model.tensor(shape, dtype="float32"), model.tensor(shape, **form)
    second, y = model.tensor(whole, **form), model.tensor(whole, dtype="float32")
    model.node("QUANTIZE", [x], [first], "QuantizeOptions")
    model.node("PAD", [first, model.constant(sides)], [second], "PadOptions")
    model.node("DEQUANTIZE", [second], [y], "DequantizeOptions")
    return [x], [y]


def _requantise(model, rng):
    """Words as others, or as bytes, or bytes as words."""
    kinds = [("int16", "int16"), ("int16", "int8"), ("int8", "int16")][int(rng.integers(3))]
    return unary(model, rng, "QUANTIZE", None, "QuantizeOptions", stored(rng, kinds[1]), stored(rng, kinds[0]))


def _shift(model, rng):
    """Sum or difference of scales that are powers of two, by the rule that older converters ask for."""
    shape, kind = tuple(upto(rng, 4) for _ in range(upto(rng, 5))), str(rng.choice(["ADD", "SUB"]))
    exponents = [-11, -11 - int(rng.integers(7))][::int(rng.choice([1, -1]))]
    numbers = [model.tensor(shape, 2.0**exponent, dtype="int16") for exponent in exponents]
    y = model.tensor(shape, 2.0**-11, dtype="int16")
    model.node(kind, numbers, [y], f"{kind.title()}Options", fusedActivationFunction=activation(rng))
    return numbers, [y]


def _extreme(model, rng, kind):
    """Greater or lesser of two tensors of one scale."""
    form = stored(rng, "int16")
    inputs, outputs = binary(model, rng, kind, "MaximumMinimumOptions", "int16", form)
    for number in model.nodes[0][1]:
        model.tensors[number].scale = form["scale"]
    return inputs, outputs


#: Makers of models of one operator each, by name.
WORDS = {
    "conv": lambda model, rng: convolution(model, rng, False, "int16"),
    "depthwise_conv": lambda model, rng: convolution(model, rng, True, "int16"),
    "transpose_conv": lambda model, rng: transposed(model, rng, "int16"),
    "fully_connected": lambda model, rng: linear(model, rng, "int16"),
    "batch_matmul": lambda model, rng: products(model, rng, "int16"),
    "add": lambda model, rng: add(model, rng, "int16", potScaleInt16=False),
    "sub": lambda model, rng: sub(model, rng, "int16", potScaleInt16=False),
    "mul": lambda model, rng: mul(model, rng, "int16"),
    "shift": _shift,
    "maximum": lambda model, rng: _extreme(model, rng, "MAXIMUM"),
    "minimum": lambda model, rng: _extreme(model, rng, "MINIMUM"),
    "leaky_relu": lambda model, rng: unary(
        model, rng, "LEAKY_RELU", None, "LeakyReluOptions", stored(rng, "int16"), stored(rng, "int16"),
        alpha=float(np.float32(rng.choice([0.0, 0.1, 1.5, rng.uniform(0, 1)])))),
    "absolute": lambda model, rng: unary(model, rng, "ABS", y=stored(rng, "int16"), x=stored(rng, "int16")),
    "reduce_max": lambda model, rng: reduction(model, rng, "REDUCE_MAX", "int16"),
    "max_pool": lambda model, rng: pool(model, rng, "MAX_POOL_2D", "int16", activation(rng)),
    "average_pool": lambda model, rng: pool(model, rng, "AVERAGE_POOL_2D", "int16", activation(rng)),
    "mean": lambda model, rng: reduction(model, rng, "MEAN", "int16"),
    "relu": lambda model, rng: unary(model, rng, str(rng.choice(["RELU", "RELU6"])),
                                     x=stored(rng, "int16"), y=stored(rng, "int16")),
    "requantise": _requantise,
    "store": _store,
}


def draw_words(name, rng):
    """Draw a model by name: its file, and inputs by name."""
    return draw_of(WORDS[name], rng)
