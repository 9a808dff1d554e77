"""One-operator LiteRT models: the outside opinion on TensorFlow Lite's requantisation.

The flat buffer is written field by field, so that no TensorFlow is needed; field numbers are those
of the published schema (``schema.fbs``, version 3).
"""

import flatbuffers
import numpy as np

_TENSOR_TYPES = {np.dtype(np.int32): 2, np.dtype(np.uint8): 3, np.dtype(np.int64): 4, np.dtype(np.int16): 7,
                 np.dtype(np.int8): 9}

#: Code of each operator and type of its options.
_OPERATORS = {"ADD": (0, 11), "AVERAGE_POOL_2D": (1, 5), "CONV_2D": (3, 1), "DEPTHWISE_CONV_2D": (4, 2),
              "FULLY_CONNECTED": (9, 8), "MAX_POOL_2D": (17, 5), "MUL": (18, 21), "SUB": (41, 28),
              "TRANSPOSE_CONV": (67, 49), "BATCH_MATMUL": (126, 101), "LOGISTIC": (14, 0), "SOFTMAX": (25, 9)}

#: Operators whose operands are both inputs of a run.
_BINARY = ("BATCH_MATMUL", "ADD", "SUB", "MUL")

#: Codes of fused activations.
_ACTIVATIONS = {None: 0, "relu": 1, "relu6": 3}


def _vector(builder, values, size, prepend):
    builder.StartVector(size, len(values), size)
    for value in reversed(values):
        prepend(value)
    return builder.EndVector()


def _offsets(builder, values):
    return _vector(builder, values, 4, builder.PrependUOffsetTRelative)


def _table(builder, fields):
    """Write a table: field number to (kind, value), where kind names a slot of the builder."""
    builder.StartObject(max(fields, default=0) + 1)
    for number, (kind, value) in fields.items():
        getattr(builder, f"Prepend{kind}Slot")(number, value, 0)
    return builder.EndObject()


def _tensor(builder, shape, dtype, buffer, scale, zero_point, dimension):
    name = builder.CreateString(f"tensor{buffer}")
    scales = np.atleast_1d(np.asarray(scale, np.float32))
    points = np.zeros(scales.size, np.int64) + zero_point
    parameters = _table(builder, {
        2: ("UOffsetTRelative", _vector(builder, scales.tolist(), 4, builder.PrependFloat32)),
        3: ("UOffsetTRelative", _vector(builder, points.tolist(), 8, builder.PrependInt64)),
        6: ("Int32", dimension)})
    dimensions = _vector(builder, list(shape), 4, builder.PrependInt32)
    return _table(builder, {
        0: ("UOffsetTRelative", dimensions), 1: ("Int8", _TENSOR_TYPES[np.dtype(dtype)]),
        2: ("Uint32", buffer), 3: ("UOffsetTRelative", name), 4: ("UOffsetTRelative", parameters)})


def _options(builder, operator, stride, multiplier, dilation, activation, kernel):
    fused = ("Int8", _ACTIVATIONS[activation])
    if operator in ("FULLY_CONNECTED", "ADD", "SUB", "MUL"):
        return _table(builder, {0: fused})
    if operator in ("BATCH_MATMUL", "LOGISTIC"):
        return _table(builder, {})
    if operator == "SOFTMAX":
        return _table(builder, {0: ("Float32", 1.0)})
    # Padding 1 is VALID.
    fields = {0: ("Int8", 1), 1: ("Int32", stride[1]), 2: ("Int32", stride[0])}
    if operator == "TRANSPOSE_CONV":
        return _table(builder, fields | {3: fused})
    if operator.endswith("POOL_2D"):
        return _table(builder, fields | {3: ("Int32", kernel[1]), 4: ("Int32", kernel[0]), 5: fused})
    if operator == "DEPTHWISE_CONV_2D":
        fields[3] = ("Int32", multiplier)
    last = max(fields)
    fields |= {last + 1: fused, last + 2: ("Int32", dilation[1]), last + 3: ("Int32", dilation[0])}
    return _table(builder, fields)


def run_node(operator, x, w=None, b=None, *, x_scale, x_zero_point, y_scale, y_zero_point, y_shape, w_scale=1.0,
             w_zero_point=0, dimension=0, stride=(1, 1), multiplier=1, dilation=(1, 1), activation=None, kernel=None):
    """Output of one operator, computed by LiteRT's reference kernels.

    Parameters
    ----------
    operator : str
        "CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "BATCH_MATMUL", "AVERAGE_POOL_2D",
        "MAX_POOL_2D", "ADD", "SUB", "MUL", "LOGISTIC" or "SOFTMAX".
    x, w : int8 arrays
        In TensorFlow's layouts: x NHWC or (N, C), w MRSC, 1RSM or (M, C). Also int16 `x` with int8 `w` and int64 `b`,
        and two int16 matrices of BATCH_MATMUL; the output has the type of `x`. ADD, SUB and MUL take two tensors of
        any shapes, also uint8.
    b : int32 array
    x_scale, y_scale : float
    w_scale : float or array_like of shape (M,)
    x_zero_point, w_zero_point, y_zero_point : int
    y_shape : tuple of int
    dimension : int
        Axis of `w` that holds the output channels.
    stride, dilation : (int, int)
    multiplier : int
        Outputs for each channel of a depthwise convolution.
    activation : None, "relu" or "relu6"
    kernel : (int, int)
        Window of a pooling.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    code, option_kind = _OPERATORS[operator]
    version = {"BATCH_MATMUL": 2, "DEPTHWISE_CONV_2D": 3, "MAX_POOL_2D": 2, "AVERAGE_POOL_2D": 2, "ADD": 2,
               "SUB": 2, "MUL": 2, "LOGISTIC": 2, "SOFTMAX": 2}.get(operator, 3)
    if x.dtype == np.int16:
        version = {"BATCH_MATMUL": 3, "CONV_2D": 4, "FULLY_CONNECTED": 7}[operator]
    builder = flatbuffers.Builder(1024)
    kinds = [(x.shape, x.dtype, None, x_scale, x_zero_point, 0)]
    if w is not None:
        kinds.append((w.shape, w.dtype, None if operator in _BINARY else w, w_scale, w_zero_point, dimension))
    if b is not None:
        kinds.append((b.shape, b.dtype, b, np.float32(x_scale) * np.asarray(w_scale, np.float32), 0, 0))
    kinds.append((y_shape, x.dtype, None, y_scale, y_zero_point, 0))
    order = list(range(len(kinds) - 1))
    if operator == "TRANSPOSE_CONV":
        kinds.append(((4,), np.int32, np.asarray(y_shape, np.int32), 1.0, 0, 0))
        order = [len(kinds) - 1, 1, 0, *order[2:]]
    buffers = [_table(builder, {})]
    tensors = []
    for index, (shape, dtype, values, scale, zero_point, axis) in enumerate(kinds):
        content = {} if values is None else {
            0: ("UOffsetTRelative", builder.CreateByteVector(np.ascontiguousarray(values).tobytes()))}
        buffers.append(_table(builder, content))
        tensors.append(_tensor(builder, shape, dtype, index + 1, scale, zero_point, axis))
    result = len(kinds) - 1 - (operator == "TRANSPOSE_CONV")
    options = _options(builder, operator, stride, multiplier, dilation, activation, kernel)
    node = _table(builder, {
        1: ("UOffsetTRelative", _vector(builder, order, 4, builder.PrependInt32)),
        2: ("UOffsetTRelative", _vector(builder, [result], 4, builder.PrependInt32)),
        3: ("Uint8", option_kind), 4: ("UOffsetTRelative", options)})
    inputs = [0, 1] if operator in _BINARY else [0]
    graph = _table(builder, {
        0: ("UOffsetTRelative", _offsets(builder, tensors)),
        1: ("UOffsetTRelative", _vector(builder, inputs, 4, builder.PrependInt32)),
        2: ("UOffsetTRelative", _vector(builder, [result], 4, builder.PrependInt32)),
        3: ("UOffsetTRelative", _offsets(builder, [node]))})
    operator_code = _table(builder, {0: ("Int8", code), 2: ("Int32", version), 3: ("Int32", code)})
    model = _table(builder, {
        0: ("Uint32", 3), 1: ("UOffsetTRelative", _offsets(builder, [operator_code])),
        2: ("UOffsetTRelative", _offsets(builder, [graph])),
        4: ("UOffsetTRelative", _offsets(builder, buffers))})
    builder.Finish(model, b"TFL3")
    interpreter = Interpreter(model_content=bytes(builder.Output()), num_threads=1,
                              experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.allocate_tensors()
    for detail, value in zip(interpreter.get_input_details(), (x, w), strict=False):
        interpreter.set_tensor(detail["index"], np.ascontiguousarray(value))
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
