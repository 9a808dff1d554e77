# amaranth: UnusedElaboratable=no
"""Runs of the post engine by itself, drawn commands, and what they must write by NumPy."""

import numpy as np
from amaranth.hdl import Cat, Module, Signal
from amaranth.lib.memory import Memory as MemoryBlock
from amaranth.sim import Simulator

from pearray.golden import requantise as golden
from pearray.hdl.post.engine import Post as Engine
from pearray.hdl.post.pairs import pair_words
from pearray.hdl.post.parameters import WordPort
from pearray.hdl.row_stationary.config import GlobalBuffer, ProcessingElement, RowStationaryConfig
from pearray.hdl.row_stationary.config import Post as LinePost
from pearray.hdl.shell.commands import Parameter, Rounding
from pearray.hdl.shell.config import Array, Memory, OutputScratchpads, Post
from pearray.hdl.systolic.config import Accumulators, Scratchpads, SystolicConfig

DEPTH = 32
OUTPUT_BYTES = 2048


def config(lanes=2, cols=4, operand_bits=8, data_width=64, channels=64, **functions):
    return SystolicConfig(
        name="test", array=Array(rows=4, cols=cols, operand_bits=operand_bits), post=Post(lanes=lanes, **functions),
        scratchpads=Scratchpads(activation_bytes=1024, weight_bytes=1024, output_bytes=OUTPUT_BYTES,
                                channels=channels),
        accumulators=Accumulators(depth=DEPTH), memory=Memory(data_width=data_width))


def line_config(data_width=64, softmax=0):
    return RowStationaryConfig(
        name="test", array=Array(kind="row-stationary", rows=1, cols=1),
        pe=ProcessingElement(ifmap_words=8), global_buffer=GlobalBuffer(banks=1, bank_lines=DEPTH),
        scratchpads=OutputScratchpads(output_bytes=OUTPUT_BYTES, channels=64), post=LinePost(softmax=softmax),
        memory=Memory(data_width=data_width))


def loads(rng, target, destination, content):
    """Cut the content of a memory into beats as the loader rotates them, in random rows, aligned as it asks for."""
    beat, start = target.beat_bytes, 0
    unit = {"VECTOR": target.operand_bytes, "ROUTINE": 8}.get(target.commands.destination(destination).name, 4)
    while start < len(content):
        length = int(rng.integers(1, 33)) * unit
        row = content[start:start + length].tolist()
        shift = int(rng.integers(0, max(beat // unit, 1))) * unit % beat
        # The row's first DRAM beat may hold any part of its bytes.
        position, count = 0, beat - shift
        while position < len(row):
            count = min(count, len(row) - position)
            lanes, mask, wrap = [0] * beat, 0, 0
            base = (start + position) // beat
            for offset in range(count):
                address = start + position + offset
                lanes[address % beat] = row[position + offset]
                mask |= 1 << address % beat
                wrap |= (address // beat - base) << address % beat
            yield {"valid": 1, "destination": destination, "word": base, "wrap": wrap, "mask": mask,
                   "data": lanes}
            position, count = position + count, beat
        start += length


def run(rng, target, sums, memories, commands, *, stalls=False, cycles=20_000):
    """Run commands on the engine; return the bytes written, and what to say about time."""
    cols, width = target.sum_columns, target.accumulator_bits
    top = Module()
    top.submodules.engine = engine = Engine(target)
    packed = [sum((int(value) % (1 << width)) << width * column for column, value in enumerate(row))
              for row in sums.reshape(-1, cols)]
    top.submodules.rows = rows = MemoryBlock(shape=width * cols, depth=2 * DEPTH, init=packed)
    read = rows.read_port()
    late = Signal(width * cols)
    top.d.comb += [
        read.addr.eq(Cat(engine.accumulators.row, engine.accumulators.bank)),
        read.en.eq(engine.accumulators.en),
        engine.accumulators.data.eq(late),
    ]
    top.d.sync += late.eq(read.data)

    banks = target.output_banks
    written = np.full(target.scratchpads.output_bytes, -1)
    seen = {"done": [], "done_cycles": [], "accepted_cycles": [], "writes": [],
            "reads": 0, "groups": 0, "output_writes": 0, "first_read": None,
            "cycle": 0, "shifts": []}

    async def watch(ctx):
        accepts = engine.commands.valid & engine.commands.ready
        sampled = ctx.tick().sample(engine.done, engine.output.en, engine.output.line, engine.output.data,
                                    engine.events, engine.accumulators.en, accepts)
        async for _, _, done, enable, line, value, events, reading, accepted in sampled:
            seen["cycle"] += 1
            if accepted:
                seen["accepted_cycles"].append(seen["cycle"])
            if done:
                seen["done"].append(len(seen["writes"]))
                seen["done_cycles"].append(seen["cycle"])
            if enable:
                seen["writes"].append(seen["cycle"])
                for bank in range(banks):
                    if enable >> bank & 1:
                        written[line[bank] * banks + bank] = value[bank]
            if reading and seen["first_read"] is None:
                seen["first_read"] = seen["cycle"]
            seen["reads"] += events.accumulator_read
            seen["groups"] += events.group
            seen["output_writes"] += events.output_write

    async def drive(ctx):
        for destination, content in memories.items():
            for beat in loads(rng, target, destination, content):
                for name, value in beat.items():
                    ctx.set(getattr(engine.load, name), value)
                await ctx.tick()
        ctx.set(engine.load.valid, 0)
        await ctx.tick().repeat(WordPort.LATENCY)
        for command in commands:
            ctx.set(engine.commands.payload, command)
            ctx.set(engine.commands.valid, 1)
            await ctx.tick().until(engine.commands.ready)
            # Nothing may depend on a command that has been taken.
            ctx.set(engine.commands.valid, 0)
            ctx.set(engine.commands.payload, {})
            if stalls and rng.random() < 0.6:
                await ctx.tick().repeat(int(rng.integers(1, 40)))
        while len(seen["done"]) < len(commands):
            await ctx.tick()

    async def watch_shifts(ctx):
        shifts = engine.shifts
        async for _, _, en, row, amount in ctx.tick().sample(shifts.en, shifts.row, shifts.amount):
            if en:
                seen["shifts"].append((row, amount, len(seen["writes"])))

    async def watchdog(ctx):
        await ctx.delay(cycles * 1e-6)
        raise TimeoutError("the commands did not complete")

    sim = Simulator(top)
    sim.add_clock(1e-6)
    sim.add_testbench(watch, background=True)
    if target.has_softmax:
        sim.add_testbench(watch_shifts, background=True)
    sim.add_testbench(watchdog, background=True)
    sim.add_testbench(drive)
    sim.run()
    seen["latency"] = engine.latency
    return written, seen


def expected_bytes(target, sums, memories, commands):
    """Apply the definition of :class:`PostBody`, one output at a time."""
    lanes, cols, width = target.post.lanes, target.sum_columns, target.accumulator_bits
    bias = memories[Parameter.BIAS].view("<i4").reshape(-1, lanes)
    scale = memories[Parameter.SCALE].reshape(-1, lanes, 8)
    table = memories[Parameter.TABLE]
    written = np.full(OUTPUT_BYTES, -1)
    groups = []
    for c in commands:
        raw = c["rounding"] == Rounding.NONE
        size = target.sum_bytes if raw else target.operand_bytes
        transposed = c.get("transposed", 0)
        per_row, apart = cols // lanes, size
        if transposed:
            per_row, apart = c["last_group"] + 1, c["lane_lines"] * target.output_banks + size
        window, kind = c.get("reduce", 0) + 1, f"<{'u' if c.get('reduce_unsigned') else 'i'}{target.operand_bytes}"
        greatest = {}
        for n, row, s in np.ndindex(c["n_count"], c["m_count"], per_row):
            for lane in range(lanes):
                column = s * lanes + lane
                value = int(sums[c["bank"], (c["acc_base"] + n * c["acc_nstep"] + row) % DEPTH, column])
                if c.get("pair"):
                    words = memories[target.pair_memory].view("<u4").reshape(256, -1)
                    value = int(words[value & 255, 0]) + int(words[value >> 8 & 255, 1])
                if c.get("product"):
                    addend = (c["bias_nstep"] | (c["bias_mstep"] & 15) << 16) ^ 1 << 19
                    value = ((value & 255) - (c["bias_base"] & 255)) * ((-(value >> 8) & 255) - (c["bias_base"] >> 8))
                    value += addend - (1 << 19)
                if c["bias"]:
                    line = c["bias_base"] + n * c["bias_nstep"] + row * c["bias_mstep"]
                    word = bias.reshape(-1)[line % bias.size] if transposed else bias[(line + s) % len(bias), lane]
                    value += int(word)
                value = (value + (1 << width - 1)) % (1 << width) - (1 << width - 1)
                line = c["scale_base"] + n * c["scale_nstep"] + (s if c["per_channel"] else 0)
                line += row * c.get("scale_mstep", 0)
                entry = scale[line % len(scale), lane]
                if transposed:
                    entry = scale.reshape(-1, 8)[c["scale_base"] + n * c["scale_nstep"]]
                if not raw:
                    clamp = (c["zero_point"], c["low"], c["high"], 0)
                    if c["rounding"] == Rounding.ONNX:
                        value = golden.onnx(np.array([value]), entry[:4].view("<f4")[0], *clamp)[0]
                    else:
                        shift = ((int(entry[4]) & 63) ^ 32) - 32
                        rule = "double" if c["rounding"] == Rounding.TFLITE_DOUBLE else "single"
                        given = np.clip([value], -1 << 31, (1 << 31) - 1) if rule == "double" else np.array([value])
                        multiplier = entry[:4].view("<i4")[0]
                        value = golden.tflite(given, multiplier, -shift, *clamp, rounding=rule)[0]
                    if c["table"]:
                        value = table[column * 256 + value % 256]
                elif c["table"]:
                    value = max(value, 0)
                if window > 1:
                    stored = int(np.array(int(value) % (1 << 8 * size)).astype(f"<u{size}").view(kind))
                    place = n, row // window, column
                    greatest[place] = value = max(greatest.get(place, stored), stored)
                start = c["out_base"] + n * c["out_nstep"] + row // window * c["out_mstep"] + (s * lanes + lane) * apart
                for byte in range(size):
                    written[(start + byte) % OUTPUT_BYTES] = int(value) >> 8 * byte & 255
        groups.append((c["n_count"] * c["m_count"] * per_row, window))
    return written, groups


def random_memories(rng, target):
    """Make biases, tables, and scales: floats in the first half, multipliers and shifts in the second."""
    channels = target.scratchpads.channels
    scale = np.zeros((channels, 8), np.uint8)
    half = channels // 2
    top = 22 if target.accumulator_bits == 32 else 12
    scale[:half, :4] = np.exp2(rng.uniform(-top, -top + 8, half)).astype("<f4").view(np.uint8).reshape(-1, 4)
    multipliers = rng.integers(1 << 30, 1 << 31, half)
    scale[half:, :4] = multipliers.astype("<i4").view(np.uint8).reshape(-1, 4)
    scale[half:, 4] = rng.integers(top - 12, top if target.accumulator_bits == 32 else 32, half) & 63
    # Bits that mean nothing.
    scale[:, 4] |= rng.integers(0, 4, channels).astype(np.uint8) << 6
    scale[:, 5:] = rng.integers(0, 256, (channels, 3))
    scale[:half, 4] = rng.integers(0, 256, half)
    bias = (rng.integers(-(1 << 31), 1 << 31, channels) >> rng.integers(0, 24, channels)).astype("<i4")
    memories = {
        Parameter.BIAS: bias.view(np.uint8),
        Parameter.SCALE: scale.reshape(-1),
        Parameter.TABLE: rng.integers(0, 256, target.sum_columns * 256).astype(np.uint8),
    }
    if target.has_pairs:
        words = rng.integers(-(1 << 31), 1 << 31, (256, pair_words(target))) >> rng.integers(0, 24, (256, 1))
        # The first to be written, so that others' words that went there would stay.
        memories = {target.pair_memory: words.astype("<i4").view(np.uint8).reshape(-1), **memories}
    return memories


def random_command(rng, target, rounding=None, groups=60):
    """Draw a command whose addresses stay inside the memories."""
    lanes, per_row = target.post.lanes, target.sum_columns // target.post.lanes
    lines = target.scratchpads.channels // lanes
    rounding = list(Rounding)[rng.integers(0, 4)] if rounding is None else rounding
    size = target.sum_bytes if rounding == Rounding.NONE else target.operand_bytes
    row_bytes = target.sum_columns * size
    n_count = int(rng.integers(1, 4))
    m_count = int(rng.integers(1, max(2, groups // (per_row * n_count))))
    m_count = max(1, min(m_count, DEPTH // n_count, OUTPUT_BYTES // row_bytes // n_count))
    half = lines // 2
    # Floats are in the first half of the scales, multipliers in the second.
    scale_span = half - per_row
    by_line = isinstance(target, RowStationaryConfig)
    scale_mstep = int(by_line and m_count <= scale_span and rng.random() < 0.7)
    scale_span -= scale_mstep * (m_count - 1)
    scale_nstep = int(rng.integers(0, max(1, scale_span // n_count) + 1)) if scale_span > 0 else 0
    bias_nstep = int(rng.integers(0, 3))
    narrow = target.operand_bytes == 1
    bound = 128 if narrow else 32768
    low, high = sorted(rng.integers(-bound, bound, 2).tolist())
    if rng.random() < 0.6:
        low, high = (-bound, bound - 1) if rng.random() < 0.7 else (0, 2 * bound - 1)
    gap = int(rng.integers(0, 3)) * lanes * size
    tiles_first = bool(rng.random() < 0.3)
    out_mstep, out_nstep = row_bytes + gap, m_count * (row_bytes + gap)
    if tiles_first:
        # Tiles side by side, as channels stand in memory.
        out_mstep, out_nstep = n_count * row_bytes, row_bytes
    downwards = bool(rng.random() < 0.2)
    out_base = int(rng.integers(0, OUTPUT_BYTES // (lanes * size))) * lanes * size
    return {
        **({"scale_mstep": scale_mstep} if by_line else {}),
        "rounding": rounding, "bank": 0 if by_line else int(rng.integers(0, 2)), "bias": int(rng.integers(0, 2)),
        "per_channel": int(per_row <= half and rng.random() < 0.7), "table": int(rng.random() < 0.3),
        "zero_point": int(rng.integers(-bound, 2 * bound)), "low": low, "high": high,
        "n_count": n_count, "m_count": m_count,
        "acc_base": int(rng.integers(0, DEPTH)), "acc_nstep": int(rng.integers(0, DEPTH)),
        "bias_base": int(rng.integers(0, lines)), "bias_nstep": bias_nstep,
        "bias_mstep": int(rng.integers(0, 2) * rng.integers(0, per_row + 2)),
        "scale_base": 0 if rounding == Rounding.ONNX else half, "scale_nstep": scale_nstep if half else 0,
        "out_base": out_base, "out_nstep": out_nstep,
        "out_mstep": (1 << 20) - out_mstep if downwards else out_mstep,
    }


def random_pair(rng, target, groups=60):
    """Draw a command of pairs."""
    return random_command(rng, target, groups=groups) | {
        "pair": 1, "bias": 0, "per_channel": 0, "scale_nstep": 0, "table": 0}


def random_product(rng, target, groups=60):
    """Draw a command of products, which stay within 20 bits."""
    addend = int(rng.integers(-(1 << 19) + 255**2, (1 << 19) - 255**2)) >> int(rng.integers(0, 20))
    return random_command(rng, target, groups=groups) | {
        "product": 1, "bias": 0, "per_channel": 0, "scale_nstep": 0, "table": 0,
        "bias_base": int(rng.integers(0, 1 << 16)), "bias_nstep": addend & 0xFFFF, "bias_mstep": addend >> 16 & 15}


def random_sums(rng, target):
    bits = target.accumulator_bits
    shape = (2, DEPTH, target.sum_columns)
    return rng.integers(-(1 << bits - 1), 1 << bits - 1, shape) >> rng.integers(0, bits, shape)
