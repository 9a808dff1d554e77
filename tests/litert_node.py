"""One-operator LiteRT models: the outside opinion on TensorFlow Lite's requantisation.

The flat buffer is written field by field, so that no TensorFlow is needed; field numbers are those
of the published schema (``schema.fbs``, version 3).
"""

import flatbuffers
import numpy as np

_TENSOR_TYPES = {np.dtype(np.int32): 2, np.dtype(np.int8): 9}

#: Code of each operator and type of its options.
_OPERATORS = {"CONV_2D": (3, 1), "DEPTHWISE_CONV_2D": (4, 2), "FULLY_CONNECTED": (9, 8)}


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


def _options(builder, operator, stride, multiplier):
    if operator == "FULLY_CONNECTED":
        return _table(builder, {0: ("Int8", 0)})
    # Padding 1 is VALID.
    fields = {0: ("Int8", 1), 1: ("Int32", stride[1]), 2: ("Int32", stride[0])}
    if operator == "DEPTHWISE_CONV_2D":
        fields[3] = ("Int32", multiplier)
    return _table(builder, fields)


def run_node(operator, x, w, b, *, x_scale, x_zero_point, w_scale, y_scale, y_zero_point, y_shape,
             dimension=0, stride=(1, 1), multiplier=1):
    """Output of one operator, computed by LiteRT's reference kernels.

    Parameters
    ----------
    operator : "CONV_2D", "DEPTHWISE_CONV_2D" or "FULLY_CONNECTED"
    x, w : int8 arrays
        In TensorFlow's layouts: x NHWC or (N, C), w MRSC, 1RSM or (M, C).
    b : int32 array
    x_scale, y_scale : float
    w_scale : float or array_like of shape (M,)
    x_zero_point, y_zero_point : int
    y_shape : tuple of int
    dimension : int
        Axis of `w` that holds the output channels.
    stride : (int, int)
    multiplier : int
        Outputs for each channel of a depthwise convolution.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    code, option_kind = _OPERATORS[operator]
    builder = flatbuffers.Builder(1024)
    data = [None, None, w, b, None]
    buffers = []
    for array in data:
        content = {} if array is None else {
            0: ("UOffsetTRelative", builder.CreateByteVector(np.ascontiguousarray(array).tobytes()))}
        buffers.append(_table(builder, content))
    bias_scale = np.float32(x_scale) * np.asarray(w_scale, np.float32)
    tensors = [_tensor(builder, x.shape, np.int8, 1, x_scale, x_zero_point, 0),
               _tensor(builder, w.shape, np.int8, 2, w_scale, 0, dimension),
               _tensor(builder, b.shape, np.int32, 3, bias_scale, 0, 0),
               _tensor(builder, y_shape, np.int8, 4, y_scale, y_zero_point, 0)]
    options = _options(builder, operator, stride, multiplier)
    node = _table(builder, {
        1: ("UOffsetTRelative", _vector(builder, [0, 1, 2], 4, builder.PrependInt32)),
        2: ("UOffsetTRelative", _vector(builder, [3], 4, builder.PrependInt32)),
        3: ("Uint8", option_kind), 4: ("UOffsetTRelative", options)})
    graph = _table(builder, {
        0: ("UOffsetTRelative", _offsets(builder, tensors)),
        1: ("UOffsetTRelative", _vector(builder, [0], 4, builder.PrependInt32)),
        2: ("UOffsetTRelative", _vector(builder, [3], 4, builder.PrependInt32)),
        3: ("UOffsetTRelative", _offsets(builder, [node]))})
    operator_code = _table(builder, {0: ("Int8", code), 2: ("Int32", 3), 3: ("Int32", code)})
    model = _table(builder, {
        0: ("Uint32", 3), 1: ("UOffsetTRelative", _offsets(builder, [operator_code])),
        2: ("UOffsetTRelative", _offsets(builder, [graph])),
        4: ("UOffsetTRelative", _offsets(builder, buffers))})
    builder.Finish(model, b"TFL3")
    interpreter = Interpreter(model_content=bytes(builder.Output()), num_threads=1,
                              experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
