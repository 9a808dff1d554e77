"""The workload of a decoder block: what it computes, its settings, and how runs that follow one another are joined."""

import numpy as np
import pytest
from encoder_layers import layer_array

import pearray as pe
from pearray.following import follow
from pearray.handle import Handle
from pearray.report import compare
from pearray.workloads.workload import load_workload


def test_draws_in_the_documented_order():
    """Whoever repeats a run elsewhere draws the same weights and tokens, and nothing clips much."""
    rng, workload = np.random.default_rng(7), load_workload("llama-block", 7, {"tokens": 12, "width": 32, "wide": 40})
    graph, following = workload.graph, workload.following
    for name, size in (("q", (32, 32)), ("k", (16, 32)), ("v", (16, 32)), ("z", (32, 32)), ("gate", (40, 32)),
                       ("up", (40, 32)), ("down", (32, 40))):
        drawn = rng.normal(0, size[1] ** -0.5, size).astype(np.float32)
        stored = graph.constants[f"w_{name}"]
        steps = np.abs(drawn).max(axis=1, keepdims=True) / 127
        np.testing.assert_array_equal(stored, np.rint(drawn / steps))
        np.testing.assert_array_equal(following.graph.constants[f"w_{name}"], stored)
    for name in ("gamma_1", "gamma_2"):
        np.testing.assert_array_equal(graph.constants[name], rng.normal(1, 0.1, 32).astype(np.float32))
    x = rng.normal(size=(32, 32)).astype(np.float32)
    given = np.concatenate([workload.inputs["x"], *(run["x"] for run in following.runs)])
    np.testing.assert_array_equal(given, np.rint(x / (np.abs(x).max() / 127))[:12])
    assert [int(run["position"]) for run in following.runs] == [*range(6, 12)]
    for made in graph.golden(workload.inputs).values():
        assert np.abs(made.astype(int)).max() > 40


def test_settings():
    """Settings reach the block; what does not fit is named in one line."""
    made = load_workload("llama-block", settings={"tokens": 5, "prompt": 5, "context": 9, "heads": 6, "kv_heads": 2})
    assert made.following is None
    assert made.graph.tensors["past_k"].shape == (2, 9, 16)
    for settings, message in (({"tokens": 0}, r"^workload\.tokens must be an integer in 1\.\.4096, not 0$"),
                              ({"tokens": 4, "prompt": 5}, r"^workload\.prompt must be an integer in 1\.\.4, not 5$"),
                              ({"context": 3}, r"^workload\.context must be an integer in 32\.\."),
                              ({"heads": 3, "width": 63}, r"^workload\.width must be a multiple of twice 3 heads, not"),
                              ({"kv_heads": 3}, r"^workload\.kv_heads must divide heads = 4, not be 3$"),
                              ({"ff": 3}, "ff")):
        with pytest.raises(pe.PearrayError, match=message):
            load_workload("llama-block", settings=settings)


def test_runs_on_the_rtl_are_joined(seed):
    """Figures of tokens are added up, once each, and every one of their outputs is compared."""
    settings = {"tokens": 5, "prompt": 2, "width": 16, "heads": 2, "wide": 24}
    workload, system = load_workload("llama-block", seed, settings, layer_array()), pe.System(layer_array())
    handle = Handle(workload.graph, system)
    first = handle.run(workload.inputs)
    golden = handle.compiled().graph.golden(workload.inputs)
    result, wanted = follow(workload.following, system, "verilator", first, golden)
    counts = compare(result.outputs, wanted)
    assert {name: wrong for name, (_, wrong) in counts.items() if wrong} == {}
    assert counts["step:y"] == (3 * 16, 0)
    assert counts["y"] == (2 * 16, 0)
    assert len(result.layers) == 2 * len(first.layers)
    for name in ("cycles", "macs", "dram_read_bytes", "host_packed_bytes"):
        assert getattr(result, name) == sum(getattr(layer, name) for layer in result.layers) > getattr(first, name)
    assert sum(result.ledger.values()) == result.cycles == result.counters["cycles"]
    # Tokens 3, 4 and 5 see as many keys, of 8 elements in each of 2 heads.
    attention = next(layer for layer in result.layers if layer.name == "step:av")
    assert attention.macs == (3 + 4 + 5) * 2 * 2 * 8
