"""Drawn encoder layers, and a small accelerator with all that they need."""

from random_workloads import configuration

from pearray.workloads.workload import load_workload

__all__ = ["drawn_layer", "layer_array"]


def layer_array():
    """Configuration of a small array whose vector engine does all that encoder and decoder layers have."""
    return configuration(moves=1, softmax=1, norms=1, pairs=1, products=1)


def drawn_layer(rng, config, most=40):
    """Workload of a drawn layer, ragged at every edge more often than not."""
    groups, shared, wide = int(rng.integers(1, 3)), int(rng.choice([1, 1, 2])), int(rng.integers(1, 60))
    heads = groups * shared
    sizes = int(rng.integers(1, most)), heads * int(rng.integers(1, 20)), heads, wide
    settings = {"kv_heads": groups, "causal": bool(rng.integers(2)), "two_bytes": bool(rng.integers(4) == 0)}
    return load_workload("encoder-layer:" + ",".join(map(str, sizes)), int(rng.integers(1 << 30)), settings, config)
