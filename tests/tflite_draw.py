"""Small TensorFlow Lite models of one operator each, drawn over all that it may be told, by operator."""

from collections.abc import Callable

import numpy as np
from tflite_models import Tflite

__all__ = ["FAMILIES", "draw"]

_INFO = {kind: np.iinfo(kind) for kind in ("int8", "uint8", "int16")}

FAMILIES: dict[str, Callable] = {}


def family(make):
    """Register a function that adds an operator to a model and returns its inputs and outputs."""
    FAMILIES[make.__name__] = make
    return make


def draw(name, rng):
    """Draw a model of a family: its file, and inputs by name."""
    return draw_of(FAMILIES[name], rng)


def draw_of(maker, rng):
    """Draw a model that a function adds to an empty one: its file, and inputs by name."""
    model = Tflite()
    inputs, outputs = maker(model, rng)
    tensors = [model.tensors[number] for number in inputs]
    return model.content(inputs, outputs), {each.name: values(rng, each.shape, each.dtype) for each in tensors}


def values(rng, shape, dtype="int8"):
    """Draw numbers over the full range of a type; of floats a few dozens, many of them half-way between others."""
    if dtype == "float32":
        return (rng.integers(-400, 400, shape) * 0.125).astype(np.float32)
    info = _INFO[dtype]
    return rng.integers(info.min, info.max + 1, shape).astype(dtype)


def upto(rng, most):
    return int(rng.integers(1, most + 1))


def stored(rng, dtype="int8", low=-6.0, high=0.0):
    """Scale and zero point, which is 0 of 16 bits."""
    info = _INFO[dtype]
    if dtype == "int16":
        return {"scale": np.float32(np.exp(rng.uniform(low - 5, high - 5))), "zero_point": 0, "dtype": dtype}
    return {"scale": np.float32(np.exp(rng.uniform(low, high))),
            "zero_point": int(rng.choice([info.min, info.max, rng.integers(info.min, info.max + 1)])), "dtype": dtype}


def unary(model, rng, kind, shape=None, options=None, y=None, x=None, more=(), **fields):
    """Add an operator of one tensor that keeps its shape."""
    shape = shape or tuple(upto(rng, 5) for _ in range(upto(rng, 5)))
    x = model.tensor(shape, **(x or stored(rng)))
    made = model.tensor(shape, **(y or stored(rng)))
    model.node(kind, [x, *more], [made], options, **fields)
    return [x], [made]


def same(model, number):
    """How a tensor is stored, for another."""
    tensor = model.tensors[number]
    return {"scale": tensor.scale, "zero_point": tensor.zero_point, "dtype": tensor.dtype}


def constant(model, rng, shape, form):
    """Add a constant that is stored in a way."""
    return model.constant(values(rng, shape, form["dtype"]), form["scale"], form["zero_point"])


def window(rng, sizes, taps, stride, dilation, padding):
    """Output sizes of a window: SAME is 0, VALID 1."""
    if padding == 0:
        return tuple(-(-size // step) for size, step in zip(sizes, stride, strict=True))
    return tuple((size - apart * (tap - 1) - 1) // step + 1
                 for size, tap, step, apart in zip(sizes, taps, stride, dilation, strict=True))


def kind_of(rng):
    """Type of activations: mostly int8."""
    return str(rng.choice(["int8", "int8", "uint8"]))


def activation(rng, kinds=(0, 0, 1, 2, 3)):
    return int(rng.choice(kinds))


def weights(model, rng, shape, axis, x, depth, dtype="int8", biased=False, narrow=False):
    """Weights with a scale for each channel or for all, a bias or none, and how sums of them are stored.

    `narrow` ones have four bits.
    """
    channels, output = shape[axis], stored(rng, dtype, -3)
    per = channels if dtype != "uint8" and channels > 1 and rng.integers(2) else ()
    most = 7 if narrow else 127
    scale = (rng.uniform(0.5, 1.5, per) * output["scale"] / (x["scale"] * most * 0.63 * np.sqrt(depth))).astype(
        np.float32)
    if dtype == "uint8":
        found = model.constant(values(rng, shape, dtype), scale, int(rng.integers(256)), axis)
    else:
        found = model.constant(rng.integers(-most, most + 1, shape).astype(np.int8), scale, 0, axis,
                               dtype="int4" if narrow else None)
    large, kind = (2000000, np.int64) if dtype == "int16" else (3000, np.int32)
    bias = [model.constant(rng.integers(-large, large, channels).astype(kind),
                           np.float32(x["scale"]) * scale)] if biased or rng.integers(3) else []
    return found, bias, output


def convolution(model, rng, depthwise, dtype=None, narrow=False):
    dtype = dtype or kind_of(rng)
    n, (r, s), stride = upto(rng, 2), (upto(rng, 3), upto(rng, 4)), (upto(rng, 3), upto(rng, 2))
    dilation = (upto(rng, 2), upto(rng, 2)) if stride == (1, 1) else (1, 1)
    padding, groups = int(rng.integers(2)), int(rng.choice([1, 1, 2]))
    size = tuple(apart * (tap - 1) + upto(rng, 6) for apart, tap in zip(dilation, (r, s), strict=True))
    c, x = upto(rng, 5) * groups, stored(rng, dtype)
    number = model.tensor((n, *size, c), **x)
    if depthwise:
        multiplier = int(rng.choice([1, 1, 2, 3]))
        m, shape, axis, depth = c * multiplier, (1, r, s, c * multiplier), 3, r * s
    else:
        groups = groups if dtype == "int8" else 1
        m = upto(rng, 6) * groups
        shape, axis, depth = (m, r, s, c // groups), 0, r * s * c // groups
    w, bias, output = weights(model, rng, shape, axis, x, depth, dtype, not depthwise, narrow)
    y = model.tensor((n, *window(rng, size, (r, s), stride, dilation, padding), m), **output)
    more = {"depthMultiplier": multiplier} if depthwise else {}
    kind = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
    model.node(kind, [number, w, *bias], [y], "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions",
               padding=padding, strideH=stride[0], strideW=stride[1], dilationHFactor=dilation[0],
               dilationWFactor=dilation[1], fusedActivationFunction=activation(rng), **more)
    return [number], [y]


@family
def conv(model, rng):
    return convolution(model, rng, False)


@family
def depthwise_conv(model, rng):
    return convolution(model, rng, True)


@family
def conv_int4(model, rng):
    return convolution(model, rng, False, "int8", True)


@family
def depthwise_conv_int4(model, rng):
    return convolution(model, rng, True, "int8", True)


@family
def fully_connected_int4(model, rng):
    return linear(model, rng, "int8", True)


@family
def fully_connected(model, rng):
    return linear(model, rng, kind_of(rng))


def linear(model, rng, dtype, narrow=False):
    shape = tuple(upto(rng, 4) for _ in range(upto(rng, 4)))
    keep = bool(rng.integers(2))
    depth = shape[-1] if keep else int(rng.choice([shape[-1], int(np.prod(shape))]))
    m, x = upto(rng, 6), stored(rng, dtype)
    number = model.tensor(shape, **x)
    w, bias, output = weights(model, rng, (m, depth), 0, x, depth, dtype, narrow=narrow)
    y = model.tensor((*shape[:-1], m) if keep else (int(np.prod(shape)) // depth, m), **output)
    inputs = [number]
    if rng.integers(4) == 0 and np.size(model.tensors[w].scale) == 1 and not narrow and dtype != "int16":
        # Weights that are computed.
        model.tensors[w].values = None
        inputs.append(w)
    model.node("FULLY_CONNECTED", [number, w, *(bias or [-1])], [y], "FullyConnectedOptions", keepNumDims=keep,
               fusedActivationFunction=activation(rng))
    return inputs, [y]


def binary(model, rng, kind, options, dtype=None, y=None, **fields):
    """Add an operator of two tensors: of one shape, spread over each other, or one of them a constant."""
    dtype = dtype or kind_of(rng)
    shape = tuple(upto(rng, 4) for _ in range(upto(rng, 5)))
    other = shape
    if rng.integers(2):
        other = tuple(size if rng.integers(2) else 1 for size in shape)[int(rng.integers(len(shape))):]
    forms = [stored(rng, dtype, -4), stored(rng, dtype, -4)]
    if dtype == "int16" and y is None:
        # As the converter calibrates them.
        greater = max(form["scale"] for form in forms) * rng.uniform(0.7, 2)
        y = stored(rng, dtype) | {"scale": np.float32(
            forms[0]["scale"] * forms[1]["scale"] * 20000 if kind == "MUL" else greater)}
    fixed = int(rng.integers(4))
    numbers = [constant(model, rng, size, form) if place == fixed else model.tensor(size, **form)
               for place, (size, form) in enumerate(zip((shape, other), forms, strict=True))]
    if rng.integers(2):
        numbers.reverse()
    made = model.tensor(np.broadcast_shapes(shape, other), **(y or stored(rng, dtype, -4)))
    model.node(kind, numbers, [made], options, **fields)
    return [number for number in numbers if model.tensors[number].values is None], [made]


@family
def add(model, rng, dtype=None, **fields):
    return binary(model, rng, "ADD", "AddOptions", dtype, fusedActivationFunction=activation(rng), **fields)


@family
def sub(model, rng, dtype=None, **fields):
    return binary(model, rng, "SUB", "SubOptions", dtype, fusedActivationFunction=activation(rng), **fields)


@family
def mul(model, rng, dtype=None):
    return binary(model, rng, "MUL", "MulOptions", dtype, fusedActivationFunction=activation(rng))


@family
def maximum(model, rng):
    return binary(model, rng, "MAXIMUM", "MaximumMinimumOptions")


@family
def minimum(model, rng):
    return binary(model, rng, "MINIMUM", "MaximumMinimumOptions")


def pool(model, rng, kind, dtype, fused):
    n, c, taps, stride = upto(rng, 2), upto(rng, 5), (upto(rng, 4), upto(rng, 3)), (upto(rng, 3), upto(rng, 3))
    size, padding = tuple(tap + upto(rng, 6) - 1 for tap in taps), int(rng.integers(2))
    x = model.tensor((n, *size, c), **stored(rng, dtype))
    y = model.tensor((n, *window(rng, size, taps, stride, (1, 1), padding), c), **same(model, x))
    model.node(kind, [x], [y], "Pool2DOptions", padding=padding, strideH=stride[0], strideW=stride[1],
               filterHeight=taps[0], filterWidth=taps[1], fusedActivationFunction=fused)
    return [x], [y]


@family
def average_pool(model, rng):
    return pool(model, rng, "AVERAGE_POOL_2D", kind_of(rng), activation(rng))


@family
def max_pool(model, rng):
    return pool(model, rng, "MAX_POOL_2D", kind_of(rng), activation(rng))


@family
def softmax(model, rng):
    dtype = kind_of(rng)
    y = {"scale": 1 / 256, "zero_point": int(_INFO[dtype].min), "dtype": dtype}
    return unary(model, rng, "SOFTMAX", tuple(upto(rng, 6) for _ in range(upto(rng, 4))), "SoftmaxOptions", y,
                 stored(rng, dtype), beta=float(np.float32(rng.choice([1.0, 0.5, rng.uniform(0.2, 3)]))))


@family
def logistic(model, rng):
    return squashed(model, rng, "LOGISTIC", 256, 0)


@family
def tanh(model, rng):
    return squashed(model, rng, "TANH", 128, 128)


def squashed(model, rng, kind, steps, above):
    """Add a function whose output has a fixed scale and zero point, so much above the least number."""
    dtype = kind_of(rng)
    y = {"scale": 1 / steps, "zero_point": int(_INFO[dtype].min) + above, "dtype": dtype}
    return unary(model, rng, kind, y=y, x=stored(rng, dtype))


@family
def hard_swish(model, rng):
    dtype = kind_of(rng)
    x = stored(rng, dtype)
    y = stored(rng, dtype) | {"scale": np.float32(x["scale"] * np.exp(rng.uniform(-3, 3)))}
    return unary(model, rng, "HARD_SWISH", y=y, x=x)


@family
def leaky_relu(model, rng):
    dtype = kind_of(rng)
    return unary(model, rng, "LEAKY_RELU", None, "LeakyReluOptions", stored(rng, dtype), stored(rng, dtype),
                 alpha=float(np.float32(rng.choice([0.0, 0.1, 1.5, rng.uniform(0, 1)]))))


@family
def absolute(model, rng):
    return unary(model, rng, "ABS")


@family
def gelu(model, rng):
    dtype = kind_of(rng)
    return unary(model, rng, "GELU", None, "GeluOptions", stored(rng, dtype), stored(rng, dtype),
                 approximate=bool(rng.integers(2)))


@family
def prelu(model, rng):
    shape = tuple(upto(rng, 4) for _ in range(int(rng.integers(2, 5))))
    size = [(1,), shape[-1:], (1,) * (len(shape) - 2) + shape[-1:]][int(rng.integers(3))]
    dtype = kind_of(rng)
    return unary(model, rng, "PRELU", shape, y=stored(rng, dtype), x=stored(rng, dtype),
                 more=[constant(model, rng, size, stored(rng, dtype))])


@family
def relu(model, rng):
    dtype = kind_of(rng)
    kind = str(rng.choice(["RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1"]))
    return unary(model, rng, kind, y=stored(rng, dtype), x=stored(rng, dtype))


@family
def requantise(model, rng):
    return unary(model, rng, "QUANTIZE", None, "QuantizeOptions", stored(rng, kind_of(rng)), stored(rng, kind_of(rng)))


@family
def quantise(model, rng):
    """Floats at both ends, with a function between."""
    shape, form = tuple(upto(rng, 4) for _ in range(upto(rng, 4))), stored(rng, low=-5)
    if rng.integers(2):
        form["scale"] = 2.0 ** int(rng.integers(-4, 1))
    x, first = model.tensor(shape, dtype="float32"), model.tensor(shape, **form)
    second, y = model.tensor(shape, **stored(rng)), model.tensor(shape, dtype="float32")
    model.node("QUANTIZE", [x], [first], "QuantizeOptions")
    model.node("RELU", [first], [second])
    model.node("DEQUANTIZE", [second], [y], "DequantizeOptions")
    return [x], [y]


@family
def batch_matmul(model, rng):
    return products(model, rng, "int8")


def products(model, rng, dtype):
    m, k, n = upto(rng, 5), upto(rng, 6), upto(rng, 5)
    adj_x, adj_y, fixed = (bool(rng.integers(2)) for _ in range(3))
    left = (k, m) if adj_x else (m, k)
    right = (n, k) if adj_y else (k, n)
    batch = tuple(upto(rng, 3) for _ in range(int(rng.integers(3))))
    leads = [tuple(size if rng.integers(3) else 1 for size in batch) for _ in range(2)]
    forms = [stored(rng, dtype), stored(rng, dtype)]
    most = 60 if dtype == "int8" else 15000
    y = stored(rng, dtype) | {"scale": np.float32(forms[0]["scale"] * forms[1]["scale"] * most * np.sqrt(k))}
    x = model.tensor((*leads[0], *left), **forms[0])
    shape = (*leads[1], *right)
    other = constant(model, rng, shape, forms[1]) if fixed else model.tensor(shape, **forms[1])
    made = model.tensor((*np.broadcast_shapes(*leads), m, n), **y)
    model.node("BATCH_MATMUL", [x, other], [made], "BatchMatMulOptions", adjX=adj_x, adjY=adj_y)
    return [x] + [other] * (not fixed), [made]


@family
def transpose_conv(model, rng):
    return transposed(model, rng, kind_of(rng))


def transposed(model, rng, dtype):
    n, h, w, c, m = upto(rng, 2), upto(rng, 4), upto(rng, 4), upto(rng, 4), upto(rng, 5)
    taps, stride, padding = (upto(rng, 4), upto(rng, 3)), (upto(rng, 3), upto(rng, 2)), int(rng.integers(2))
    x = stored(rng, dtype)
    if padding == 0:
        size = tuple(each * step - int(rng.integers(step)) for each, step in zip((h, w), stride, strict=True))
    else:
        size = tuple((each - 1) * step + tap for each, step, tap in zip((h, w), stride, taps, strict=True))
    number = model.tensor((n, h, w, c), **x)
    weight, bias, output = weights(model, rng, (m, *taps, c), 0, x, c * np.prod(taps) / np.prod(stride), dtype)
    y = model.tensor((n, *size, m), **output)
    shape = model.constant(np.array([n, *size, m], np.int32))
    model.node("TRANSPOSE_CONV", [shape, weight, number, *bias], [y], "TransposeConvOptions",
               padding=padding, strideH=stride[0], strideW=stride[1], fusedActivationFunction=activation(rng))
    return [number], [y]
