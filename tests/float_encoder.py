"""The float encoder as an ONNX model, for onnxruntime: written from its definition, not from our float model."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

__all__ = ["run_encoder"]


def _model(weights, layers, heads, length):
    """Model of some layers from x (P, D) to y."""
    nodes, constants = [], {}

    def node(kind, *inputs, **attributes):
        name = f"t{len(nodes)}"
        nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def constant(name, value):
        constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def linear(x, name):
        product = node("MatMul", x, constant(f"{name}.w", weights[f"{name}.weight"].T))
        return node("Add", product, constant(f"{name}.b", weights[f"{name}.bias"]))

    def norm(a, b, name):
        return node("LayerNormalization", node("Add", a, b), constant(f"{name}.g", weights[f"{name}.weight"]),
                    constant(f"{name}.b", weights[f"{name}.bias"]), epsilon=1e-12)

    width = len(weights["encoder.layer.0.output.dense.bias"])
    split = constant("split", np.array([length, heads, width // heads], np.int64))
    joined = constant("joined", np.array([length, width], np.int64))
    factor = constant("factor", np.float32((width // heads) ** -0.5))
    x = "x"
    for number in range(layers):
        prefix = f"encoder.layer.{number}"
        q, k, v = (node("Transpose", node("Reshape", linear(x, f"{prefix}.attention.self.{part}"), split), perm=order)
                   for part, order in (("query", (1, 0, 2)), ("key", (1, 2, 0)), ("value", (1, 0, 2))))
        probabilities = node("Softmax", node("Mul", node("MatMul", q, k), factor), axis=-1)
        av = node("Reshape", node("Transpose", node("MatMul", probabilities, v), perm=(1, 0, 2)), joined)
        h = norm(x, linear(av, f"{prefix}.attention.output.dense"), f"{prefix}.attention.output.LayerNorm")
        wide = node("Gelu", linear(h, f"{prefix}.intermediate.dense"))
        x = norm(h, linear(wide, f"{prefix}.output.dense"), f"{prefix}.output.LayerNorm")
    given, made = (helper.make_tensor_value_info(name, TensorProto.FLOAT, (length, width)) for name in ("x", x))
    graph = helper.make_graph(nodes, "encoder", [given], [made], list(constants.values()))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run_encoder(weights, layers, heads, x):
    """Outputs (P, D) of onnxruntime for one sentence x (P, D)."""
    from onnxruntime import InferenceSession

    model = _model(weights, layers, heads, len(x))
    return InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
