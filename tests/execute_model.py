"""Model of an execute command, element by element as ``ExecuteBody`` says, and random commands."""

from itertools import product

import numpy as np

from pearray.hdl.shell.commands import ADDRESS_BITS
from pearray.hdl.shell.config import Memory, Post
from pearray.hdl.systolic.commands import ExecuteBody
from pearray.hdl.systolic.config import Accumulators, Array, Scratchpads, SystolicConfig

FIELDS = tuple(name for name, _ in ExecuteBody.as_shape())


def config(rows, cols, *, operand_bits=8, depth=128, activation_bytes=1024, weight_bytes=1024, toeplitz=0):
    return SystolicConfig(
        name="test", array=Array(rows=rows, cols=cols, operand_bits=operand_bits, toeplitz=toeplitz), post=Post(),
        accumulators=Accumulators(depth=depth), memory=Memory(data_width=32),
        scratchpads=Scratchpads(activation_bytes=activation_bytes, weight_bytes=weight_bytes,
                                output_bytes=1024))


def operands(cfg, memory, address, is_unsigned, zero_point):
    """Operands at addresses of any shape, less their zero point."""
    bits = cfg.array.operand_bits
    stored = memory[address % (1 << ADDRESS_BITS) % len(memory)] & ((1 << bits) - 1)
    return (stored if is_unsigned else stored - ((stored >> bits - 1) << bits)) - zero_point


def walk(body, *steps):
    """Three nested loops over the pixels."""
    i2, i1, i0 = np.meshgrid(*(np.arange(body[f"m_count{loop}"]) for loop in (2, 1, 0)), indexing="ij")
    return (i2 * steps[0] + i1 * steps[1] + i0 * steps[2]).reshape(-1)


def cut(cfg, body):
    """Offsets of the elements, and the first and last element of each tile."""
    offsets, tiles = [], []
    offset = start = 0
    rows = cfg.array.rows
    for k in range(body["k_total"]):
        offsets.append(offset)
        run_ends = (k + 1) % body["run"] == 0
        offset += 1
        if run_ends:
            offset += body["jump1"]
        if (k + 1) % (body["run"] * body["run_count"]) == 0:
            offset += body["jump2"]
        full = k + 1 - start == rows
        if full or k + 1 == body["k_total"] or (run_ends and not body["fold"]):
            tiles.append((start, k + 1))
            start = k + 1
    return np.array(offsets), tiles


def combine(cfg, body, bank, rows, sums, first):
    if not first:
        sums = np.maximum(bank[rows], sums) if body["maximum"] else bank[rows] + sums
    bits = cfg.accumulator_bits
    bank[rows] = (sums + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1)


def execute(cfg, body, activation, weight, accumulators):
    """Carry one command out on the raw operands of two scratchpads and the accumulators (2, depth, C)."""
    rows, cols, depth = cfg.array.rows, cfg.array.cols, cfg.accumulators.depth
    bank = accumulators[body["bank"]]
    pixels = walk(body, body["m_step2"], body["m_step1"], body["m_step0"])
    signs = body["a_unsigned"], body["a_zero_point"]
    weight_signs = body["w_unsigned"], body["w_zero_point"]
    offsets, tiles = cut(cfg, body)
    for n, tile in product(range(body["n_count"]), range(max(len(tiles), 1))):
        bases = body["a_base"] + n * body["a_nstep"] + pixels
        w_base = body["w_base"] + n * body["w_nstep"]
        acc = body["acc_base"] + n * body["acc_nstep"]
        if body["output_stationary"]:
            # As many times the rows of the array as sums take turns in a PE.
            outputs = np.arange(rows * cfg.arithmetic.add_latency)
            lines = w_base + walk(body, body["jump2"], body["jump1"], body["w_pitch"])
            a = operands(cfg, activation, bases[:, None] + outputs, *signs)
            w = operands(cfg, weight, lines[:, None] + np.arange(cols), *weight_signs)
            combine(cfg, body, bank, (acc + outputs) % depth, a.T @ w, body["first"])
            continue
        start, end = tiles[tile]
        k = np.arange(start, end)
        a = operands(cfg, activation, bases[:, None] + offsets[start:end], *signs)
        if body["diagonal"]:
            address = w_base + tile * body["w_pitch"] + np.arange(cols)[None].repeat(len(k), 0)
        elif body["left"]:
            address = w_base + np.arange(cols) * body["w_pitch"] + k[:, None]
        else:
            address = w_base + k[:, None] * body["w_pitch"] + np.arange(cols)
        w = operands(cfg, weight, address, *weight_signs)
        if body["diagonal"]:
            w = w * np.eye(len(k), cols, dtype=np.int64)
        target = (acc + np.arange(len(pixels))) % depth
        combine(cfg, body, bank, target, a @ w, body["first"] and tile == 0)


def zero_points(cfg, rng):
    """Signs and zero points whose differences fit the array's operands."""
    result = {}
    half = 1 << min(cfg.array.operand_bits, 8) - 1
    for side in "aw":
        is_unsigned = int(rng.integers(2)) if cfg.array.operand_bits <= 8 else 0
        low, high = (0, 2 * half - 1) if is_unsigned else (-half, half - 1)
        result |= {f"{side}_unsigned": is_unsigned,
                   f"{side}_zero_point": int(rng.choice([low, high, 0, rng.integers(low, high + 1)]))}
    return result


def draw_like(cfg, rng, before, **sizes):
    """Random command whose weights are passed on as those of another, which it may go on with."""
    names = ["run", "run_count", "jump1", "jump2", "bank"][:int(rng.integers(4, 6))]
    return draw(cfg, rng, "toeplitz", **sizes) | {name: before[name] for name in names}


def draw(cfg, rng, kind=None, *, pixels=24, elements=24):
    """Random command of a kind: fold, runs, left, diagonal, maximum, outer or toeplitz."""
    rows, cols, depth, banks = cfg.array.rows, cfg.array.cols, cfg.accumulators.depth, cfg.banks
    kind = kind or str(rng.choice(["fold", "runs", "left", "diagonal", "outer"]))
    body = dict.fromkeys(FIELDS, 0) | zero_points(cfg, rng)
    top = 1 << ADDRESS_BITS

    def integer(low, high):
        return int(rng.integers(low, high + 1))

    def counts(total):
        inner = integer(1, total)
        middle = integer(1, max(total // inner, 1))
        outer = integer(1, max(total // (inner * middle), 1))
        return dict(zip(("m_count0", "m_count1", "m_count2"),
                        rng.permutation([inner, middle, outer]).tolist(), strict=True))

    body |= counts(1 if rng.random() < 0.2 else min(pixels, depth))
    body |= {name: integer(0, top - 1) for name in
             ("a_base", "a_nstep", "m_step1", "m_step2", "w_base", "w_nstep", "jump1", "jump2")}
    body |= {
        "m_step0": int(rng.choice([1, integer(0, 5), top - integer(1, 5), integer(0, top - 1)])),
        "w_pitch": int(rng.choice([1, cols, integer(0, top - 1)])),
        "bank": integer(0, 1), "first": integer(0, 1), "maximum": int(rng.random() < 0.2),
        # Rows of two tiles are the same or others: they all begin at multiples of 32, wrapping around.
        "acc_base": integer(0, 2 * depth // 32) * 32 + 27, "acc_nstep": integer(0, 2 * depth // 32) * 32,
        "n_count": integer(1, 3),
    }
    if kind == "outer":
        body |= counts(min(cfg.os_depth, pixels)) | {"output_stationary": 1}
        return body
    body |= {"k_total": integer(1, elements), "run": integer(1, elements), "run_count": integer(1, 3)}
    if kind == "toeplitz":
        # Tiles add to rows of their own, or all to the same ones.
        return body | counts(1 if rng.random() < 0.3 else pixels) | {
            "fold": 1, "jump1": body["jump1"] // banks * banks, "jump2": body["jump2"] // banks * banks,
            "k_total": rows, "w_pitch": top - 1, "n_count": integer(1, 4),
            "acc_nstep": int(rng.choice([0, 32, 32, 32]))}
    if kind == "fold":
        body |= {"fold": 1, "jump1": body["jump1"] // banks * banks, "jump2": body["jump2"] // banks * banks,
                 "left": integer(0, 1)}
    elif kind == "left":
        body |= {"left": 1}
    elif kind == "diagonal":
        body |= {"diagonal": 1, "run": integer(1, min(rows, cols))}
    return body
