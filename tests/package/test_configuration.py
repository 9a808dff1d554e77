"""Configurations by name, from TOML, with overrides, and every way to get them wrong."""

import dataclasses
import re
import subprocess
import sys

import pytest

import pearray as pe
from pearray.configuration import configuration_keys
from pearray.generation import describe
from pearray.hdl.kinds import kinds

#: pearray's own, and those of plug-ins that happen to be installed.
KINDS = " or ".join(map(repr, kinds()))

#: Beginning of what is said of other operands.
FORMATS = "array.operands must be integer or bfloat16, float16, float8_e4m3fn, float8_e5m2, not "

MINIMAL = """
[array]
rows = 4
cols = 6
[scratchpads]
activation_bytes = 1024
weight_bytes = 512
output_bytes = 256
[accumulators]
depth = 16
[post]
lanes = 2
[memory]
data_width = 32
"""


def test_presets():
    """A renamed or lost preset breaks everybody's command lines."""
    assert pe.presets() == ["systolic-8x8", "systolic-8x8-bf16", "systolic-8x8-fp8", "systolic-16x16", "systolic-32x32",
                            "systolic-32x32-bf16", "eyeriss"]


@pytest.mark.parametrize(("name", "pes", "width", "scratchpad_kib", "accumulator_kib"), [
    ("systolic-8x8", 64, 64, 32, 32),
    ("systolic-16x16", 256, 128, 256, 64),
    ("systolic-32x32", 1024, 256, 512, 128),
    ("systolic-8x8-bf16", 64, 128, 64, 32),
    ("systolic-8x8-fp8", 64, 64, 32, 32),
    ("systolic-32x32-bf16", 1024, 512, 1024, 128),
])
def test_presets_keep_the_contract(name, pes, width, scratchpad_kib, accumulator_kib):
    """A preset that outgrows its promised memory makes every published figure unfair."""
    system = pe.load_config(name)
    config, memory = system.hardware, system.memory
    pads = config.scratchpads
    assert (system.name, system.pes, system.array) == (name, pes, config.array)
    assert (config.pes, config.memory.data_width) == (pes, width)
    assert pads.activation_bytes + pads.weight_bytes + pads.output_bytes <= scratchpad_kib << 10
    assert 2 * config.accumulators.depth * config.array.cols * config.sum_bytes <= accumulator_kib << 10
    assert (memory.read_latency, memory.write_latency) == (32, 32)
    assert (memory.outstanding, memory.beats_per_cycle) == (8, 1)


def test_toml_file_and_overrides(tmp_path):
    """A user's own file is as good as a preset, and overrides win over it."""
    path = tmp_path / "mine.toml"
    path.write_text(MINIMAL)
    config = pe.load_config(path, overrides={"array.rows": 3, "memory.read_latency": 7})
    assert (config.name, config.array.rows, config.array.cols) == ("mine", 3, 6)
    assert (config.memory.read_latency, config.memory.write_latency) == (7, 32)
    assert pe.load_config(str(path)).array.rows == 4
    assert pe.load_config(config, overrides={"array.rows": 4}) == pe.System(dataclasses.replace(
        config.hardware, array=dataclasses.replace(config.array, rows=4)), config.memory)
    assert pe.load_config(config.hardware) == pe.System(config.hardware, pe.MemoryTiming())


@pytest.mark.parametrize("name", pe.presets())
def test_no_hardware_knows_how_fast_memory_is(name):
    """Verilog that depended on the timing of a model would be other hardware in simulation than on a board."""
    plain, slow = pe.load_config(name), pe.load_config(name, {
        "memory.read_latency": 77, "memory.write_latency": 1, "memory.outstanding": 3, "memory.beats_per_cycle": 0.5})
    assert slow.memory == pe.MemoryTiming(read_latency=77, write_latency=1, outstanding=3, beats_per_cycle=0.5)
    assert slow.hardware == plain.hardware
    assert {field.name for field in dataclasses.fields(slow.hardware.memory)} == {"data_width"}
    assert describe(slow.hardware, "pe")[1]["verilog_sha256"] == describe(plain.hardware, "pe")[1]["verilog_sha256"]


@pytest.mark.parametrize(("overrides", "message"), [
    ({"aray.rows": 8}, "unknown configuration key 'aray.rows': did you mean 'array.rows'? allowed: "),
    ({"array": 8}, "unknown configuration key 'array': "),
    ({"array.rwos": 8}, "unknown key of systolic-8x8 'array.rwos': did you mean 'array.rows'? allowed: "),
    ({"array.rows": "8"}, "array.rows must be an integer in 1..256, not '8'"),
    ({"array.rows": True}, "array.rows must be an integer in 1..256, not True"),
    ({"array.rows": 0}, "array.rows must be an integer in 1..256, not 0"),
    ({"array.rows": 8.0}, "array.rows must be an integer in 1..256, not 8.0"),
    ({"array.kind": "systolik"}, f"array.kind must be {KINDS}, not 'systolik'"),
    ({"array.kind": "row-stationary"}, "array.kind of systolic-8x8 is 'systolic' and cannot be overridden with "),
    ({"pe.filter_words": 100}, "unknown configuration key 'pe.filter_words': "),
    ({"memory.data_width": 48}, "memory.data_width must be a power of two in 32..512, not 48"),
    ({"memory.beats_per_cycle": float("nan")}, "memory.beats_per_cycle must be a number in 0.001..1, not nan"),
    ({"post.transposed": 2}, "post.transposed must be an integer in 0..1, not 2"),
    ({"post.lanes": 16}, "post.lanes must divide array.cols = 8, not 16"),
])
def test_wrong_overrides(overrides, message):
    """A wrong override that went unnoticed would measure another design than asked for."""
    with pytest.raises(pe.PearrayError, match=f"^{re.escape(message)}") as caught:
        pe.load_config("systolic-8x8", overrides=overrides)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("overrides", "message"), [
    ({"array.operands": "bf16"}, f"{FORMATS}'bf16'"),
    ({"array.operands": "float32"}, f"{FORMATS}'float32'"),
    ({"array.operands": 16}, f"{FORMATS}16"),
    ({"array.operand_bits": 12},
     "array.operand_bits must be 16, or the default 8 to mean that, with array.operands = 'bfloat16', "),
    ({"array.sum_cycles": 9}, "array.sum_cycles must be an integer in 1..8, not 9"),
    ({"array.product_cycles": 0}, "array.product_cycles must be an integer in 1..6, not 0"),
    ({"array.operands": "integer"}, "array.product_cycles must be 1 with array.operands = 'integer', not 6"),
    ({"array.toeplitz": 1}, "array.toeplitz must be 0 with array.operands = 'bfloat16', not 1"),
    ({"post.pairs": 1}, "post.pairs must be 0 with array.operands = 'bfloat16', not 1"),
    ({"post.softmax": 0}, "scratchpads.moves must be 0 with array.operands = 'bfloat16' and without post.softmax "),
])
def test_what_an_array_of_floats_cannot_have(overrides, message):
    """A function that floats do not have would be built for integers, and never be right."""
    with pytest.raises(pe.PearrayError, match=f"^{re.escape(message)}") as caught:
        pe.load_config("systolic-8x8-bf16", overrides=overrides)
    assert "\n" not in str(caught.value)


def test_format_decides_the_bits_of_operands():
    """Operands of a wrong width would stand in memory as no NumPy array does."""
    config = pe.load_config("systolic-8x8", {
        "array.operands": "float16", **dict.fromkeys(
            ["scratchpads.moves", *(f"post.{each}" for each in ("pairs", "products", "averages", "maxima", "softmax"))],
            0)}).hardware
    assert (config.array.operand_bits, config.operand_bytes) == (16, 2)
    assert (config.accumulator_bits, config.sum_bytes) == (32, 4)
    assert config.capabilities["exponent_bits"][0] == 5
    assert "exponent_bits" not in pe.load_config("systolic-8x8").hardware.capabilities
    # What was loaded can be loaded again.
    assert pe.load_config(config).hardware == config


def test_eyeriss_is_the_chip():
    """Figures of another machine would be compared with those published for the chip."""
    system = pe.load_config("eyeriss")
    config = system.hardware
    assert system.memory == pe.MemoryTiming(beats_per_cycle=0.3)
    assert (config.array.rows, config.array.cols, config.array.operand_bits) == (12, 14, 16)
    assert (config.pe.ifmap_words, config.pe.filter_words, config.pe.psum_words) == (12, 224, 24)
    assert (config.buffer_lines * config.line_bytes, config.filter_lines * config.line_bytes) == (100 << 10, 8 << 10)
    assert (config.word_bits, config.psum_bits, config.psum_lanes, config.filter_lanes) == (16, 16, 4, 4)
    # What the chip has, and 16 beats of filters that wait beside it.
    assert config.memories["PEs"] == 168 * (224 + 12 + 24 + 16 * 4) * 2
    smaller = pe.load_config(system, overrides={"pe.filter_words": 100, "memory.outstanding": 2})
    assert smaller.memory == pe.MemoryTiming(outstanding=2, beats_per_cycle=0.3)
    smaller = smaller.hardware
    assert (smaller.pe.filter_words, smaller.global_buffer) == (100, config.global_buffer)
    other = pe.load_config("eyeriss", overrides={"array.operand_bits": 8}).hardware
    assert (other.word_bits, other.psum_bits, other.post.lanes, other.filter_lanes) == (9, 32, 2, 8)


@pytest.mark.parametrize(("overrides", "message"), [
    ({"accumulators.depth": 64}, "unknown configuration key 'accumulators.depth': allowed: array.kind, "),
    ({"pe.filter_word": 64}, "unknown key of eyeriss 'pe.filter_word': did you mean 'pe.filter_words'? allowed: "),
    ({"scratchpads.weight_bytes": 64}, "unknown key of eyeriss 'scratchpads.weight_bytes': did you mean '"),
    ({"pe.ifmap_words": 0}, "pe.ifmap_words must be an integer in 1..255, not 0"),
    ({"array.operand_bits": 12}, "array.operand_bits must be 8 or 16 for array.kind = 'row-stationary', not 12"),
    ({"pe.filter_queue": 1}, "pe.filter_queue must be 0 or a power of two in 2..32, not 1"),
    ({"global_buffer.banks": 200}, "global_buffer.banks * global_buffer.bank_lines must be at most 65536, not 102400"),
])
def test_wrong_overrides_of_the_other_kind(overrides, message):
    """A key of the other kind that went unnoticed would measure another design than asked for."""
    with pytest.raises(pe.PearrayError, match=f"^{re.escape(message)}"):
        pe.load_config("eyeriss", overrides=overrides)


@pytest.mark.parametrize(("text", "message"), [
    ("[array\nrows = 8", "cannot be read as TOML: "),
    ("\xff\x00", "cannot be read as TOML: "),
    ("[arrays]\nrows = 8", "'arrays': did you mean 'array'? allowed: array, scratchpads, "),
    ("array = 3", "array of "),
    (MINIMAL.replace("rows = 4", "rows = 4\nkind = []"), f"array.kind must be {KINDS}, not []"),
    ("[array]\nkind = 'row-stationary'\n[accumulators]\n", "'accumulators': allowed: array, pe, global_buffer, "),
    (MINIMAL.replace("rows = 4", ""), "array.rows is missing from "),
    (MINIMAL + "read_latency = 0", "memory.read_latency must be an integer in 1..10000, not 0"),
])
def test_wrong_files(tmp_path, text, message):
    """A corrupt file must say what is wrong with it in one line."""
    path = tmp_path / "wrong.toml"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(pe.PearrayError, match=re.escape(message)) as caught:
        pe.load_config(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("source", "message"), [
    ("systolic-9x9", "unknown configuration 'systolic-9x9': did you mean 'systolic-8x8'? allowed: "),
    ("nowhere.toml", "configuration 'nowhere.toml' is not a file"),
    (3, "configuration must be a preset's name, the path of a TOML file, a System or a Config, not 3"),
])
def test_wrong_sources(source, message):
    """A misspelt configuration must name the ones there are."""
    with pytest.raises(pe.PearrayError, match=f"^{re.escape(message)}"):
        pe.load_config(source)


def test_every_key_is_named():
    """The list that error messages give must hold every field of every section."""
    assert {"array.rows", "scratchpads.channels", "memory.beats_per_cycle"} <= set(configuration_keys())


def test_import_is_light():
    """``import pearray`` must work without, and not wait for, any optional or heavy dependency."""
    heavy = "amaranth cocotb onnx onnxruntime numpy rich typer"
    code = (f"import sys, pearray; found = set({heavy!r}.split()) & set(sys.modules); "
            "assert not found, found; assert issubclass(pearray.PearrayError, ValueError)")
    subprocess.run([sys.executable, "-c", code], check=True)
