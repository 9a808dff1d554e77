"""Accelerators with the row-stationary array: whole layers by hand-made programs, both arithmetic modes."""

import subprocess

import numpy as np
import pytest
from kinds import SMALL
from pass_layers import Layer
from words import pack, wrap

import pearray as pe
from pearray.golden import run_length
from pearray.golden.requantise import onnx
from pearray.hdl.row_stationary.commands import Destination
from pearray.hdl.row_stationary.row import array_shape
from pearray.hdl.shell.commands import Opcode, Rounding
from pearray.sim import Disturbance, Job, run
from pearray.sim.design import emitted
from pearray.sim.tools import verilator_environment, verilator_root

KIND = "row-stationary"
CONFIGS = {bits: SMALL[f"row-stationary-{bits}"] for bits in (8, 16)}

#: Places in DRAM, and lines of the buffers.
PROGRAM, IFMAP, BIASES, FILTERS, SCALES, RECORD_AT, OFMAP = (0x10000 * index for index in range(1, 8))
IFMAP_LINE, BIAS_LINE, PSUM_LINE = 0, 320, 384


class Program:
    """Commands in order, and the memory image that they work on."""

    def __init__(self):
        self.commands, self.segments = [], []
        self.counts = dict.fromkeys(("load", "execute", "post", "store"), 0)

    def add(self, opcode, waits, **body):
        """Append a command; return how many of its queue there are then, for others to wait for."""
        self.commands.append((opcode, dict(waits), body))
        self.counts[opcode.name.lower()] += 1
        return self.counts[opcode.name.lower()]

    def load(self, destination, dram, address, content, **waits):
        """Put bytes into memory and load them as one row."""
        self.segments.append((dram, content))
        return self.add(Opcode.LOAD, waits, destination=destination, dram=dram, address=address, length=len(content),
                        count1=1, count2=1)

    def job(self, config, read):
        """Job that reads regions back."""
        commands = [*self.commands, (Opcode.END, self.counts, {})]
        image = b"".join(config.commands.encode(opcode, waits, body, len(commands) - 1 - index)
                         for index, (opcode, waits, body) in enumerate(commands))
        return Job(config, [*self.segments, (PROGRAM, image)], PROGRAM, read)


def lines(values, bits):
    """Bytes of lines that hold words of a number of bits."""
    lanes = 64 // bits
    words = np.append(np.reshape(values, -1), np.zeros(-np.size(values) % lanes, np.int64))
    return np.array(pack(words.reshape(-1, lanes), bits), "<u8").tobytes()


def draw(rng, config, maximum):
    """Layer that fits the buffers."""
    shape = array_shape(config)
    while True:
        layer = Layer(rng, config.array.rows, config.array.cols, config.array.operand_bits, config.psum_bits, maximum)
        _, filters = layer.commands(0, 0, 0, 0)
        if (layer.x.size * layer.bits <= 64 * BIAS_LINE and len(layer.bias_lines()) <= PSUM_LINE - BIAS_LINE
                and layer.psum_lines() <= config.buffer_lines - PSUM_LINE
                and len(layer.setup_lines(shape)) + len(filters) <= config.filter_lines):
            return layer


def compute(program, config, layer, ifmap):
    """Append what fills the global buffer with a layer's sums; ``ifmap`` is the load of its ifmap."""
    setup = np.array(layer.setup_lines(array_shape(config)), "<u8").tobytes()
    commands, filters = layer.commands(IFMAP_LINE * 64 // layer.bits, PSUM_LINE, BIAS_LINE, len(setup) // 8)
    program.load(Destination.GLOBAL_BUFFER, BIASES, 8 * BIAS_LINE, np.array(layer.bias_lines(), "<u8").tobytes())
    first = program.load(Destination.FILTER_BUFFER, FILTERS, 0, setup)
    last = program.load(Destination.FILTER_BUFFER, FILTERS + len(setup), len(setup),
                        np.array(filters, "<u8").tobytes())
    program.add(Opcode.EXECUTE, {"load": first}, **commands[0])
    for command in commands[1:]:
        program.add(Opcode.EXECUTE, {"load": max(last, ifmap)}, **command)
    # What passes read is overwritten as soon as they have: a load that came too early would spoil their sums.
    for destination, address, size in ((Destination.FILTER_BUFFER, len(setup), 8 * len(filters)),
                                       (Destination.GLOBAL_BUFFER, 8 * IFMAP_LINE, layer.x.size * layer.bits // 8)):
        program.add(Opcode.LOAD, {"execute": len(commands)}, destination=destination, fill=1, value=0x5A,
                    address=address, length=size, count1=1, count2=1)


def check_record(outcome, region, layer, config):
    """Hold the record to the layer's own counts, and the counters to the record."""
    record = dict(zip(config.commands.record, np.frombuffer(region, "<u4").tolist(), strict=True))
    counts = layer.counts()
    expected = {"ifmap_reads": "ifmap_read", "filter_reads": "filter_read", "psum_reads": "psum_read",
                "psum_writes": "psum_write", "passed": "passed", "ifmap_spad_writes": "ifmap_write",
                "filter_spad_writes": "filter_write"}
    assert {name: record[name] for name in expected} == {name: counts[event] for name, event in expected.items()}
    assert record["macs"] + record["gated"] == counts["products"]
    assert record["active_pes"] == layer.t * layer.r * layer.height * layer.e
    counters = outcome.counters
    # Behind the record, memory is waited for until it has been written.
    for name in config.commands.record[5:]:
        assert counters[f"execute_{name}"] == record[name], name
    assert counters["execute_active"] == record["active"]
    assert counters["execute_stall_dram"] >= record["stall_dram"]
    assert 0 < record["cycles"] <= counters["cycles"]
    assert record["active"] >= -(-counts["products"] // config.pes)
    assert 0 < record["stall_dram"] <= record["cycles"] - record["active"]
    assert record["read_beats"] <= counters["fetch_beats"] + counters["load_beats"]


def disturbance(seed, number):
    """Another memory for each run, from ideal to one that mostly stalls."""
    return Disturbance(stall=[0.0, 0.2, 0.7][number % 3], seed=seed + number)


@pytest.mark.parametrize("number", range(8))
def test_eight_bits(seed, number):
    """Sums of passes, biases, maxima or requantised outputs would differ between program and hardware."""
    rng = np.random.default_rng([seed, number])
    config, program = CONFIGS[8], Program()
    layer, raw = draw(rng, config, number % 4 == 3), bool(number % 2)
    ifmap = program.load(Destination.GLOBAL_BUFFER, IFMAP, 8 * IFMAP_LINE, lines(layer.x, 8))
    lanes, pixels, beats = layer.psum_lanes, layer.n * layer.e * layer.f, layer.blocks * layer.t * layer.beats
    scales = rng.uniform(1e-6, 1e-4, beats * lanes).astype("<f4")
    entries = np.zeros((beats * lanes, 2), "<f4")
    entries[:, 0] = scales
    scale = program.load(Destination.SCALE, SCALES, 0, entries.tobytes())
    compute(program, config, layer, ifmap)
    size = config.sum_bytes if raw else 1
    row = beats * lanes * size
    # As many pixels at a time as half the output scratchpad holds.
    most = max(1, config.scratchpads.output_bytes // 2 // row)
    for start in range(0, pixels, most):
        part = min(most, pixels - start)
        half = start // most % 2 * (config.scratchpads.output_bytes // 2)
        rounding = {"rounding": Rounding.NONE} if raw else {
            "rounding": Rounding.ONNX, "per_channel": 0, "scale_mstep": 1, "zero_point": 3, "low": -128, "high": 127}
        post = program.add(
            Opcode.POST, {"execute": program.counts["execute"], "load": scale, "store": max(0, start // most - 1)},
            n_count=part, m_count=beats, acc_base=PSUM_LINE + start * beats, acc_nstep=beats, out_base=half,
            out_nstep=row, out_mstep=lanes * size, **rounding)
        program.add(Opcode.STORE, {"post": post}, dram=OFMAP + start * row, address=half, length=part * row, count1=1,
                    count2=1)
    program.add(Opcode.STORE, program.counts, profile=1, dram=RECORD_AT)
    outcome = run(program.job(config, [(OFMAP, pixels * row), (RECORD_AT, 64)]),
                  disturbance=disturbance(seed, number))
    got = np.frombuffer(outcome.regions[0], "<i4" if raw else "i1").reshape(
        layer.n, layer.e, layer.f, layer.blocks, layer.t, -1)[..., :layer.p]
    got = got.transpose(0, 3, 4, 5, 1, 2).reshape(layer.n, layer.filters, layer.e, layer.f)
    expected = layer.expected()
    if not raw:
        expected = onnx(expected, scales.reshape(layer.blocks, layer.t, -1)[..., :layer.p].reshape(-1), 3)
    np.testing.assert_array_equal(got, expected)
    check_record(outcome, outcome.regions[1], layer, config)


@pytest.mark.parametrize("number", range(8))
def test_sixteen_bits(seed, number):
    """Sums in fixed point, or codes to and from memory, would differ between program and hardware."""
    rng = np.random.default_rng([seed, number])
    config, program = CONFIGS[16], Program()
    layer, coded, relu = draw(rng, config, number % 4 == 3), bool(number % 2), bool(number // 2 % 2)
    if coded:
        layer.x[rng.random(layer.x.shape) < 0.6] = 0
        code = run_length.encode(layer.x.reshape(-1).astype(np.int16)).tobytes()
        # The code may take more than it does.
        program.segments.append((IFMAP, code + b"\xA5" * 64))
        ifmap = program.add(Opcode.LOAD, {}, destination=Destination.GLOBAL_BUFFER_CODED, dram=IFMAP,
                            address=8 * IFMAP_LINE, length=len(code) + 64, count1=1, count2=1)
    else:
        ifmap = program.load(Destination.GLOBAL_BUFFER, IFMAP, 8 * IFMAP_LINE, lines(layer.x, 16))
    compute(program, config, layer, ifmap)
    row, rows = 8 * layer.blocks * layer.t * layer.beats, layer.n * layer.e * layer.f
    program.add(Opcode.STORE, {"execute": program.counts["execute"]}, coded=int(coded), relu=int(relu), dram=OFMAP,
                dram_step1=row, address=8 * PSUM_LINE, step1=row, length=row, count1=rows, count2=1)
    program.add(Opcode.STORE, program.counts, profile=1, dram=RECORD_AT)
    outcome = run(program.job(config, [(OFMAP, 2 * rows * row), (RECORD_AT, 64)]),
                  disturbance=disturbance(seed, number))
    if coded:
        code = np.frombuffer(outcome.regions[0], "<u8")
        end = np.flatnonzero(code >> np.uint64(63))[0] + 1
        words = run_length.decode(code[:end], rows * row // 2).view(np.int16)
        np.testing.assert_array_equal(code[:end], run_length.encode(words))
        assert set(code[end:].tolist()) <= {0xA5A5A5A5A5A5A5A5}
    else:
        words = np.frombuffer(outcome.regions[0][:rows * row], "<i2")
    got = words.reshape(layer.n, layer.e, layer.f, layer.blocks, layer.t, -1)[..., :layer.p]
    got = got.transpose(0, 3, 4, 5, 1, 2).reshape(layer.n, layer.filters, layer.e, layer.f)
    expected = wrap(layer.expected(), 16)
    np.testing.assert_array_equal(got, np.maximum(expected, 0) if relu else expected)
    check_record(outcome, outcome.regions[1], layer, config)


@pytest.mark.parametrize("config", [*CONFIGS.values(), pe.load_config("eyeriss").hardware], ids=["8", "16", "eyeriss"])
def test_lint(config, tmp_path):
    """A tool would read the Verilog otherwise than we do, or not at all."""
    verilog = emitted(config)
    (tmp_path / "top.v").write_text(verilog.text)
    subprocess.run([verilator_root() / "bin" / "verilator_bin", "--lint-only", "-Wno-WIDTHEXPAND", "--top-module",
                    verilog.top, "top.v"], cwd=tmp_path, env=verilator_environment(), check=True)


def test_post_is_refused(rng):
    """A command for an engine that is not there would hang the accelerator."""
    program = Program()
    program.add(Opcode.POST, {}, n_count=1, m_count=1)
    with pytest.raises(pe.PearrayError, match=rf"error 5 \(bad command\) at address 0x{PROGRAM:08x}"):
        run(program.job(CONFIGS[16], []))


def test_hung_memory_is_reported(rng):
    """The message would name commands of the other kind of array, or none."""
    config, program = CONFIGS[8], Program()
    layer = draw(rng, config, 0)
    compute(program, config, layer, program.load(Destination.GLOBAL_BUFFER, IFMAP, 0, lines(layer.x, 8)))
    with pytest.raises(pe.PearrayError, match=r"execute command 1 .* waits for load 3"):
        run(program.job(config, []), disturbance=Disturbance(hang=FILTERS))
