"""Whole networks beside what onnxruntime makes of the file: every tensor that the file names."""

import numpy as np
import onnx

from pearray.compiler.frontends.onnx.runtime import run, session

__all__ = ["differences", "reference"]


def reference(path, inputs, names):
    """Tensors of a file by onnxruntime, as far as the file has them, by name."""
    model = onnx.load(str(path))
    made = {name for node in model.graph.node for name in node.output}
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names if name in made)
    return run(session(model, "the network"), [item.name for item in model.graph.output], inputs, "the network")


def _distance(value, expected):
    """Elements that differ, and by how much at most; all of them if shape or type does."""
    if (value.shape, value.dtype) != (expected.shape, expected.dtype):
        return expected.size, np.inf
    same = (value == expected) | (np.isnan(value) & np.isnan(expected) if value.dtype.kind == "f" else False)
    return int(np.count_nonzero(~same)), float(np.abs(value.astype(np.float64) - expected.astype(np.float64)).max(
        initial=0, where=~same))


def differences(graph, inputs, expected):
    """Compare every tensor of a graph with onnxruntime's: once as a whole, once each operator alone.

    Returns
    -------
    whole : (int, int, int)
        Tensors and elements that are compared, and elements that differ.
    alone : dict of str to (int, float)
        By operator elements that differ where it is given onnxruntime's inputs, and by how much at most.
    """
    made = graph.golden(inputs)
    names = [name for name in made if name in expected]
    wrong = sum(_distance(made[name], expected[name])[0] for name in names)
    values, alone, kinds = {**graph.constants, **inputs}, {}, {}
    for node in graph.nodes:
        # What is moved before the file names it is blamed on who has made it.
        kind = next((kinds[name] for name in node.inputs.values() if name in kinds and name not in expected
                     and node.operator.kind in ("Reshape", "Transpose")), node.operator.kind)
        kinds |= dict.fromkeys(node.outputs.values(), kind)
        results = node.operator.golden({role: values[name] for role, name in node.inputs.items()})
        for role, name in node.outputs.items():
            values[name] = results[role]
            if name in expected:
                count, most = _distance(results[role], expected[name])
                if count:
                    before = alone.get(kind, (0, 0))
                    alone[kind] = before[0] + count, max(before[1], most)
                values[name] = expected[name]
    return (len(names), sum(expected[name].size for name in names), wrong), alone
