# amaranth: UnusedElaboratable=no
"""The post engine against NumPy: whole commands, from accumulator rows to bytes of the output scratchpad."""

import numpy as np
import pytest
from amaranth.sim import Simulator
from post_commands import (
    DEPTH,
    OUTPUT_BYTES,
    config,
    expected_bytes,
    line_config,
    random_command,
    random_memories,
    random_pair,
    random_product,
    random_sums,
    run,
)
from slow import slow

from pearray import PearrayError
from pearray.hdl.post.average import SEARCH, STATES, AverageWalk
from pearray.hdl.post.engine import Post as Engine
from pearray.hdl.post.maxima import Windows
from pearray.hdl.post.pairs import pair_words
from pearray.hdl.shell.commands import Rounding
from pearray.hdl.shell.config import Array, Memory, Post
from pearray.hdl.systolic.config import Accumulators, Scratchpads, SystolicConfig


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
    (1, 1, 8, 32), slow(1, 4, 8, 64), (2, 4, 8, 64), slow(2, 8, 8, 32), (4, 4, 8, 64), (4, 12, 4, 128),
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
    (2, 8, 64), (1, 1, 32), slow(1, 32, 128), (4, 4, 32), (2, 4, 256), slow(4, 12, 128),
])
def test_pairs(rng, lanes, cols, data_width):
    """Sums of table entries among other sums: a wrong byte, table, entry, lane or delay leaves wrong outputs."""
    target = config(lanes, cols, data_width=data_width, pairs=1)
    commands = [random_pair(rng, target, groups=int(rng.integers(2, 40))) if rng.random() < 0.6
                else random_command(rng, target, groups=int(rng.integers(2, 40))) for _ in range(14)]
    check(rng, target, commands)
    check(rng, target, commands, stalls=True)


@pytest.mark.parametrize(("lanes", "cols", "operand_bits", "data_width", "pairs"), [
    (2, 8, 8, 64, 0), slow(1, 4, 8, 32, 0), slow(8, 16, 8, 128, 1), (4, 4, 8, 32, 0), (2, 4, 16, 64, 0),
    (4, 8, 8, 256, 1),
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
    (2, 8, 64, 0), slow(2, 8, 64, 1), (1, 1, 32, 0), slow(1, 32, 128, 0), (4, 4, 32, 1), (2, 4, 256, 0),
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
    (2, 8, 8, 64, 0), (4, 4, 8, 64, 1), (1, 3, 8, 32, 0), slow(2, 4, 8, 64, 1), (2, 6, 16, 64, 0),
    slow(4, 12, 4, 128, 0),
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
    assert (target.output_banks, target.output_lines) == (banks, OUTPUT_BYTES // banks)


def test_output_too_small():
    """A scratchpad that can't hold two groups of sums must be refused, by name."""
    with pytest.raises(PearrayError, match=r"^scratchpads.output_bytes must be at least 128 .*, not 64$"):
        SystolicConfig(
            name="test", array=Array(rows=4, cols=16), post=Post(lanes=16), accumulators=Accumulators(depth=16),
            scratchpads=Scratchpads(activation_bytes=64, weight_bytes=64, output_bytes=64),
            memory=Memory(data_width=32))


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


@pytest.mark.parametrize(("lanes", "cols", "data_width"), [(2, 8, 64), (1, 1, 32), (4, 4, 64), slow(2, 24, 128)])
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
