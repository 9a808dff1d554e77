"""Graphs of quantised networks as ONNX models of onnxruntime's quantised operators, every tensor an output."""

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from pearray.compiler.operators import Add, AvgPool2d, Concat, Conv2d, Linear, Lookup, MaxPool2d, Mul, Reshape

__all__ = ["runtime_tensors"]

MICROSOFT = "com.microsoft"


class _Writer:
    def __init__(self):
        self.nodes, self.constants = [], []

    def constant(self, value):
        name = f"constant{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(np.asarray(value), name))
        return name

    def number(self, scale, zero):
        return [self.constant(np.float32(scale)), self.constant(np.int8(zero))]

    def add(self, kind, inputs, node, domain="", **attributes):
        self.nodes.append(helper.make_node(kind, inputs, [node.outputs["y"]], node.name, domain=domain, **attributes))

    def function(self, name, x, y, before, after):
        """Nodes of a function of a tensor that is dequantised and quantised again."""
        real, made = f"{y}_real", f"{y}_made"
        last = ("Mul", [real, f"{y}_sigmoid"], [made]) if name == "silu" else ("Identity", [f"{y}_sigmoid"], [made])
        nodes = [("DequantizeLinear", [x, *before], [real]), ("Sigmoid", [real], [f"{y}_sigmoid"]), last,
                 ("QuantizeLinear", [made, *after], [y])]
        self.nodes += [helper.make_node(*node) for node in nodes]

    def contraction(self, node, constants):
        operator, requant = node.operator, node.operator.requant
        x, w = node.inputs["x"], self.constant(constants[node.inputs["w"]])
        # The runtime multiplies and divides by ones, which leaves the factor as it is.
        scales = [self.constant(requant.scale), self.constant(np.zeros(requant.scale.shape, np.int8))]
        before, after = self.number(1, requant.x_zero_point), self.number(1, requant.y_zero_point)
        bias = self.constant(constants[node.inputs["b"]])
        if isinstance(operator, Linear):
            self.add("QGemm", [x, *before, w, *scales, bias, *after], node, MICROSOFT, transB=1)
            return
        top, left, bottom, right = operator.padding
        y, has_table = node.outputs["y"], operator.activation == "silu"
        self.nodes.append(helper.make_node(
            "QLinearConv", [x, *before, w, *scales, *after, bias], [f"{y}_before" if has_table else y], node.name,
            strides=operator.stride, pads=[top, left, bottom, right], group=operator.groups))
        if has_table:
            stored = self.number(requant.y_scale, requant.y_zero_point)
            self.function("silu", f"{y}_before", y, stored, stored)

    def around(self, node, graph):
        """How input and output of a table of the logistic function are stored."""
        maker = next(each for each in graph.nodes if each.outputs["y"] == node.inputs["x"])
        requant = maker.operator.requant
        return self.number(requant.y_scale, requant.y_zero_point), self.number(np.float32(1 / 255), -128)

    def write(self, node, graph):
        operator = node.operator
        if isinstance(operator, (Conv2d, Linear)):
            self.contraction(node, graph.constants)
        elif isinstance(operator, MaxPool2d):
            top, left, bottom, right = operator.padding
            self.add("MaxPool", [node.inputs["x"]], node, kernel_shape=operator.kernel, strides=operator.stride,
                     pads=[top, left, bottom, right], ceil_mode=int(operator.ceil_mode))
        elif isinstance(operator, AvgPool2d):
            stored = [item for role in "xy" for item in self.number(*operator.stored(role))]
            self.add("QLinearGlobalAveragePool", [node.inputs["x"], *stored], node, MICROSOFT)
        elif isinstance(operator, (Add, Mul)):
            operands = [item for role in "ab" for item in (node.inputs[role], *self.number(*operator.stored(role)))]
            self.add(f"QLinear{operator.kind}", [*operands, *self.number(*operator.stored("y"))], node, MICROSOFT)
        elif isinstance(operator, Concat):
            stored = zip(operator.x_scale, operator.x_zero_point, strict=True)
            parts = [item for index, (scale, zero) in enumerate(stored)
                     for item in (node.inputs[f"x{index}"], *self.number(scale, zero))]
            self.add("QLinearConcat", [*self.number(operator.y_scale, operator.y_zero_point), *parts], node, MICROSOFT,
                     axis=operator.axis)
        elif isinstance(operator, Lookup):
            self.function("sigmoid", node.inputs["x"], node.outputs["y"], *self.around(node, graph))
        elif isinstance(operator, Reshape):
            self.add("Flatten", [node.inputs["x"]], node)
        else:
            raise AssertionError(f"{operator.kind} is not written")


def runtime_tensors(graph, inputs):
    """Every tensor that onnxruntime computes, by name."""
    writer = _Writer()
    for node in graph.nodes:
        writer.write(node, graph)
    names = [node.outputs["y"] for node in graph.nodes]
    ends = [helper.make_tensor_value_info(name, TensorProto.INT8, value.shape) for name, value in inputs.items()]
    outputs = [helper.make_tensor_value_info(name, TensorProto.INT8, None) for name in names]
    model = helper.make_model(helper.make_graph(writer.nodes, "network", ends, outputs, writer.constants),
                              ir_version=8, opset_imports=[helper.make_opsetid("", 13),
                                                           helper.make_opsetid(MICROSOFT, 1)])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(names, inputs), strict=True))
