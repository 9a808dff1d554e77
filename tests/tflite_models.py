"""TensorFlow Lite models of any operators, written tensor by tensor, and what LiteRT's reference kernels make of them.

Files are written by the schema that LiteRT ships, and read by nothing of it in the compiler.
"""

from dataclasses import dataclass, field

import numpy as np

__all__ = ["Tflite", "reference"]

_TYPES = {"float32": 0, "int32": 2, "uint8": 3, "int64": 4, "bool": 6, "int16": 7, "int8": 9, "resource": 13,
          "int4": 17}

#: Versions of operators that know 8 bits, where that is not the second.
_VERSIONS = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 4, "TRANSPOSE_CONV": 3, "RELU_N1_TO_1": 1,
             "RELU_0_TO_1": 1, "PRELU": 1, "HARD_SWISH": 1, "RESHAPE": 1, "SQUEEZE": 1, "EXPAND_DIMS": 1,
             "SHAPE": 1, "PACK": 1, "DEPTH_TO_SPACE": 1, "VAR_HANDLE": 1, "READ_VARIABLE": 1,
             "ASSIGN_VARIABLE": 1, "CALL_ONCE": 1, "ABS": 1, "GELU": 1, "SVDF": 3, "UNIDIRECTIONAL_SEQUENCE_LSTM": 3}


#: Versions of operators that know 16 bits, where that is another.
_WORDS = {"CONV_2D": 4, "DEPTHWISE_CONV_2D": 5, "FULLY_CONNECTED": 7, "TRANSPOSE_CONV": 3, "BATCH_MATMUL": 3,
          "MAX_POOL_2D": 3, "AVERAGE_POOL_2D": 3, "MEAN": 3, "PAD": 2, "QUANTIZE": 2, "RELU": 3, "ADD": 4, "SUB": 5,
          "MUL": 4, "MAXIMUM": 3, "MINIMUM": 3, "LEAKY_RELU": 2, "ABS": 2, "REDUCE_MAX": 3}


@dataclass
class _Tensor:
    name: str
    shape: tuple
    dtype: str
    scale: object
    zero_point: object
    values: np.ndarray | None
    axis: int
    free: tuple
    variable: bool


@dataclass
class Tflite:
    """A model under construction: tensors are known by number, which each method that makes one returns."""

    tensors: list = field(default_factory=list)
    nodes: list = field(default_factory=list)

    def tensor(self, shape, scale=None, zero_point=0, dtype="int8", values=None, axis=0, name=None, free=(),
               variable=False):
        """Add a tensor; `free` are axes that are left to who runs it, and a `variable` one is kept between runs."""
        name = name or f"tensor{len(self.tensors)}"
        self.tensors.append(_Tensor(name, tuple(shape), dtype, scale, zero_point, values, axis, free,
                                    variable))
        return len(self.tensors) - 1

    def constant(self, values, scale=None, zero_point=0, axis=0, name=None, dtype=None):
        """Add a constant, of the type of its values, or of int4."""
        values = np.asarray(values)
        return self.tensor(values.shape, scale, zero_point, dtype or values.dtype.name, values, axis, name)

    def node(self, kind, inputs, outputs, options=None, intermediates=(), **fields):
        """Add an operator; `options` is the name of its options in the schema, and `fields` are theirs."""
        words = kind in _WORDS and any(self.tensors[number].dtype == "int16" for number in outputs)
        self.nodes.append((kind, list(inputs), list(outputs), options, fields,
                           _WORDS[kind] if words else _VERSIONS.get(kind, 2), list(intermediates)))
        return outputs[0] if outputs else None

    def content(self, inputs, outputs, others=()):
        """Bytes of the file, with further models, which have neither inputs nor outputs, as its other subgraphs."""
        import flatbuffers
        from ai_edge_litert import schema_py_generated as schema

        model = schema.ModelT()
        model.version, model.operatorCodes, model.buffers = 3, [], [schema.BufferT()]
        codes = {}
        model.subgraphs = [each.subgraph(schema, model, codes) for each in (self, *others)]
        model.subgraphs[0].inputs, model.subgraphs[0].outputs = list(inputs), list(outputs)
        builder = flatbuffers.Builder(4096)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def subgraph(self, schema, model, codes):
        """Return the subgraph, without inputs and outputs; its codes and buffers are added to a model."""
        graph = schema.SubGraphT()
        graph.tensors, graph.operators, graph.inputs, graph.outputs = [], [], [], []
        for each in self.tensors:
            graph.tensors.append(self._tensor(schema, model, each))
        for kind, given, made, options, fields, version, intermediates in self.nodes:
            code = getattr(schema.BuiltinOperator, kind)
            if (code, version) not in codes:
                codes[code, version] = len(model.operatorCodes)
                entry = schema.OperatorCodeT()
                entry.builtinCode, entry.deprecatedBuiltinCode, entry.version = code, min(code, 127), version
                model.operatorCodes.append(entry)
            node = schema.OperatorT()
            node.opcodeIndex, node.inputs, node.outputs = codes[code, version], given, made
            if intermediates:
                node.intermediates = intermediates
            if options is not None:
                node.builtinOptionsType = getattr(schema.BuiltinOptions, options)
                node.builtinOptions = getattr(schema, f"{options}T")()
                for name, value in fields.items():
                    assert hasattr(node.builtinOptions, name), name
                    setattr(node.builtinOptions, name, value)
            graph.operators.append(node)
        return graph

    @staticmethod
    def _tensor(schema, model, each):
        made = schema.TensorT()
        made.name, made.shape, made.type = each.name, list(each.shape), _TYPES[each.dtype]
        made.isVariable = each.variable
        if each.free:
            made.shapeSignature = [-1 if axis in each.free else size for axis, size in enumerate(each.shape)]
        if each.scale is not None:
            scales = np.atleast_1d(np.asarray(each.scale, np.float32))
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale = scales.tolist()
            made.quantization.zeroPoint = (np.zeros(scales.size, np.int64) + each.zero_point).tolist()
            made.quantization.quantizedDimension = each.axis
        if each.values is not None:
            made.buffer = len(model.buffers)
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(each.values).tobytes(), np.uint8)
            if each.dtype == "int4":
                halves = np.append(buffer.data & 15, np.zeros(buffer.data.size % 2, np.uint8))
                buffer.data = halves[::2] | halves[1::2] << 4
            model.buffers.append(buffer)
        return made


def reference(content, inputs, *, is_default=False):
    """Every tensor of a model by name, as LiteRT's reference kernels compute them, or those that run by default.

    Parameters
    ----------
    content : bytes
        The file.
    inputs : dict of str to ndarray
        Inputs of the run.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if is_default else OpResolverType.BUILTIN_REF
    interpreter = Interpreter(model_content=content, num_threads=1, experimental_preserve_all_tensors=True,
                              experimental_op_resolver_type=kernels)
    for detail in interpreter.get_input_details():
        if tuple(detail["shape"]) != inputs[detail["name"]].shape:
            interpreter.resize_tensor_input(detail["index"], inputs[detail["name"]].shape)
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], inputs[detail["name"]])
    interpreter.invoke()
    return {detail["name"]: interpreter.get_tensor(detail["index"]) for detail in interpreter.get_tensor_details()
            if detail["name"]}
