# amaranth: UnusedElaboratable=no
"""The post engine against NumPy: whole commands, from accumulator rows to bytes of the output scratchpad."""

import numpy as np
import pytest
from amaranth.hdl import Cat, Module, Signal
from amaranth.lib.memory import Memory as MemoryBlock
from amaranth.sim import Simulator

from pearray import PearrayError
from pearray.golden import requantise as golden
from pearray.hdl.post.average import SEARCH, STATES, AverageWalk
from pearray.hdl.post.engine import Post as Engine
from pearray.hdl.post.engine import output_banks, output_lines
from pearray.hdl.post.maxima import Windows
from pearray.hdl.post.pairs import pair_words
from pearray.hdl.post.parameters import WordPort
from pearray.hdl.row_stationary.config import GlobalBuffer, RowStationaryConfig
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


def line_config(data_width=64):
    return RowStationaryConfig(
        name="test", array=Array(kind="row-stationary", rows=1, cols=1),
        global_buffer=GlobalBuffer(banks=1, bank_lines=DEPTH),
        scratchpads=OutputScratchpads(output_bytes=OUTPUT_BYTES, channels=64), memory=Memory(data_width=data_width))


def loads(rng, target, destination, content):
    """Cut the content of a memory into beats as the loader rotates them, word-aligned, in random rows."""
    beat, start = target.beat_bytes, 0
    while start < len(content):
        length = int(rng.integers(1, 33)) * 4
        row = content[start:start + length].tolist()
        shift = int(rng.integers(0, beat // 4)) * 4
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


def run(rng, target, sums, memories, commands, *, stalls=False):
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

    banks = output_banks(target)
    written = np.full(OUTPUT_BYTES, -1)
    seen = {"done": [], "writes": [], "reads": 0, "groups": 0, "output_writes": 0, "first_read": None,
            "cycle": 0}

    async def watch(ctx):
        sampled = ctx.tick().sample(engine.done, engine.output.en, engine.output.line, engine.output.data,
                                    engine.events, engine.accumulators.en)
        async for _, _, done, enable, line, value, events, reading in sampled:
            seen["cycle"] += 1
            if done:
                seen["done"].append(len(seen["writes"]))
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

    async def watchdog(ctx):
        await ctx.delay(20_000e-6)
        raise TimeoutError("the commands did not complete")

    sim = Simulator(top)
    sim.add_clock(1e-6)
    sim.add_testbench(watch, background=True)
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
            per_row, apart = c["last_group"] + 1, c["lane_lines"] * output_banks(target) + size
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


def random_transposed(rng, target, groups=40):
    """Draw a command whose rows are pixels of one channel, at any places of any distances."""
    size, entries = target.operand_bytes, target.scratchpads.channels
    command = random_command(rng, target, list(Rounding)[rng.integers(1, 4)], groups)
    steps = rng.integers(-200, 200, 2) * size % (1 << 20)
    span = entries // 2 - 1
    scale_step = int(rng.integers(0, span // command["n_count"] + 1))
    # Each rule has a half of the scales; tiles begin at any entry, so that those of all lanes are used.
    scale = int(rng.integers(0, span - scale_step * (command["n_count"] - 1) + 1))
    return command | {
        "transposed": 1, "last_group": int(rng.integers(min(16, target.sum_columns // target.post.lanes))),
        "lane_lines": int(rng.integers(0, 12)), "out_base": int(rng.integers(0, OUTPUT_BYTES // size)) * size,
        "out_nstep": int(steps[0]), "out_mstep": int(steps[1]),
        "bias_base": int(rng.integers(0, entries)), "bias_nstep": int(rng.integers(0, 5)),
        "scale_base": scale + (0 if command["rounding"] == Rounding.ONNX else entries // 2),
        "scale_nstep": scale_step}


def random_windows(rng, target, groups=60):
    """Draw a command that reduces windows of rows, of pairs if there are."""
    make = random_pair if target.has_pairs and rng.random() < 0.5 else random_command
    command = make(rng, target, groups=groups)
    if command["rounding"] == Rounding.NONE:
        return command
    window = min(int(rng.integers(2, 10)), command["m_count"])
    return command | {"m_count": command["m_count"] // window * window, "reduce": window - 1,
                      "reduce_unsigned": int(rng.integers(0, 2))}


def random_sums(rng, target):
    bits = target.accumulator_bits
    shape = (2, DEPTH, target.sum_columns)
    return rng.integers(-(1 << bits - 1), 1 << bits - 1, shape) >> rng.integers(0, bits, shape)


def check(rng, target, commands, **options):
    sums, memories = random_sums(rng, target), random_memories(rng, target)
    written, seen = run(rng, target, sums, memories, commands, **options)
    expected, groups = expected_bytes(target, sums, memories, commands)
    wrong = np.flatnonzero(written != expected)
    assert not len(wrong), (f"{len(wrong)} bytes wrong, first byte {wrong[0]}: {written[wrong[0]]} "
                            f"instead of {expected[wrong[0]]}")
    writes = [count // window for count, window in groups]
    assert seen["done"] == np.cumsum(writes).tolist(), "a command was not done after its own last write"
    groups = [count for count, _ in groups]
    assert seen["reads"] == seen["groups"] == sum(groups)
    assert seen["output_writes"] == len(seen["writes"]) == sum(writes)
    return seen, groups


@pytest.mark.parametrize(("lanes", "cols", "operand_bits", "data_width"), [
    (1, 1, 8, 32), (1, 4, 8, 64), (2, 4, 8, 64), (2, 8, 8, 32), (4, 4, 8, 64), (4, 12, 4, 128),
    (1, 3, 8, 512), (1, 4, 16, 64), (2, 6, 16, 64),
])
def test_commands(rng, lanes, cols, operand_bits, data_width):
    """Random commands back to back: any wrong address, line, lane, tag or setting leaves wrong bytes."""
    target = config(lanes, cols, operand_bits, data_width)
    check(rng, target, [random_command(rng, target, groups=40) for _ in range(8)])


@pytest.mark.parametrize("data_width", [32, 64, 256])
def test_lines_of_the_global_buffer(rng, data_width):
    """With the row-stationary array, lines of channels would get the scales, biases or tables of other channels."""
    target = line_config(data_width)
    check(rng, target, [random_command(rng, target, groups=40) for _ in range(10)])


def test_stalled_commands(rng):
    """Pauses between commands must change nothing but time."""
    target = config()
    check(rng, target, [random_command(rng, target, groups=20) for _ in range(10)], stalls=True)


def test_short_commands(rng):
    """Commands shorter than the pipeline must not meet their neighbour's zero point, clamp or table."""
    target = config(4, 4)
    check(rng, target, [random_command(rng, target, groups=2) for _ in range(16)])


def test_throughput(rng):
    """One group per cycle within a command, an idle cycle between commands, and the stated latency."""
    target = config(2, 4)
    commands = [random_command(rng, target, rounding) | {"n_count": 2, "m_count": 16} for rounding in
                (Rounding.ONNX, Rounding.NONE, Rounding.TFLITE_DOUBLE)]
    seen, groups = check(rng, target, commands)
    writes = np.array(seen["writes"])
    assert writes[-1] - writes[0] + 1 == sum(groups) + len(commands) - 1
    assert writes[0] - seen["first_read"] == seen["latency"]


@pytest.mark.parametrize(("lanes", "cols", "data_width"), [
    (2, 8, 64), (1, 1, 32), (1, 32, 128), (4, 4, 32), (2, 4, 256), (4, 12, 128),
])
def test_pairs(rng, lanes, cols, data_width):
    """Sums of table entries among other sums: a wrong byte, table, entry, lane or delay leaves wrong outputs."""
    target = config(lanes, cols, data_width=data_width, pairs=1)
    commands = [random_pair(rng, target, groups=int(rng.integers(2, 40))) if rng.random() < 0.6
                else random_command(rng, target, groups=int(rng.integers(2, 40))) for _ in range(14)]
    check(rng, target, commands)
    check(rng, target, commands, stalls=True)


@pytest.mark.parametrize(("lanes", "cols", "operand_bits", "data_width", "pairs"), [
    (2, 8, 8, 64, 0), (1, 4, 8, 32, 0), (8, 16, 8, 128, 1), (4, 4, 8, 32, 0), (2, 4, 16, 64, 0), (4, 8, 8, 256, 1),
])
def test_transposed(rng, lanes, cols, operand_bits, data_width, pairs):
    """Pixels of one channel among other rows: a wrong bank, line, entry, group or delay leaves wrong bytes."""
    target = config(lanes, cols, operand_bits, data_width, pairs=pairs, transposed=1)
    draws = [random_transposed, random_transposed, random_command, *[random_pair] * pairs]
    # Some are so long that the next follows at once.
    commands = [draws[rng.integers(len(draws))](rng, target, groups=int(rng.choice([4, 20, 100]))) for _ in range(10)]
    # Others right behind them, whatever was drawn before.
    commands += [draw(rng, target, groups=100) for draw in [random_transposed, random_command] * 4]
    check(rng, target, commands)
    check(rng, target, commands, stalls=True)


def test_time_of_pairs(rng):
    """The compiler reads the delay of pairs here; others must not wait for them, nor be late themselves."""
    target = config(2, 4, pairs=1)
    plain = random_command(rng, target, Rounding.ONNX) | {"n_count": 2, "m_count": 16}
    pair = random_pair(rng, target) | {"rounding": Rounding.ONNX, "n_count": 2, "m_count": 16}
    late = Engine.pair_delay_of(target)
    assert late > 0
    for commands, delays in (([plain, plain], 0), ([pair, plain], late), ([pair, pair], 2 * late),
                             ([plain, pair], late), ([pair, plain], late)):
        seen, groups = check(rng, target, commands)
        writes = np.array(seen["writes"])
        begun = late if commands[0] is pair else 0
        assert writes[0] - seen["first_read"] == seen["latency"] + begun
        assert writes[-1] - seen["first_read"] == seen["latency"] + sum(groups) + delays


@pytest.mark.parametrize(("lanes", "cols", "data_width", "pairs"), [
    (2, 8, 64, 0), (2, 8, 64, 1), (1, 1, 32, 0), (1, 32, 128, 0), (4, 4, 32, 1), (2, 4, 256, 0),
])
def test_products(rng, lanes, cols, data_width, pairs):
    """Products among sums, and sums of pairs: a wrong byte, zero point, addend or delay leaves wrong outputs."""
    target = config(lanes, cols, data_width=data_width, pairs=pairs, products=1)
    kinds = [random_product, random_product, random_command] + [random_pair] * pairs
    commands = [kinds[rng.integers(len(kinds))](rng, target, groups=int(rng.integers(2, 40))) for _ in range(14)]
    # Two whose zero points and addends differ, one right behind the other.
    commands += [random_product(rng, target, groups=30) for _ in range(2)]
    check(rng, target, commands)
    check(rng, target, commands, stalls=True)


@pytest.mark.parametrize(("lanes", "cols", "operand_bits", "data_width", "pairs"), [
    (2, 8, 8, 64, 0), (4, 4, 8, 64, 1), (1, 3, 8, 32, 0), (2, 4, 8, 64, 1), (2, 6, 16, 64, 0), (4, 12, 4, 128, 0),
])
def test_maxima(rng, lanes, cols, operand_bits, data_width, pairs):
    """Windows among other commands: a row of another window, a wrong sign, place or count leaves wrong outputs."""
    target = config(lanes, cols, operand_bits, data_width, pairs=pairs, maxima=1)
    commands = [random_windows(rng, target, groups=int(rng.integers(20, 160))) for _ in range(10)]
    whole = {"rounding": Rounding.ONNX, "low": -128, "high": 127, "scale_base": 0}
    commands += [random_pair(rng, target) | whole | {
        "n_count": 1, "m_count": 12, "reduce": 2, "reduce_unsigned": 0} for _ in range(3 * pairs)]
    check(rng, target, commands, stalls=bool(rng.integers(0, 2)))


def test_time_of_maxima(rng):
    """The compiler takes it that windows come no later than other outputs, at a row of sums for each group's turn."""
    target = config(2, 4, maxima=1)
    command = random_command(rng, target, Rounding.ONNX) | {
        "n_count": 2, "m_count": 12, "reduce": 3, "reduce_unsigned": 0}
    seen, groups = check(rng, target, [command, command])
    writes = np.array(seen["writes"])
    assert writes[0] - seen["first_read"] == seen["latency"] + 3 * 2
    assert writes[-1] - seen["first_read"] == seen["latency"] + sum(groups) - 1 + 1


def test_windows_fill_commands():
    """A command that ends inside a window, of which nothing would be written, breaks a rule."""
    windows = Windows()

    async def drive(ctx):
        ctx.set(windows.reduce, 3)
        ctx.set(windows.start, 1)
        await ctx.tick()
        ctx.set(windows.start, 0)
        ctx.set(windows.row_end, 1)
        for row in range(6):
            ctx.set(windows.last, row == 5)
            assert ctx.get(windows.opens) == (row % 4 == 0)
            assert ctx.get(windows.closes) == (row % 4 == 3)
            await ctx.tick()
        await ctx.tick()

    sim = Simulator(windows)
    sim.add_clock(1e-6)
    sim.add_testbench(drive)
    with pytest.raises(AssertionError, match=r"windows: m_count must be a multiple of reduce \+ 1"):
        sim.run()


def test_bias_matrix(rng):
    """With a bias for each row and column (Gemm's C), a step that is one off adds a neighbour's."""
    target = config(2, 4)
    command = random_command(rng, target) | {
        "bias": 1, "n_count": 2, "m_count": 7, "bias_base": 1, "bias_nstep": 14, "bias_mstep": 2,
        "rounding": Rounding.NONE, "out_base": 0, "out_mstep": 16, "out_nstep": 112}
    check(rng, target, [command])


@pytest.mark.parametrize(("lanes", "operand_bits", "data_width", "banks"),
                         [(1, 8, 64, 8), (2, 8, 64, 8), (4, 8, 64, 16), (2, 16, 64, 16), (1, 8, 256, 32)])
def test_output_banks(lanes, operand_bits, data_width, banks):
    """The storer reads the scratchpad by these numbers."""
    target = config(lanes, 4, operand_bits, data_width)
    assert (output_banks(target), output_lines(target)) == (banks, OUTPUT_BYTES // banks)


def test_output_too_small():
    """A scratchpad that can't hold two groups of sums must be refused, by name."""
    target = SystolicConfig(
        name="test", array=Array(rows=4, cols=16), post=Post(lanes=16), accumulators=Accumulators(depth=16),
        scratchpads=Scratchpads(activation_bytes=64, weight_bytes=64, output_bytes=64),
        memory=Memory(data_width=32))
    with pytest.raises(PearrayError, match=r"^scratchpads.output_bytes must be at least 128 .*, not 64$"):
        Engine(target)


#: What must be zero in commands of averages.
NONE = {"pair": 0, "bias": 0, "bias_nstep": 0, "per_channel": 0, "scale_nstep": 0, "table": 0, "out_nstep": 0}


def random_average(rng, target, *, terms=True, resume=False, search=True, tiles=None):
    """Draw a command of averages."""
    groups = target.sum_columns // target.post.lanes
    m_count = int(rng.integers(1, 1 + min(8, STATES // groups, OUTPUT_BYTES // target.sum_columns // 4)))
    tiles = (int(rng.integers(1, 6)) if tiles is None else tiles) if terms else 1
    # A scale of one leaves the number of a step as it is.
    return random_command(rng, target, Rounding.ONNX) | NONE | {
        "average": int(terms), "resume": int(resume), "search": int(search), "m_count": m_count, "scale_base": 0,
        "n_count": tiles + SEARCH * search, "zero_point": -128, "low": -128, "high": 127,
        "out_mstep": target.sum_columns}


def with_tables(rng, target, memories, sums, real):
    """Put terms of any magnitude and sign into the first table, and rising steps into the second."""
    words = np.zeros((256, pair_words(target)), np.int32)
    terms = (rng.uniform(-1, 1, 256) * 2.0 ** rng.integers(-12, 4, 256)).astype(np.float32)
    steps = np.sort((rng.uniform(-1, 1, 256) * 2.0 ** rng.integers(-8, 4, 256)).astype(np.float32))
    words[:, 0] = terms.view(np.int32)
    words[:, 1] = order(steps) if real else np.sort(rng.choice(sums.ravel(), 256))
    scale = memories[3].reshape(-1, 8).copy()
    scale[:target.post.lanes, :4] = np.ones(target.post.lanes, "<f4").view(np.uint8).reshape(-1, 4)
    return memories | {target.pair_memory: words.astype("<i4").view(np.uint8).reshape(-1), 3: scale.reshape(-1)}


def order(numbers):
    """Integers that rise with float32 numbers."""
    bits = numbers.view(np.int32)
    return np.where(bits < 0, bits ^ 0x7FFFFFFF, bits)


def expected_averages(target, sums, memories, commands):
    """Apply the definition of averages, one output at a time; others as ever."""
    words, written, states, counts = memories[target.pair_memory].view("<i4").reshape(256, -1), {}, {}, []
    groups = target.sum_columns // target.post.lanes
    for c in commands:
        if not (c.get("average") or c.get("search")):
            some, _ = expected_bytes(target, sums, memories, [c])
            written |= {at: some[at] for at in np.flatnonzero(some >= 0)}
            counts.append(c["n_count"] * c["m_count"] * groups)
            continue
        for m, column in np.ndindex(c["m_count"], target.sum_columns):
            state = states.get((m, column), np.float32(0)) if c["resume"] else np.float32(0)
            for n in range(c["n_count"] - SEARCH * c["search"]):
                found = sums[c["bank"], (c["acc_base"] + n * c["acc_nstep"] + m) % DEPTH, column]
                state = state + words[found & 255, :1].view(np.float32)[0] if c["average"] else np.int64(found)
            states[m, column] = state
            if c["search"]:
                level = order(np.float32([state]))[0] if c["average"] else state
                step = int(np.searchsorted(words[1:, 1], level, "right")) - 128
                at = c["out_base"] + m * c["out_mstep"] + column
                written[at % OUTPUT_BYTES] = step & 255
        counts.append(c["m_count"] * groups if c["search"] else 0)
    full = np.full(OUTPUT_BYTES, -1)
    full[list(written)] = list(written.values())
    return full, counts


def check_averages(rng, target, commands, real=True, **options):
    sums = random_sums(rng, target)
    memories = with_tables(rng, target, random_memories(rng, target), sums, real)
    written, seen = run(rng, target, sums, memories, commands, **options)
    wanted, counts = expected_averages(target, sums, memories, commands)
    wrong = np.flatnonzero(written != wanted)
    assert not len(wrong), (f"{len(wrong)} bytes wrong, first byte {wrong[0]}: {written[wrong[0]]} "
                            f"instead of {wanted[wrong[0]]}")
    assert seen["done"] == np.cumsum(counts).tolist(), "a command was not done after its own last write"
    assert seen["output_writes"] == sum(counts)
    return seen


@pytest.mark.parametrize(("lanes", "cols", "data_width"), [(2, 8, 64), (1, 1, 32), (4, 4, 64), (2, 24, 128)])
def test_averages(rng, lanes, cols, data_width):
    """Averages among other commands: a term too early or late, a wrong state, step or setting leaves wrong outputs."""
    target = config(lanes, cols, data_width=data_width, pairs=1, averages=1)

    def others():
        kind = random_pair if rng.random() < 0.5 else random_command
        return kind(rng, target, groups=int(rng.integers(2, 20)))

    commands = []
    for _ in range(3):
        commands += [random_average(rng, target), others(), random_average(rng, target, search=False)]
        # The same states.
        last = commands[-1]
        commands += [random_average(rng, target, resume=True) | {"m_count": last["m_count"]}]
    check_averages(rng, target, commands)
    check_averages(rng, target, commands[:4], stalls=True)


def test_integers(rng):
    """Sums that are looked for as they are must not be taken for float32 numbers, nor wait for additions."""
    target = config(2, 8, pairs=1, averages=1)
    commands = [random_average(rng, target, terms=False) for _ in range(4)]
    check_averages(rng, target, commands, real=False)


def test_time_of_averages(rng):
    """The compiler's timing reads here how long tiles of few and of many groups take."""
    target = config(2, 8, pairs=1, averages=1)
    for rows in (1, 2, 8):
        command = random_average(rng, target, tiles=3) | {"m_count": rows}
        seen, groups = check_averages(rng, target, [command]), rows * 4
        assert seen["reads"] == seen["groups"] == 3 * groups
        writes = np.array(seen["writes"])
        tiles = (3 + SEARCH - 1) * max(groups, AverageWalk.PERIOD)
        assert writes[0] - seen["first_read"] == seen["latency"] + Engine.pair_delay_of(target) + tiles
        assert writes[-1] - writes[0] + 1 == groups
