"""Graphs of quantised networks as ONNX models of onnxruntime's quantised operators, every tensor an output."""

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from pearray.compiler.operators import Add, AvgPool2d, Conv2d, Linear, MaxPool2d, Reshape

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
        self.add("QLinearConv", [x, *before, w, *scales, *after, bias], node, strides=operator.stride,
                 pads=[top, left, bottom, right], group=operator.groups)

    def write(self, node, graph):
        operator = node.operator
        if isinstance(operator, (Conv2d, Linear)):
            self.contraction(node, graph.constants)
        elif isinstance(operator, MaxPool2d):
            top, left, bottom, right = operator.padding
            self.add("MaxPool", [node.inputs["x"]], node, kernel_shape=operator.kernel, strides=operator.stride,
                     pads=[top, left, bottom, right], ceil_mode=int(operator.ceil_mode))
        elif isinstance(operator, AvgPool2d):
            self.add("QLinearGlobalAveragePool",
                     [node.inputs["x"], *self.number(*operator.stored("x")), *self.number(*operator.stored("y"))],
                     node, MICROSOFT)
        elif isinstance(operator, Add):
            self.add("QLinearAdd", [node.inputs["a"], *self.number(*operator.stored("a")), node.inputs["b"],
                                    *self.number(*operator.stored("b")), *self.number(*operator.stored("y"))],
                     node, MICROSOFT)
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
