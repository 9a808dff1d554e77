"""Every counter of a row-stationary accelerator against its prediction in closed form, on the RTL."""

import numpy as np
import pytest
from fixed_layers import words
from kinds import SMALL
from row_stationary_traffic import moved

import pearray as pe
from pearray.compiler.graph.graph import Graph, Node, Tensor
from pearray.compiler.row_stationary.mapper import plan_of
from pearray.golden.cost import ConvLayer
from pearray.golden.gating import accesses
from pearray.golden.row_stationary import Mapping
from pearray.golden.tensors import four_sides, pair

#: Both are built by test_row_stationary_operators.py as well.
NARROW, WIDE = SMALL["row-stationary-8"], SMALL["row-stationary-16"]

#: Layers of a program, and programs.
TOGETHER, PROGRAMS = 5, 20

#: AlexNet's CONV layers with their filters, strides, padding and groups, and fewer channels, rows and columns.
SMALL_ALEXNET = (
    ConvLayer(name="conv1", c=3, h=27, w=31, m=12, r=11, s=11, stride=4),
    ConvLayer(name="conv2", c=12, h=9, w=9, m=32, r=5, s=5, padding=2, groups=2),
    ConvLayer(name="conv3", c=16, h=7, w=7, m=24, r=3, s=3, padding=1),
    ConvLayer(name="conv4", c=24, h=7, w=7, m=24, r=3, s=3, padding=1, groups=2),
    ConvLayer(name="conv5", c=24, h=7, w=7, m=16, r=3, s=3, padding=1, groups=2),
)


def graph_of(layers):
    """Graph of (name, operator, tensors) side by side, and its inputs."""
    nodes, inputs, constants = [], {}, {}
    for name, operator, tensors in layers:
        nodes.append(Node(name, operator, {role: f"{name}_{role}" for role in tensors}, {"y": f"{name}_y"}))
        inputs[f"{name}_x"] = tensors["x"]
        constants |= {f"{name}_{role}": tensors[role] for role in "wb" if role in tensors}
    declared = {name: Tensor(name, value.shape, value.dtype) for name, value in inputs.items()}
    return Graph(nodes, declared, constants, list(inputs), [node.outputs["y"] for node in nodes]), inputs


def seen(plan, operator, tensors):
    """Ifmap as a plan has it, less its zero point: with padding, or a row of pixels as a rectangle filled up."""
    ifmap, layer = tensors["x"].astype(np.int64) - operator.zero_points[0], plan.mapped.layer
    sides, stride = four_sides(getattr(operator, "padding", 0)), pair("stride", getattr(operator, "stride", 1))
    if tensors["w"][0, 0].size > 1 or any(sides) or stride != (1, 1):
        return np.pad(ifmap, ((0, 0), (0, 0), (sides[0], 0), (sides[1], 0)))
    pixels = np.moveaxis(ifmap, 1, -1).reshape(-1, layer.c)
    pixels = np.pad(pixels, ((0, layer.h * layer.w - len(pixels)), (0, 0)))
    return pixels.reshape(1, layer.h, layer.w, layer.c).transpose(0, 3, 1, 2)


def check(layers, config, mapping=None):
    """Run layers as one program; hold outputs to golden, records and counters to the prediction."""
    graph, inputs = graph_of(layers)
    handle = pe.compile(graph, inputs, config, mapping=mapping)
    compiled, result = handle.compiled("all"), handle.run(inputs, keep="all")
    expected = pe.golden_run(graph, inputs)
    for made, planned, (name, operator, tensors) in zip(result.layers, compiled.layers, layers, strict=True):
        np.testing.assert_array_equal(result.outputs[f"{name}_y"], expected[f"{name}_y"], f"{operator}")
        (plan,) = planned.notes["plans"]
        ifmap = seen(plan, operator, tensors)
        predicted = accesses(plan.mapped, ifmap, bias=plan.traffic.bias, resident=plan.resident)
        assert {key: made.counters[key] for key in predicted} == predicted, (operator, plan)
    sums = {key: sum(layer.counters[key] for layer in result.layers) for key in ("fills", "read_beats", "write_beats")}
    wanted = moved(compiled, inputs | expected)
    units = [unit for placed in compiled.outputs.values() for unit in getattr(placed, "units", [])]
    if any((unit.elements < 0).any() for unit in units):
        # Lanes of a line without a filter are coded as they stand, with what was there before.
        assert sums.pop("write_beats") >= wanted.pop("write_beats")
    assert sums == wanted


def random_layer(rng):
    """Draw a convolution in fixed point and its tensors."""
    groups, cg, ng = int(rng.choice([1, 1, 2, 3])), int(rng.integers(1, 9)), int(rng.choice([*range(1, 9), 4, 8, 16]))
    r, s = (int(size) for size in rng.integers(1, 6, 2))
    stride = tuple(int(step) for step in rng.choice([1, 1, 2, 4], 2))
    padding = tuple(int(side) for side in rng.integers(0, 3, 4))
    height, width = max(1, r - padding[0] - padding[2]), max(1, s - padding[1] - padding[3])
    height, width = int(height + rng.integers(0, 10)), int(width + rng.integers(0, 10))
    tensors = {"x": words(rng, int(rng.integers(1, 4)), groups * cg, height, width),
               "w": words(rng, groups * ng, cg, r, s)}
    if rng.integers(2):
        tensors["b"] = words(rng, groups * ng)
    operator = pe.Conv2d(stride=stride, padding=padding, groups=groups, requant=pe.FixedPoint(int(rng.integers(17))),
                         activation=None if rng.integers(2) else "relu")
    return operator, tensors


def random_mapping(rng, operator, tensors, config):
    """Draw a legal mapping of a layer, or none if few are."""
    (n, c, h, w), (m, cg, r, s) = tensors["x"].shape, tensors["w"].shape
    layer = ConvLayer(name="layer", c=c, h=h, w=w, m=m, r=r, s=s, stride=operator.stride, padding=operator.padding,
                      groups=operator.groups)
    limits = {"m": m // operator.groups, "n": n, "e": layer.output[1], "p": config.pe.psum_words, "q": cg, "r": 4,
              "t": 4, "g": operator.groups}
    for _ in range(300):
        values = {name: int(rng.integers(1, limit + 1)) for name, limit in limits.items()}
        values |= {"rows": int(rng.integers(0, r + 1)), "columns": int(rng.integers(0, s + 1)),
                   "images": int(rng.integers(0, values["n"] + 1))}
        try:
            plan_of(layer, Mapping(**values), config, n)
        except pe.PearrayError:
            continue
        return values
    return None


@pytest.mark.parametrize("number", range(PROGRAMS))
def test_random_layers(seed, number):
    """A counter of the RTL, or the closed form, would be wrong for some layer or mapping."""
    rng = np.random.default_rng([seed, number])
    layers, mappings = [], {}
    for index in range(TOGETHER):
        operator, tensors = random_layer(rng)
        mapping = random_mapping(rng, operator, tensors, WIDE) if index % 2 else None
        if mapping is not None:
            mappings[f"layer{index}"] = mapping
        layers.append((f"layer{index}", operator, tensors))
    check(layers, WIDE, mappings)


def test_alexnet_scaled_down(rng):
    """The closed form would be wrong for a layer of the net that the accelerator is measured with."""
    layers = []
    for shape in SMALL_ALEXNET:
        operator = pe.Conv2d(stride=shape.stride, padding=shape.padding, groups=shape.groups,
                             requant=pe.FixedPoint(10), activation="relu")
        tensors = {"x": words(rng, 1, shape.c, shape.h, shape.w), "b": words(rng, shape.m),
                   "w": words(rng, shape.m, shape.c // shape.groups, shape.r, shape.s)}
        layers.append((shape.name, operator, tensors))
    check(layers, WIDE)


@pytest.mark.parametrize("number", range(8))
def test_eight_bits(seed, number):
    """Zeros of operands with a zero point would be gated otherwise, or sums counted otherwise, than predicted."""
    rng = np.random.default_rng([seed, number])
    drawn, fixed = random_layer(rng)
    requant = pe.Requant.onnx(0.1, int(rng.integers(-3, 4)), 0.1, 0, 2.0, 5) if rng.integers(2) else None
    tensors = {role: np.clip(values >> 12, -8, 7).astype(np.int8) for role, values in fixed.items()}
    if "b" in tensors:
        tensors["b"] = fixed["b"].astype(np.int32)
    operator = pe.Conv2d(stride=drawn.stride, padding=drawn.padding, groups=drawn.groups, requant=requant)
    check([("layer", operator, tensors)], NARROW)


@pytest.mark.parametrize("pixels", [1, 7, 17, 50, 257])
def test_rows_of_pixels(rng, pixels):
    """Pixels behind the last of a folded row would be stored, or counted, or their weights packed a second time."""
    c, m = (int(size) for size in rng.integers(1, 40, 2))
    x, w, images = words(rng, pixels, c), words(rng, m, c), words(rng, pixels % 7 + 1, c, 3, 5)
    fixed = pe.FixedPoint(7)
    check([("linear", pe.Linear(requant=fixed, activation="relu"), {"x": x, "w": w}),
           ("conv", pe.Conv2d(requant=fixed), {"x": images, "w": w[:, :, None, None], "b": words(rng, m)})], WIDE)
    narrow = {"x": (x >> 8).astype(np.int8), "w": (w >> 8).astype(np.int8),
              "b": rng.integers(-99, 99, m).astype(np.int32)}
    check([("linear", pe.Linear(requant=pe.Requant.onnx(0.1, 3, 0.1, 0, 2.0, np.int8(5))), narrow)], NARROW)
