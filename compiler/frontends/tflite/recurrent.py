"""Operators that keep a state from one run to the next."""

import numpy as np

from ....golden.requantise import tflite_multiplier
from ....hdl.errors import PearrayError
from ...operators import Concat, Conv2d, Linear, Requant, Reshape, Slice
from .builder import Builder, handles
from .file import FileOperator

__all__: list[str] = []


@handles("SVDF", several=True)
def _svdf(operator: FileOperator, graph: Builder) -> None:
    """Products with features, which are put behind those of the runs before, and sums of these over time.

    Units have as many filters as the rank says, and a filter's state is one of as many words as time has weights.
    """
    x, y = graph.stored(graph.of(operator, 0, "x"), "x"), graph.stored(operator.outputs[0], "y")
    features, time = (graph.known(operator, place, role) for place, role in ((1, "weights_feature"),
                                                                             (2, "weights_time")))
    f, t = (graph.stored(operator.inputs[place], role, kind)
            for place, role, kind in ((1, "weights_feature", "INT8"), (2, "weights_time", "INT16")))
    number = graph.of(operator, 4, "state")
    state, shape, rank = graph.stored(number, "state", "INT16"), graph.shape(number), graph.option(operator, "Rank")
    filters, memory = time.shape if time.ndim == 2 else (0, 0)
    rows = graph.shape(operator.inputs[0])
    if (not filters or features.shape != (filters, rows[-1]) or shape != (rows[0], filters * memory) or len(rows) != 2
            or rank < 1 or filters % rank or len(operator.outputs) != 2):
        raise PearrayError("x, weights_feature, weights_time and state must have shapes (N, I), (F, I), (F, M) and "
                           f"(N, F M), and a rank that divides F, not {rows}, {features.shape}, {time.shape} and "
                           f"{shape} with rank {rank}")
    name = graph.file.tensors[operator.outputs[0]].name
    bounds = -(1 << 15), (1 << 15) - 1
    scales = [np.float32(each.scale) for each in (x, f, state, t, y)]
    # The kernel makes both factors in float32.
    first, second = float(scales[0] * scales[1] / scales[2]), float(scales[2] * scales[3] / scales[4])
    made = Linear(requant=Requant.tflite(*tflite_multiplier(first), int(x.zero_point), 0, np.int16(0), "int32", bounds))
    newest = graph.append(operator, made, {
        "x": graph.rows(operator.inputs[0]), "w": graph.keep(operator.inputs[1], "rows", features)}, "newest")
    if memory > 1:
        before = graph.append(operator, Reshape((-1, filters, memory)), {"x": graph.rows(number)}, "before")
        kept = graph.append(operator, Slice((1,), (memory,), (2,)), {"x": before}, "kept")
        added = graph.append(operator, Reshape((-1, filters, 1)), {"x": newest}, "added")
        newest = graph.append(operator, Concat(2), {"x0": kept, "x1": added}, "joined")
    after = graph.append(operator, Reshape((-1, filters * memory)), {"x": newest}, "state")
    units = filters // rank
    conv = Conv2d(groups=units, requant=Requant.tflite(
        *tflite_multiplier(second), 0, 0, y.zero_point, "int32", (-128, 127)))
    inputs = {"x": graph.append(operator, Reshape((-1, filters * memory, 1, 1)), {"x": after}, "words"),
              "w": graph.store(f"{name}:time", np.ascontiguousarray(time.reshape(units, rank * memory, 1, 1)))}
    if operator.inputs[3] >= 0:
        bias = graph.known(operator, 3, "bias")
        inputs["b"] = graph.keep(operator.inputs[3], "bias", bias.reshape(-1))
    sums = graph.append(operator, conv, inputs)
    graph.finish(operator, graph.append(operator, Reshape((-1, units)), {"x": sums}, "units"))
    graph.finish_as(operator.outputs[1], after)
