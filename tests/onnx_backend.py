"""ONNX's own node tests between DequantizeLinear and QuantizeLinear: our golden model beside onnxruntime.

Run as a script it prints, for each operator, how many cases are exact, refused (with the first reason) and wrong:
``python tests/onnx_backend.py [FIRST LETTERS]``.
"""

import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from onnx.backend.test.loader import load_model_tests

import pearray as pe
from pearray.compiler.operators.fields import whole_bytes
from pearray.hdl.errors import PearrayError

__all__ = ["VARIANTS", "cases", "judge", "shipped", "wrapped"]

#: What operands behind the first one are: stored tensors that are given, stored constants, float constants.
VARIANTS = ("given", "stored", "float")

onnxruntime.set_default_logger_severity(4)


def cases(prefix=""):
    """Node tests of the standard's own operators whose operator begins so: name, model, inputs, expected outputs."""
    for case in sorted(load_model_tests(kind="node"), key=lambda case: case.name):
        model, nodes = case.model, case.model.graph.node
        if len(nodes) != 1 or nodes[0].domain or not nodes[0].op_type.startswith(prefix):
            continue
        inputs, outputs = ([_array(value) for value in values] for values in case.data_sets[0])
        if all(value is not None for value in (*inputs, *outputs)):
            yield case.name, model, inputs, outputs


def _array(value):
    """Tensor as an array; None if it is none."""
    if isinstance(value, onnx.TensorProto):
        value = numpy_helper.to_array(value)
    return np.asarray(value) if isinstance(value, (np.ndarray, np.generic)) else None


def _scale(values, dtype):
    """Scale that is a power of two, and zero point, so that the values about fit, and float32 sums are exact."""
    finite = values[np.isfinite(values)].astype(np.float64)
    low, high = min(finite.min(initial=0), 0), max(finite.max(initial=0), 1e-3)
    info = np.iinfo(dtype)
    scale = 2.0 ** np.ceil(np.log2((high - low) / 255))
    return np.float32(scale), np.array(np.clip(np.rint(info.min - low / scale), info.min, info.max), dtype)


def _stored(values, scale, zero):
    info = np.iinfo(zero.dtype)
    finite = np.nan_to_num(values, nan=0.0, posinf=1e30, neginf=-1e30).astype(np.float64)
    return np.clip(np.rint(finite / scale) + zero, info.min, info.max).astype(zero.dtype)


def wrapped(model, inputs, outputs, dtype, variant):
    """Model of the same node between stored tensors, and its inputs; None if it has no float tensor to store."""
    [node] = model.graph.node
    arrays = dict(zip((info.name for info in model.graph.input), inputs, strict=True))
    made = dict(zip((info.name for info in model.graph.output), outputs, strict=True))
    floats = [name for name in node.input if name in arrays and arrays[name].dtype == np.float32]
    if not floats or not all(value.dtype == np.float32 and value.size for value in made.values()):
        return None
    nodes, constants, given, renamed = [], {}, {}, {}
    for name in dict.fromkeys(node.input):
        value = arrays.get(name)
        if value is None or name not in floats or (variant == "float" and name != floats[0]):
            if value is not None:
                constants[name] = value
            continue
        scale, zero = _scale(value, dtype if name == floats[0] or variant == "given" else np.int8)
        if name != floats[0] and variant != "given":
            zero = np.zeros_like(zero)
        stored = _stored(value, scale, zero)
        (given if name == floats[0] or variant == "given" else constants)[f"{name}_q"] = stored
        constants |= {f"{name}_s": scale, f"{name}_z": zero}
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", f"{name}_s", f"{name}_z"], [f"{name}_d"]))
        renamed[name] = f"{name}_d"
    inner = onnx.NodeProto()
    inner.CopyFrom(node)
    inner.name = "node"
    del inner.input[:]
    inner.input.extend(renamed.get(name, name) for name in node.input)
    nodes.append(inner)
    for name, value in made.items():
        scale, zero = _scale(value, dtype)
        constants |= {f"{name}_s": scale, f"{name}_z": zero}
        nodes.append(helper.make_node("QuantizeLinear", [name, f"{name}_s", f"{name}_z"], [f"{name}_q"]))
    # The oldest that is not converted, and the newest of which onnxruntime has kernels.
    opset = max(item.version for item in model.opset_import if item.domain in ("", "ai.onnx"))
    graph = helper.make_graph(
        nodes, "wrapped",
        [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
         for name, value in given.items()],
        [helper.make_empty_tensor_value_info(f"{name}_q") for name in made],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", min(max(opset, 13), 24))],
                             ir_version=min(max(model.ir_version, 8), 11)), given


def shipped(model, inputs):
    """Model as it is, all inputs but the first constants, and its inputs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    names = [info.name for info in model.graph.input]
    for name, value in list(zip(names, inputs, strict=True))[1:]:
        copy.graph.initializer.append(numpy_helper.from_array(value, name))
    del copy.graph.input[1:]
    return copy, {names[0]: inputs[0]}


def _reference(model, given):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip((item.name for item in session.get_outputs()), session.run(None, given), strict=True))


def judge(model, given, outputs=None):
    """Tell "exact", "refused: ...", "wrong: ...", or "unknown: ..." of what onnxruntime does not compute.

    For that `outputs` are the expected ones, if they are given.
    """
    try:
        expected = _reference(model, given)
    except Exception as error:
        # Its exceptions have no common base.
        if outputs is None:
            return f"unknown: {' '.join(str(error).split())[:80]}"
        expected = dict(zip((item.name for item in model.graph.output), outputs, strict=True))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, str(path))
        try:
            got = pe.golden_run(pe.load_onnx(path), given)
        except PearrayError as error:
            return f"refused: {error}"
    for name, value in expected.items():
        value = whole_bytes(value)
        if got[name].shape != value.shape or got[name].dtype != value.dtype:
            return f"wrong: {got[name].dtype}{got[name].shape} instead of {value.dtype}{value.shape}"
        if not np.array_equal(got[name], value, equal_nan=value.dtype.kind == "f"):
            return f"wrong: {np.count_nonzero(got[name] != value)} of {value.size} differ"
    return "exact"


def _print(prefix):
    counts, shown = defaultdict(Counter), {}
    for name, model, inputs, outputs in cases(prefix):
        op_type = model.graph.node[0].op_type
        trials = {"shipped": shipped(model, inputs)} if inputs else {}
        for dtype in (np.int8, np.uint8):
            for variant in VARIANTS:
                made = wrapped(model, inputs, outputs, dtype, variant)
                if made is not None:
                    trials[f"{np.dtype(dtype)} {variant}"] = made
        for what, trial in trials.items():
            found = judge(*trial, outputs if what == "shipped" else None)
            kind = found.partition(":")[0]
            counts[op_type][kind] += 1
            shown.setdefault((op_type, kind), f"{name} ({what}) {found[:150]}")
            if kind == "wrong":
                print("WRONG", name, what, found)
    total = Counter()
    for op_type, found in sorted(counts.items()):
        total.update(found)
        print(f"{op_type}: {dict(found)}", *(text for (each, kind), text in shown.items()
                                            if each == op_type and kind == "refused"), sep="  ")
    print(dict(total))


if __name__ == "__main__":
    _print(sys.argv[1] if len(sys.argv) > 1 else "")
