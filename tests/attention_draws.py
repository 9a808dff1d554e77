"""Drawn cases of fused attention as users state it, and accelerators small enough to go round all their buffers."""

import dataclasses

import fixed_layers
import numpy as np
from random_workloads import configuration, operands

import pearray as pe
from pearray.compiler.graph.graph import Graph
from pearray.hdl.shell.commands import Opcode
from pearray.hdl.systolic.accumulator import Accumulators
from pearray.hdl.systolic.tiles import tile_slots

__all__ = [
    "ARRAYS", "ROW_ARRAYS", "UNIT", "attention_array", "check_tiles", "drawn_attention", "drawn_float_attention",
    "drawn_masks", "masked_runs", "row_array",
]

#: Scale with which operands over the full range have a deviation of 1.
UNIT = 1 / 73.9

#: Arrays of either shape, with few and with many lanes.
ARRAYS = {
    "4x4": {"rows": 4, "cols": 4, "activation": 2048, "weight": 512, "output": 256, "channels": 16, "depth": 16},
    "4x6": {"rows": 4, "cols": 6, "activation": 4096, "weight": 512, "output": 512, "channels": 256, "depth": 64},
    "6x4": {"rows": 6, "cols": 4, "activation": 4096, "weight": 1024, "output": 512, "channels": 16, "depth": 64,
            "lanes": 4},
    "8x8": {},
    "16x16": {"rows": 16, "cols": 16, "activation": 65536, "weight": 16384, "output": 16384, "channels": 256,
              "lanes": 16, "data_width": 128},
}


#: Row-stationary arrays, whose blocks of keys are a group of lanes, or several; with places for two blocks of keys and
#: of values, or for one.
ROW_ARRAYS = {
    "1x3": {"rows": 1, "cols": 3, "ifmap": 3, "filters": 16, "psums": 4, "banks": 2, "bank_lines": 64, "channels": 16},
    "3x4": {"rows": 3, "cols": 4, "ifmap": 6, "filters": 48, "psums": 8, "banks": 4, "bank_lines": 128,
            "filter_banks": 2, "output": 256},
    "4x6": {"rows": 4, "cols": 6, "ifmap": 12, "filters": 64, "psums": 8, "banks": 7, "bank_lines": 128,
            "filter_banks": 4, "output": 512, "data_width": 128},
}


def attention_array(name):
    """Configuration of an array of :data:`ARRAYS` that can do attention."""
    return configuration(**ARRAYS[name], moves=1, softmax=1)


def row_array(name):
    """Configuration of an array of :data:`ROW_ARRAYS` that can do attention."""
    return fixed_layers.configuration(**ROW_ARRAYS[name], bits=8, moves=1, softmax=1)


def drawn_attention(rng, config, most=None):
    """Operator and tensors of a drawn attention, ragged at every edge more often than not.

    If given, ``most`` is how many elements a query and a value have at most.
    """
    rows, cols = config.array.rows, config.array.cols
    groups, shared = int(rng.integers(1, 3)), int(rng.choice([1, 1, 2, 3]))
    p, m = (int(rng.choice([1, rng.integers(1, 9), rng.integers(1, 60)])) for _ in range(2))
    e, f = (int(rng.choice([1, rows, cols, rng.integers(1, 3 * cols + 1)])) for _ in range(2))
    if config.KIND == "row-stationary" and rng.integers(2):
        e = 8 * int(rng.integers(1, 5))
    if most is not None:
        e, f = min(e, most), min(f, most)
    heads = groups * shared
    tensors = {"q": operands(rng, (heads, p, e)), "k": operands(rng, (groups, m, e)),
               "v": operands(rng, (groups, m, f))}
    two_bytes = bool(rng.integers(3) == 0)
    options = {"causal": bool(rng.integers(2)), "two_bytes": two_bytes, "scale": float(rng.choice([1, 4])) * e ** -0.5}
    if rng.integers(3) == 0:
        options |= {"window": int(rng.integers(1, m + 3)), "offset": int(rng.integers(-cols, 2 * cols))}
    if rng.integers(3) == 0:
        options["lengths"] = rng.integers(0, m + 1, heads).tolist()
    mask = rng.integers(4)
    shape = [(p, m), (heads, p, m), (1, m), (p, 1)][rng.integers(4)]
    if mask == 0:
        tensors["mask"] = rng.integers(0, 3, shape) > 0
    if mask == 1:
        tensors["mask"] = rng.normal(size=shape).astype(np.float32)
    return pe.Attention(q_scale=UNIT, k_scale=UNIT, v_scale=UNIT, y_scale=UNIT / 2, **options), tensors


def check_tiles(config, program):
    """Check that no tile adds to a row too soon after the tile before has, which the interpreter does not know."""
    period, before = Accumulators.period_of(config.arithmetic), None
    for command in program.commands:
        body = command.body
        if command.opcode is not Opcode.EXECUTE:
            continue
        vectors, tiles = body["m_count0"], -(-body["k_total"] // config.array.rows)
        for n, tile in np.ndindex(body["n_count"], tiles):
            start, bank = body["acc_base"] + n * body.get("acc_nstep", 0), body["bank"]
            if before is not None and before[0] == bank and (tile or not body["first"]):
                _, first, count = before
                if max(first, start) < min(first + count, start + vectors):
                    assert max(count, tile_slots(config, left=False)) + first - start >= period, command
            before = bank, start, vectors


def drawn_float_attention(rng, config):
    """Operator and tensors of a drawn attention of floats, as :func:`drawn_attention` draws it of int8."""
    operator, tensors = drawn_attention(rng, config)
    form, spread = config.arithmetic.format.dtype, float(rng.choice([1, 4]))
    tensors |= {role: (rng.standard_normal(tensors[role].shape) * (spread if role == "q" else 1)).astype(form)
                for role in "qkv"}
    if (mask := tensors.get("mask")) is not None and mask.dtype != bool:
        tensors["mask"] = np.where(rng.random(mask.shape) < 0.2, rng.choice([-np.inf, -1e9]), mask).astype(np.float32)
    options = {name: getattr(operator, name) for name in ("causal", "scale", "window", "offset", "lengths")}
    return pe.Attention(**options), tensors


def drawn_masks(rng, heads, queries, keys, count, is_float=True):
    """Masks of one shape and type, as runs of one program take them, from rows of keys to one for each head.

    Numbers are great and small, and hide rows whole now and then; without ``is_float`` they are bool or int32.
    """
    kind = ["bool", "int32", "float32"][rng.integers(2 + is_float)]
    masks = [number for number in range(1, heads + 1) if heads % number == 0]
    shape = (int(rng.choice(masks)), queries if kind == "float32" else int(rng.choice([1, queries])), keys)
    shape = shape[1:] if shape[0] == 1 and rng.integers(2) else shape
    for _ in range(count):
        shown = rng.integers(0, 3, shape) > 0
        if kind == "bool":
            yield shown
        elif kind == "int32":
            yield rng.integers(-(1 << rng.integers(1, 31)), 1 << 12, shape).astype(np.int32)
        else:
            hidden = rng.choice([-1e4, -1e9, -np.inf, 1e6])
            yield np.where(shown, rng.normal(size=shape), hidden).astype(np.float32)


def masked_runs(rng, config, count):
    """A graph of drawn attention whose mask is an input, and inputs of some runs, alike but for the mask."""
    operator, tensors = drawn_attention(rng, config)
    (heads, queries, _), keys = tensors["q"].shape, tensors["k"].shape[1]
    runs = [{**tensors, "mask": mask} for mask in drawn_masks(rng, heads, queries, keys, count)]
    return Graph.of(dataclasses.replace(operator, lengths=None), runs[0], constants=()), runs
