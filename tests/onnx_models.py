"""Small ONNX networks, and every tensor of them by onnxruntime."""

import numpy as np
import onnx
import onnxruntime

from pearray.compiler.frontends.onnx.importer import load_onnx

__all__ = [
    "MICROSOFT", "check", "draw", "load", "make_model", "qdq_reference", "quantisation", "reference", "runtime",
    "stage",
]

MICROSOFT = "com.microsoft"
ELEMENT = {np.dtype(kind): onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind))
           for kind in ("int8", "uint8", "int16", "uint16", "float32", "int32", "int64", "bool")}

#: Integer kernels of the runtime.
KERNELS = {"QGemm", "QLinearAdd", "QLinearAveragePool", "QLinearConv", "QLinearGlobalAveragePool", "QLinearLeakyRelu",
           "QLinearMatMul", "QLinearMul", "QLinearSigmoid"}


def make_model(nodes, inputs, outputs, constants, opset=13):
    """Model of (operator, inputs, outputs, attributes) nodes.

    `inputs` are example arrays; constants are arrays, or tensors of the file where NumPy has no such type.
    """
    protos = []
    for op_type, sources, results, attributes in nodes:
        domain, _, kind = op_type.rpartition(":")
        protos.append(onnx.helper.make_node(kind, sources, results, name=f"{kind} of {results[0]}",
                                            domain=domain, **attributes))
    graph = onnx.helper.make_graph(
        protos, "test",
        [onnx.helper.make_tensor_value_info(name, ELEMENT[value.dtype], value.shape)
         for name, value in inputs.items()],
        [onnx.helper.make_empty_tensor_value_info(name) for name in outputs],
        [value if isinstance(value, onnx.TensorProto) else onnx.numpy_helper.from_array(np.asarray(value), name)
         for name, value in constants.items()])
    return onnx.helper.make_model(graph, ir_version=8 if opset < 21 else 10, opset_imports=[
        onnx.helper.make_opsetid("", opset), onnx.helper.make_opsetid(MICROSOFT, 1)])


def reference(model, inputs, names=None):
    """Every tensor of a model, or those named, by onnxruntime, its optimisations off so that none is fused away."""
    names = [name for node in model.graph.node for name in node.output if name] if names is None else names
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    del whole.graph.output[:]
    whole.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(whole.SerializeToString(), options)
    return dict(zip(names, session.run(None, inputs), strict=True))


def runtime(model, inputs, folder, optimised):
    """Output of onnxruntime, and whether an integer kernel made it; None if it refuses the model."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    path = folder / "optimised.onnx"
    if optimised:
        options.add_session_config_entry("session.qdqisint8allowed", "1")
        options.optimized_model_filepath = str(path)
    else:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        output = session.run(None, inputs)[0]
    except Exception:
        # Its exceptions have no common base.
        return None
    nodes = onnx.load(str(path)).graph.node if optimised else model.graph.node
    return output, any(node.op_type in KERNELS for node in nodes)


def load(model, folder):
    path = folder / "model.onnx"
    onnx.save(model, str(path))
    return load_onnx(path)


def check(model, inputs, folder):
    """Compare every tensor that both make; return their number."""
    got = load(model, folder).graph_for(inputs).golden(inputs)
    expected = reference(model, inputs)
    assert set(load(model, folder).outputs) <= set(got)
    common = [name for name in expected if name in got]
    for name in common:
        assert got[name].dtype == expected[name].dtype, name
        assert got[name].shape == expected[name].shape, name
        np.testing.assert_array_equal(got[name], expected[name], err_msg=name)
    return len(common)


def quantisation(rng, name, dtype, low=0.001, high=0.1, count=None):
    """Scale and zero point of a tensor, as constants of a model."""
    info = np.iinfo(dtype)
    return {f"{name}_scale": rng.uniform(low, high, count).astype(np.float32) if count else np.float32(
                rng.uniform(low, high)),
            f"{name}_zero": np.array(rng.integers(info.min, info.max + 1), dtype)}


def draw(rng, shape, dtype):
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max + 1, shape).astype(dtype)


def qdq_reference(model, inputs):
    """Outputs by onnxruntime, which fuses QDQ nodes into integer kernels where it is allowed to."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    return onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, inputs)[0]


def stage(name):
    """QuantizeLinear and DequantizeLinear of a tensor."""
    return [("QuantizeLinear", [name, f"{name}_scale", f"{name}_zero"], [f"{name}_q"], {}),
            ("DequantizeLinear", [f"{name}_q", f"{name}_scale", f"{name}_zero"], [f"{name}_d"], {})]
