"""One-node ONNX models in onnxruntime: the outside opinion on every 8-bit golden model."""

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

MICROSOFT = "com.microsoft"

onnxruntime.set_default_logger_severity(3)


def run_node(op_type, operands, *, output, domain="", **attributes):
    """Output of one node, computed by onnxruntime's CPU kernels without graph optimisations.

    Parameters
    ----------
    op_type : str
        Operator.
    operands : list of array or None
        Inputs in the operator's order; ``None`` leaves an optional one out. The first is fed, the
        others are constants.
    output : numpy type
        Type of the output.
    domain : str
        Operator set.
    attributes
        Attributes of the node.
    """
    arrays = [None if operand is None else np.asarray(operand) for operand in operands]
    names = ["" if array is None else f"operand{i}" for i, array in enumerate(arrays)]
    first = helper.make_tensor_value_info(
        names[0], helper.np_dtype_to_tensor_dtype(arrays[0].dtype), arrays[0].shape)
    constants = [numpy_helper.from_array(array, name) for array, name in
                 zip(arrays[1:], names[1:], strict=True) if array is not None]
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(output))
    assert kind != TensorProto.UNDEFINED
    graph = helper.make_graph([helper.make_node(op_type, names, ["y"], domain=domain, **attributes)], "node",
                              [first], [helper.make_tensor_value_info("y", kind, None)], constants)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(MICROSOFT, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options,
                                           providers=["CPUExecutionProvider"])
    return session.run(None, {names[0]: arrays[0]})[0]


def assert_equal(ours, theirs):
    """Fail with the first index that differs; shape and type are compared first."""
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    wrong = np.argwhere(ours != theirs)
    assert len(wrong) == 0, (f"{len(wrong)} of {ours.size} differ, first at {tuple(wrong[0])}: "
                             f"{ours[tuple(wrong[0])]} instead of {theirs[tuple(wrong[0])]}")
