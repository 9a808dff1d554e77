"""Prices against the cycles of the generated hardware."""

import numpy as np
import pytest
from dot_array.cost import estimate
from dot_array.mapper import choose
from dot_array.price import price
from dot_cases import load

import pearray as pe
from pearray.compiler.graph.graph import Graph

REQUANT = pe.Requant.onnx(1.0, 0, 1.0, 0, 3000.0, 0)
LAYERS = {
    "matrices": (pe.Gemm(requant=REQUANT), {"a": (64, 64), "b": (64, 64)}, []),
    "convolution": (pe.Conv2d(padding=1, requant=REQUANT), {"x": (1, 16, 16, 16), "w": (16, 16, 3, 3)}, ["w"]),
    "few channels": (pe.Conv2d(padding=1, requant=REQUANT), {"x": (1, 3, 16, 16), "w": (16, 3, 3, 3)}, ["w"]),
    "each channel": (pe.Conv2d(groups=16, requant=REQUANT), {"x": (1, 16, 16, 16), "w": (16, 1, 3, 3)}, ["w"]),
    "weights only": (pe.Linear(requant=REQUANT), {"x": (4, 512), "w": (256, 512)}, ["w"]),
}


@pytest.mark.parametrize("name", LAYERS)
def test_prices(name, rng, monkeypatch):
    """A price that is far from the truth makes the mapper choose what is slow."""
    operator, shapes, constants = LAYERS[name]
    config, priced = load(), []

    def noted(nest, config, timing):
        form, mapping = choose(nest, config, timing)
        priced.append(price(form, config, timing, mapping))
        return form, mapping

    monkeypatch.setattr("dot_array.compiler.choose", noted)
    tensors = {role: rng.integers(-128, 128, shape, np.int8) for role, shape in shapes.items()}
    graph = Graph.of(operator, tensors, constants)
    inputs = {role: tensors[role] for role in graph.inputs}
    handle = pe.compile(graph, inputs, config)
    compiled, result = handle.compiled(), handle.run(inputs)
    np.testing.assert_array_equal(result.outputs["y"], graph.golden(inputs)["y"])
    assert sum(priced) == pytest.approx(result.cycles, rel=0.1)
    assert estimate(config, compiled.program) == pytest.approx(result.cycles, rel=0.15)
