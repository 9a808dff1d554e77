"""Channelwise layers whose output pixels lie side by side, in any way that fits, whether or not it is the cheapest."""

from functools import partial

import numpy as np
from random_workloads import operand_types, operands, random_requant

import pearray as pe
from pearray.compiler.graph.graph import Graph
from pearray.compiler.systolic import beside, mapper

__all__ = ["draw", "force"]


def draw(rng, bits):
    """Draw a depthwise convolution or an average, and its tensors."""
    taps, channels, stride, dilation = rng.integers(1, 5, 2).tolist(), int(rng.integers(1, 20)), (1, 1), (1, 1)
    if rng.integers(2):
        stride, dilation = tuple(rng.integers(1, 4, 2).tolist()), (int(rng.integers(1, 4)), 1)
    size = [step * (count - 1) + 1 + int(rng.integers(0, 12)) for step, count in zip(dilation, taps, strict=True)]
    types = operand_types(rng, bits)
    tensors = {"x": operands(rng, (int(rng.integers(1, 3)), channels, *size), types[0], bits)}
    if rng.integers(5) == 0:
        operator = pe.AvgPool2d(tuple(taps), stride, 0, rounding="tflite")
        return operator, tensors
    requant = None
    while requant is None:
        requant = random_requant(rng, channels, taps[0] * taps[1], types, bits)
    operator = pe.Conv2d(stride=stride, padding=tuple(rng.integers(0, 3, 4).tolist()), dilation=dilation,
                         groups=channels, requant=requant, activation="relu" if rng.integers(2) else None)
    tensors["w"] = operands(rng, (channels, 1, *taps), types[1], bits)
    if rng.integers(2):
        tensors["b"] = rng.integers(-1000, 1000, channels).astype(np.int32)
    return operator, tensors


def force(monkeypatch, rng):
    """Have the mapper take one of the ways that fit, drawn, where there is one; return the list of those taken."""
    taken, choose_tiling = [], mapper.choose_tiling

    def choose(layer, most, effort, **_):
        fitting = beside.fitting(layer)
        if not fitting:
            return None
        # Few of those that fit are of some kinds.
        for kind in rng.permutation([lambda plan: plan.flat, lambda plan: plan.stored > plan.cut.channels,
                                     lambda plan: plan.cut.strip > plan.cut.rows, lambda plan: plan.passed,
                                     lambda plan: plan.lines > 1, lambda plan: plan.cut.share < plan.problem.cg]):
            if rng.integers(2):
                fitting = [plan for plan in fitting if kind(plan)] or fitting
        taken.append(fitting[rng.integers(len(fitting))])
        return partial(beside.lower_beside, taken[-1].cut)

    # What is not taken need not be searched for.
    monkeypatch.setattr(mapper, "choose_tiling", lambda layer, effort, **how: (
        (0.0, None) if beside.fitting(layer) else choose_tiling(layer, effort, **how)))
    monkeypatch.setattr(mapper, "choose_beside", choose)
    return taken


def graph_of(rng, bits):
    """Draw a layer as a graph, and its inputs."""
    operator, tensors = draw(rng, bits)
    graph = Graph.of(operator, tensors)
    return graph, {role: tensors[role] for role in graph.inputs}
