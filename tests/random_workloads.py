"""Random configurations, operators and networks for tests of the compiler, with the check against golden."""

from dataclasses import fields

import numpy as np
from interpolation_draws import interpolate
from moved_draws import concat, move

from pearray.compiler.compile import compile_graph
from pearray.compiler.graph.graph import Graph, Node, Tensor
from pearray.compiler.kinds import compiler_for, interpreter
from pearray.compiler.operators import (
    Add,
    AvgPool2d,
    Conv2d,
    Conv2dGrad,
    ConvTranspose2d,
    Gelu,
    Gemm,
    Linear,
    LinearGrad,
    Logistic,
    Lookup,
    MatMul,
    Max,
    MaxPool2d,
    Min,
    Mul,
    PooledConv2d,
    ReduceMax,
    ReduceMean,
    ReduceMin,
    ReduceSum,
    Relu,
    Requant,
    Reshape,
    Silu,
    Softmax,
    Sub,
    Where,
    WindowSum,
)
from pearray.hdl.errors import PearrayError
from pearray.hdl.shell.config import Memory, Post
from pearray.hdl.shell.functions import FUNCTIONS
from pearray.hdl.systolic.config import Accumulators, Array, Scratchpads, SystolicConfig


def _power(least):
    return 1 << max(0, int(least) - 1).bit_length()


def configuration(rows=8, cols=8, activation=16384, weight=8192, output=4096, channels=128, depth=512, lanes=2,
                  data_width=64, bits=8, moves=0, toeplitz=0, **functions):
    """Return a configuration; the defaults are those of systolic-8x8."""
    return SystolicConfig(
        name="test", array=Array(rows=rows, cols=cols, operand_bits=bits, toeplitz=toeplitz),
        scratchpads=Scratchpads(activation_bytes=activation, weight_bytes=weight, output_bytes=output,
                                channels=channels, moves=moves),
        accumulators=Accumulators(depth=depth), post=Post(lanes=lanes, **functions),
        memory=Memory(data_width=data_width))


def random_functions(rng):
    """Draw which functions the vector engine has."""
    drawn: dict[str, int] = {}
    for key, function in FUNCTIONS.items():
        # What a function needs stands before it.
        drawn[key] = int(rng.integers(2)) and drawn.get(function.needs, 1)
    return drawn


def random_configuration(rng, widths=(4, 8, 8, 8, 12, 16)):
    """Draw a small configuration, often with tiny scratchpads and a non-square array."""
    rows, lanes = int(rng.choice([1, 2, 3, 4, 5, 8, 12, 16])), int(rng.choice([1, 2, 4]))
    cols, data_width = lanes * int(rng.integers(1, 6)), int(rng.choice([32, 64, 128]))
    bits = int(rng.choice(widths))
    item, sums = (1, 4) if bits <= 8 else (2, 8)
    least = 2 * item * _power(max(rows, cols, data_width // 8 // item))
    return configuration(
        rows, cols, max(64, least * int(rng.choice([1, 2, 8, 32]))), max(64, least * int(rng.choice([1, 2, 8, 32]))),
        max(64, least, _power(cols * sums) * int(rng.choice([1, 2, 8]))),
        max(16, _power(cols) * int(rng.choice([1, 8]))), _power(max(rows, 4)) * int(rng.choice([1, 2, 8])),
        lanes, data_width, bits, int(rng.integers(2)),
        int(min(rows, cols) > 1 and rng.integers(2)), **random_functions(rng))


def operands(rng, shape, dtype=np.int8, bits=8):
    """Draw operands over the full range."""
    low, high = (0, 1 << bits) if np.dtype(dtype).kind == "u" else (-(1 << bits - 1), 1 << bits - 1)
    return rng.integers(low, high, shape).astype(dtype)


def operand_types(rng, bits):
    """Draw the types of activations and weights."""
    if bits > 8:
        return np.int16, np.int16
    return rng.choice([np.int8, np.uint8]), rng.choice([np.int8, np.uint8])


def random_requant(rng, channels, k, types, bits):
    """Draw a requantisation whose outputs spread, or none."""
    points = [int(operands(rng, (), kind, min(bits, 8))) for kind in types]
    points[1] *= int(rng.integers(2))
    out = np.dtype(rng.choice([np.int8, np.uint8])) if bits <= 8 else np.dtype(np.int16)
    low, high = (0, (1 << bits) - 1) if out.kind == "u" else (-(1 << bits - 1), (1 << bits - 1) - 1)
    y_point, scale = out.type(int(rng.integers(low, high + 1))), 1 / (2**bits * np.sqrt(k))
    # The TFLite rules take sums of 32 bits, which wide operands leave.
    kind = rng.integers(0, 4 if bits <= 8 else 3)
    if kind == 0:
        return None
    if kind == 3:
        return Requant.tflite(rng.integers(1 << 30, 1 << 31, channels), np.full(channels, int(np.log2(scale))),
                              *points, y_point, str(rng.choice(["double", "single"])), (low, high))
    w_scale = scale if kind == 1 else scale * rng.uniform(0.5, 2, channels)
    return Requant.onnx(1.0, points[0], w_scale, points[1], 1.0, y_point, clamp=(low, high))


def _upto(rng, most):
    return int(rng.integers(1, most + 1))


def _bias(rng, tensors, role, shape):
    if rng.integers(2):
        tensors[role] = rng.integers(-1000, 1000, shape).astype(np.int32)
    return tensors


def gemm(rng, bits):
    m, k, n = _upto(rng, 40), _upto(rng, 60), _upto(rng, 40)
    types, (trans_a, trans_b) = operand_types(rng, bits), rng.integers(0, 2, 2)
    operator = Gemm(trans_a=bool(trans_a), trans_b=bool(trans_b), requant=random_requant(rng, n, k, types, bits))
    tensors = {"a": operands(rng, (k, m) if trans_a else (m, k), types[0], bits),
               "b": operands(rng, (n, k) if trans_b else (k, n), types[1], bits)}
    tensors = _bias(rng, tensors, "c", (n,) if rng.integers(2) else (m, n))
    return operator, tensors, ["b"] if rng.integers(2) else []


def linear(rng, bits):
    m, k, n = _upto(rng, 10), _upto(rng, 80), _upto(rng, 60)
    types = operand_types(rng, bits)
    tensors = {"x": operands(rng, (m, k), types[0], bits), "w": operands(rng, (n, k), types[1], bits)}
    return Linear(requant=random_requant(rng, n, k, types, bits)), _bias(rng, tensors, "b", (n,)), None


def _window(rng):
    taps = _upto(rng, 4), _upto(rng, 4)
    return taps, (_upto(rng, 3), _upto(rng, 3)), (_upto(rng, 2), _upto(rng, 2))


def conv(rng, bits):
    (r, s), stride, dilation = _window(rng)
    groups, cg, ng = int(rng.choice([1, 1, 1, 2, 3])), _upto(rng, 12), _upto(rng, 12)
    if rng.integers(4) == 0:
        groups, cg, ng = _upto(rng, 20), 1, int(rng.choice([1, 1, 2]))
    types = operand_types(rng, bits)
    operator = Conv2d(stride=stride, padding=tuple(rng.integers(0, 3, 4).tolist()), dilation=dilation, groups=groups,
                      requant=random_requant(rng, groups * ng, r * s * cg, types, bits))
    height, width = dilation[0] * (r - 1) + _upto(rng, 9), dilation[1] * (s - 1) + _upto(rng, 9)
    tensors = {"x": operands(rng, (_upto(rng, 3), groups * cg, height, width), types[0], bits),
               "w": operands(rng, (groups * ng, cg, r, s), types[1], bits)}
    return operator, _bias(rng, tensors, "b", (groups * ng,)), None


def conv_and_pool(rng, bits):
    """Draw a convolution whose outputs are requantised, and windows over them that mostly stand side by side."""
    while True:
        operator, tensors, _ = conv(rng, bits)
        if operator.requant is not None:
            break
    shape = operator.infer(tensors)["y"][0]
    window = tuple(min(_upto(rng, 4), size) for size in shape[2:])
    pool = MaxPool2d(window, window if rng.integers(4) else (_upto(rng, 3), _upto(rng, 3)),
                     ceil_mode=bool(rng.integers(4) == 0))
    return operator, pool, tensors


def pooled_conv(rng, bits):
    """Draw both as one operator."""
    while True:
        operator, pool, tensors = conv_and_pool(rng, bits)
        if pool.kernel == pool.stride and not pool.ceil_mode:
            return PooledConv2d.of(operator, pool), tensors, None


def pooled(rng, bits):
    """Draw both as a graph, and its inputs."""
    operator, pool, tensors = conv_and_pool(rng, bits)
    nodes = [Node("conv", operator, {role: role for role in tensors}, {"y": "t"}),
             Node("pool", pool, {"x": "t"}, {"y": "y"})]
    x = tensors.pop("x")
    return Graph(nodes, {"x": Tensor("x", x.shape, x.dtype)}, tensors, ["x"], ["y"]), {"x": x}


def conv_transpose(rng, bits):
    (r, s), stride, dilation = _window(rng)
    groups, cg, ng, types = int(rng.choice([1, 1, 2, 3])), _upto(rng, 8), _upto(rng, 8), operand_types(rng, bits)
    extra = int(rng.integers(0, stride[0])), int(rng.integers(0, stride[1]))
    operator = ConvTranspose2d(stride=stride, dilation=dilation, groups=groups, output_padding=extra,
                               padding=(int(r > 1), int(s > 1), 0, 0),
                               requant=random_requant(rng, groups * ng, r * s * cg, types, bits))
    tensors = {"x": operands(rng, (_upto(rng, 2), groups * cg, _upto(rng, 6) + 1, _upto(rng, 6) + 1), types[0], bits),
               "w": operands(rng, (groups * cg, ng, r, s), types[1], bits)}
    return operator, _bias(rng, tensors, "b", (groups * ng,)), None


def linear_grad(rng, bits):
    m, k, n = _upto(rng, 40), _upto(rng, 40), _upto(rng, 40)
    x_type, w_type = operand_types(rng, bits)
    tensors = {"x": operands(rng, (m, k), x_type, bits), "w": operands(rng, (n, k), w_type, bits),
               "dy": operands(rng, (m, n), operand_types(rng, bits)[0], bits)}
    return LinearGrad(), tensors, None if rng.integers(2) else []


def conv_grad(rng, bits):
    """Padding may exceed the filter, the filter the image, and the stride the filter."""
    (r, s), _, dilation = _window(rng)
    # Each phase of the stride is a layer of its own.
    stride = [(1, 1), (1, 1), (2, 1), (1, 3), (2, 2)][rng.integers(5)]
    groups, cg, ng = int(rng.choice([1, 1, 1, 2, 3])), _upto(rng, 12), _upto(rng, 12)
    if rng.integers(4) == 0:
        groups, cg, ng = _upto(rng, 10), 1, int(rng.choice([1, 1, 2]))
    padding = tuple(rng.integers(0, 2 + 2 * int(rng.integers(3)), 4).tolist())
    least = [max(1, step * (taps - 1) + 1 - padding[i] - padding[i + 2]) for i, (step, taps) in enumerate(
        zip(dilation, (r, s), strict=True))]
    types = operand_types(rng, bits)
    operator = Conv2dGrad(stride=stride, padding=padding, dilation=dilation, groups=groups)
    tensors = {"x": operands(rng, (_upto(rng, 3), groups * cg, *(size + _upto(rng, 8) - 1 for size in least)),
                             types[0], bits),
               "w": operands(rng, (groups * ng, cg, r, s), types[1], bits)}
    shape = operator.forward.infer(tensors)["y"][0]
    return operator, tensors | {"dy": operands(rng, shape, operand_types(rng, bits)[0], bits)}, None


def max_pool(rng, bits):
    window, dilation = (_upto(rng, 3), _upto(rng, 3)), _upto(rng, 2)
    padding = tuple(rng.integers(0, dilation * (min(window) - 1) + 1, 4).tolist())
    operator = MaxPool2d(window, (_upto(rng, 3), _upto(rng, 3)), padding, dilation)
    shape = _upto(rng, 2), _upto(rng, 20), _upto(rng, 8) + 6, _upto(rng, 8) + 6
    return operator, {"x": operands(rng, shape, operand_types(rng, bits)[0], bits)}, None


def average_pool(rng, bits):
    window = (_upto(rng, 4), _upto(rng, 4)) if rng.integers(4) else None
    padding = tuple(rng.integers(0, min(window), 4).tolist()) if window else 0
    kind, target = (np.dtype(rng.choice([np.int8, np.uint8])) for _ in range(2))
    scales = [{}, {"x_scale": 0.5, "y_scale": 0.5}, {"x_scale": rng.uniform(0.1, 1), "y_scale": rng.uniform(0.05, 0.5)}]
    operator = AvgPool2d(window, (_upto(rng, 3), _upto(rng, 3)), padding,
                         x_zero_point=int(operands(rng, (), kind)), y_zero_point=operands(rng, (), target)[()],
                         rounding=str(rng.choice(["onnx", "float"])),
                         count_include_pad=bool(rng.integers(2)), **scales[rng.integers(3)])
    shape = _upto(rng, 2), _upto(rng, 20), _upto(rng, 8) + 5, _upto(rng, 8) + 5
    return operator, {"x": operands(rng, shape, kind)}, None


def _any_shape(rng, channels):
    return (_upto(rng, 3), channels, _upto(rng, 8), _upto(rng, 8)) if rng.integers(2) else (_upto(rng, 5), channels)


def relu(rng, bits):
    kind = operand_types(rng, bits)[0]
    x = operands(rng, _any_shape(rng, _upto(rng, 50)), kind, bits)
    return Relu(int(operands(rng, (), kind, bits))), {"x": x}, None


def lookup(rng, bits):
    channels = _upto(rng, 20)
    table = operands(rng, (256,) if rng.integers(2) else (channels, 256))
    return Lookup(table), {"x": operands(rng, _any_shape(rng, channels), operand_types(rng, 8)[0])}, None


def add(rng, bits):
    shape = _any_shape(rng, _upto(rng, 20))
    constant = [(), (1, shape[1], *(1,) * (len(shape) - 2)), (1,) * len(shape)][rng.integers(3)]
    operator = Add(0.1, 3, 0.2, -5, 0.15, np.int8(7))
    fixed = str(rng.choice(["a", "b"]))
    other = "b" if fixed == "a" else "a"
    tensors = {other: operands(rng, shape), fixed: np.asarray(operands(rng, constant))}
    return operator, tensors, [fixed]


def residual(rng, bits):
    kinds = rng.choice([np.int8, np.uint8], 3)
    points = [operands(rng, (), kind)[()] for kind in kinds]
    scales = rng.uniform((0.01, 0.01, 0.08), (0.1, 0.1, 0.2)) if rng.integers(2) else 2.0 ** rng.integers(-6, -2, 3)
    operator = Add(float(scales[0]), int(points[0]), float(scales[1]), int(points[1]), float(scales[2]), points[2],
                   str(rng.choice(["onnx", "float"])))
    shape = _any_shape(rng, _upto(rng, 30))
    return operator, {"a": operands(rng, shape, kinds[0]), "b": operands(rng, shape, kinds[1])}, None


def binary(rng, bits, kind=None):
    """A sum, difference or product by any rule, of tensors that may broadcast."""
    kind = (Add, Sub, Mul)[rng.integers(3)] if kind is None else kind
    rounding = str(rng.choice(["onnx", "float", "tflite"]))
    kinds = rng.choice([np.int8, np.uint8], 3 if rounding == "float" else 1)
    a_kind, b_kind, y_kind = np.broadcast_to(kinds, 3)
    points = [operands(rng, (), each)[()] for each in (a_kind, b_kind, y_kind)]
    scales = rng.uniform((0.01, 0.01, 0.08), (0.1, 0.1, 0.2))
    operator = kind(float(scales[0]), int(points[0]), float(scales[1]), int(points[1]), float(scales[2]), points[2],
                    rounding)
    shape = _any_shape(rng, _upto(rng, 30))
    part = tuple(1 if rng.integers(2) else size for size in shape)
    spread = [shape, shape, part, (*shape[:2], *(1,) * (len(shape) - 2)), (1,) * len(shape)][rng.integers(5)]
    shapes = (shape, spread) if rng.integers(2) else (spread, shape)
    return operator, {"a": operands(rng, shapes[0], a_kind), "b": operands(rng, shapes[1], b_kind)}, None


def addition(rng, bits):
    """A sum by any rule."""
    return binary(rng, bits, Add)


def subtraction(rng, bits):
    """A difference by any rule."""
    return binary(rng, bits, Sub)


def multiplication(rng, bits):
    """A product by any rule."""
    return binary(rng, bits, Mul)


def _gate(rng, kind, **fields):
    dtype = np.dtype(rng.choice([np.int8, np.uint8]))
    scales, points = rng.uniform(0.005, 0.2, 2).tolist(), operands(rng, (2,), dtype)
    operator = kind(scales[0], int(points[0]), scales[1], points[1], str(rng.choice(["onnx", "exact"])), **fields)
    return operator, {"x": operands(rng, _any_shape(rng, _upto(rng, 30)), dtype)}, None


def gelu(rng, bits):
    return _gate(rng, Gelu, approximate=str(rng.choice(["none", "tanh"])))


def silu(rng, bits):
    return _gate(rng, Silu)


def logistic(rng, bits):
    """The logistic function by LiteRT's rule."""
    operator = Logistic(float(rng.uniform(0.005, 0.2)), int(operands(rng, ())))
    return operator, {"x": operands(rng, _any_shape(rng, _upto(rng, 30)))}, None


def window_sum(rng, bits):
    """A convolution by ones, as front ends state means."""
    operator, tensors, constants = conv(rng, bits)
    tensors["w"] = np.ones_like(tensors["w"])
    return WindowSum(**{item.name: getattr(operator, item.name) for item in fields(operator)},
                     shown="Mean"), tensors, constants


def filling_gemm(rng, config):
    """Gemm of a few ragged tiles each way, whatever the size of the array."""
    rows, cols, bits = config.array.rows, config.array.cols, config.array.operand_bits
    m, k, n = (1 + int(rng.integers(0, 2 * size + 8)) for size in (max(rows, cols), rows, cols))
    kind = np.int8 if bits <= 8 else np.int16
    operator = Gemm(requant=random_requant(rng, n, k, (kind, kind), bits))
    return operator, {"a": operands(rng, (m, k), kind, bits), "b": operands(rng, (k, n), kind, bits)}, []


def softmax(rng, bits, rounding="tflite"):
    """Softmax of rows, or of the channels of images, by LiteRT's rule or another."""
    kind = np.dtype(rng.choice([np.int8, np.uint8]))
    shape, least = _any_shape(rng, _upto(rng, 60)), int(np.iinfo(kind).min)
    operator = Softmax(1, X_scale=float(2.0 ** rng.uniform(-8, 1)), y_scale=1 / 256, y_zero_point=least,
                       rounding=rounding)
    return operator, {"x": operands(rng, shape, kind)}, None


def float_softmax(rng, bits):
    """The same by onnxruntime's rule."""
    return softmax(rng, bits, "onnx")


def matmul(rng, bits):
    """Products of stacks of matrices, of which either may be one for all."""
    m, k, n = _upto(rng, 12), _upto(rng, 30), _upto(rng, 12)
    batches, types = tuple(_upto(rng, 3) for _ in range(rng.integers(3))), operand_types(rng, bits)
    shapes = [(*(batch if rng.integers(3) else 1 for batch in batches), *sizes) for sizes in ((m, k), (k, n))]
    tensors = {role: operands(rng, shape, kind, bits) for role, shape, kind in zip("ab", shapes, types, strict=True)}
    return MatMul(requant=random_requant(rng, n, k, types, bits)), tensors, []


def _spread(rng, shape, dtype):
    """A tensor that broadcasts to a shape."""
    return operands(rng, tuple(size if rng.integers(3) else 1 for size in shape), dtype)


def chosen(rng, bits):
    """The greatest or the least of two or three tensors, or one of two by a mask."""
    dtype, shape = np.dtype(rng.choice([np.int8, np.uint8])), _any_shape(rng, _upto(rng, 20))
    kind = [Max, Min, Where][rng.integers(3)]
    values = [operands(rng, shape, dtype), *(_spread(rng, shape, dtype) for _ in range(rng.integers(1, 3)))]
    if kind is Where:
        mask = rng.integers(0, 2, tuple(size if rng.integers(3) else 1 for size in shape)).astype(bool)
        return Where(mask), dict(zip("ab", values, strict=False)), None
    return kind(), {f"x{index}": value for index, value in enumerate(values)}, None


def reduced(rng, bits):
    """The greatest, the least, the sum or the mean along any axes."""
    dtype, shape = np.dtype(rng.choice([np.int8, np.uint8])), _any_shape(rng, _upto(rng, 12))
    kind, axes = [ReduceMax, ReduceMin, ReduceSum, ReduceMean][rng.integers(4)], np.flatnonzero(
        rng.integers(0, 2, len(shape))).tolist() or [int(rng.integers(len(shape)))]
    x, scales = {"x": operands(rng, shape, dtype)}, {}
    if kind in (ReduceSum, ReduceMean):
        points = operands(rng, (2,), dtype)
        scales = {"x_scale": 0.25, "x_zero_point": points[0], "y_scale": 0.5, "y_zero_point": points[1]}
    return kind(axes, bool(rng.integers(2)), **scales), x, None


#: Operators that need an accelerator with softmax of rows, and with its sums in float32.
ROW_OPERATORS = {"softmax": softmax}
FLOAT_ROW_OPERATORS = {"float_softmax": float_softmax}

#: Operators of two tensors, which need an accelerator with tables and products of pairs.
PAIR_OPERATORS = {"addition": addition, "subtraction": subtraction, "multiplication": multiplication}

#: Operators that move elements, of operands of any width, and of 8 bits only.
MOVED_OPERATORS = {"move": move}
NARROW_MOVED_OPERATORS = {"concat": concat, "interpolate": interpolate}

#: Makers of random operators; those of the second table are for 8-bit operands only.
OPERATORS = {maker.__name__: maker for maker in (
    gemm, linear, linear_grad, conv, conv_transpose, conv_grad, max_pool, relu, window_sum)}
NARROW_OPERATORS = {maker.__name__: maker for maker in (
    average_pool, lookup, add, residual, gelu, silu, logistic)}
#: Makers of operators that are made of others, for operands of any width and of 8 bits only.
PARTED_OPERATORS = {"matmul": matmul}
NARROW_PARTED_OPERATORS = {"chosen": chosen, "reduced": reduced}


def network(rng):
    """Draw a chain of layers from images to sums, through a flattening that permutes."""
    def requant(k, n):
        return Requant.onnx(1.0, int(rng.integers(-20, 20)), rng.uniform(0.5, 2, n) / (256 * np.sqrt(k)), 0, 1.0,
                            np.int8(rng.integers(-20, 20)))

    shape = (_upto(rng, 3), _upto(rng, 6), _upto(rng, 6) + 6, _upto(rng, 6) + 6)
    tensors, constants, nodes, current = {"x": Tensor("x", shape, np.dtype(np.int8))}, {}, [], "x"
    x = operands(rng, shape)
    for index in range(_upto(rng, 4)):
        kind, name, inputs = rng.choice(["conv", "pool", "relu", "depthwise", "lookup"]), f"t{index}", {"x": current}
        if min(shape[2:]) < 3 and kind in ("conv", "pool", "depthwise"):
            kind = "relu"
        if kind == "conv":
            m, r = _upto(rng, 12), _upto(rng, 3)
            constants |= {f"w{index}": operands(rng, (m, shape[1], r, r)),
                          f"b{index}": rng.integers(-500, 500, m).astype(np.int32)}
            operator = Conv2d(stride=_upto(rng, 2), padding=int(rng.integers(0, 2)),
                              requant=requant(shape[1] * r * r, m), activation=rng.choice([None, "relu"]))
            inputs |= {"w": f"w{index}", "b": f"b{index}"}
        elif kind == "depthwise":
            constants[f"w{index}"] = operands(rng, (shape[1], 1, 2, 2))
            operator, inputs["w"] = Conv2d(groups=shape[1], requant=requant(4, shape[1])), f"w{index}"
        elif kind == "pool":
            window = _upto(rng, 3), _upto(rng, 3)
            operator = MaxPool2d(window, window if rng.integers(2) else _upto(rng, 2))
        elif kind == "relu":
            operator = Relu(3)
        else:
            operator = Lookup(operands(rng, (shape[1], 256) if rng.integers(2) else (256,)))
        nodes.append(Node(name, operator, inputs, {"y": name}))
        shape = Graph(list(nodes), dict(tensors), dict(constants), ["x"], [name]).tensors[name].shape
        current = name
    count, n = int(np.prod(shape[1:])), _upto(rng, 20)
    nodes.append(Node("flatten", Reshape((shape[0], -1)), {"x": current}, {"y": "flat"}))
    constants |= {"linear_w": operands(rng, (n, count)), "gemm_b": operands(rng, (n, 5))}
    nodes.append(Node("linear", Linear(requant=requant(count, n)), {"x": "flat", "w": "linear_w"}, {"y": "hidden"}))
    nodes.append(Node("gemm", Gemm(), {"a": "hidden", "b": "gemm_b"}, {"y": "out"}))
    return Graph(nodes, tensors, constants, ["x"], ["out"]), {"x": x}


def branches(rng, count=10):
    """Draw layers that each read some of the tensors before them, of several sizes, some of them outputs or views."""
    def requant(k):
        return Requant.onnx(1.0, 0, rng.uniform(0.5, 2) / (256 * np.sqrt(k)), 0, 1.0, np.int8(rng.integers(-20, 20)))

    shape = (_upto(rng, 2), _upto(rng, 9), _upto(rng, 5), _upto(rng, 5))
    shapes, constants, nodes, flat = {"x": shape}, {}, [], []
    for index in range(count):
        name, source = f"t{index}", str(rng.choice(list(shapes)[-3:]))
        alike = [other for other, found in shapes.items() if found == shapes[source]]
        kind, inputs = rng.choice(["conv", "relu", "lookup", "residual"]), {"x": source}
        shapes[name] = shapes[source]
        if kind == "conv":
            m, c = _upto(rng, 12), shapes[source][1]
            constants[f"w{index}"] = operands(rng, (m, c, 1, 1))
            operator, inputs["w"] = Conv2d(requant=requant(c)), f"w{index}"
            shapes[name] = (shapes[source][0], m, *shapes[source][2:])
        elif kind == "residual":
            operator = Add(0.1, 3, 0.2, -5, 0.15, np.int8(7))
            inputs = {"a": source, "b": str(rng.choice(alike))}
        else:
            operator = Relu(3) if kind == "relu" else Lookup(operands(rng, (256,)))
        nodes.append(Node(f"node{index}", operator, inputs, {"y": name}))
        if rng.integers(4) == 0:
            nodes.append(Node(f"flat{index}", Reshape((shapes[name][0], -1)), {"x": name}, {"y": f"flat{index}"}))
            flat.append(f"flat{index}")
    outputs = sorted({f"t{count - 1}", str(rng.choice(list(shapes)[1:])), *flat[:1]})
    x = operands(rng, shape)
    return Graph(nodes, {"x": Tensor("x", shape, x.dtype)}, constants, ["x"], outputs), {"x": x}


def interpret(graph, inputs, config, keep="outputs", **settings):
    """Compile, interpret and compare every tensor that can be extracted with golden, exactly."""
    compiled = compile_graph(graph, config, keep, **settings)
    machine = interpreter(config, compiled.memory_bytes + 64)
    machine.write(compiled.segments)
    machine.write(compiled.bind(inputs))
    machine.run(compiled.program_address)
    expected = compiled.graph.golden(inputs)
    for name in compiled.output_names:
        actual = compiled.extract(name, machine.read, inputs)
        assert (actual.shape, actual.dtype) == (expected[name].shape, expected[name].dtype), name
        np.testing.assert_array_equal(actual, expected[name], name)
    return compiled


def briefly(config):
    """Settings with which a program is searched for as briefly as can be: what it computes is the same.

    The search takes longer than compiled simulation of what it finds.
    """
    return {"effort": 0} if "effort" in compiler_for(config).settings else {}


def check_operator(rng, maker, config):
    """Check one random operator; a layer that the configuration can't hold must say so."""
    operator, tensors, constants = maker(rng, config.array.operand_bits)
    graph = Graph.of(operator, tensors, constants)
    inputs = {name: tensors[name] for name in graph.inputs}
    try:
        return interpret(graph, inputs, config, **briefly(config))
    except PearrayError as error:
        if not any(part in str(error) for part in ("can't hold", "must be at least", "can't be computed exactly")):
            raise
        return None
