"""A post-processing lane against the golden rules, and against onnxruntime's own operators."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from pearray.golden import requantise as golden
from pearray.hdl.post.lane import Lane
from pearray.hdl.shell.commands import Rounding
from pearray.hdl.shell.config import Array, Memory, Post
from pearray.hdl.systolic.config import Accumulators, Scratchpads, SystolicConfig


def config(operand_bits=8, cols=4, lanes=2, data_width=64):
    return SystolicConfig(
        name="test", array=Array(rows=4, cols=cols, operand_bits=operand_bits), post=Post(lanes=lanes),
        scratchpads=Scratchpads(activation_bytes=1024, weight_bytes=1024, output_bytes=1024),
        accumulators=Accumulators(depth=16), memory=Memory(data_width=data_width))


def run(dut, beat_words, values, settings, table=None):
    """Load a table, then give values (dicts of ports) one per cycle with their settings; return outputs."""
    outputs = []

    async def drive(ctx):
        if table is not None:
            words = np.asarray(table, np.uint8).view("<u4").reshape(-1, beat_words)
            for place, word in enumerate(words.tolist()):
                ctx.set(dut.table.en, (1 << beat_words) - 1)
                for lane, data in enumerate(word):
                    ctx.set(dut.table.place[lane], place)
                    ctx.set(dut.table.data[lane], data)
                await ctx.tick()
            ctx.set(dut.table.en, 0)
        for cycle in range(len(values) + dut.latency + 1):
            ctx.set(dut.valid, cycle < len(values))
            for name, value in (values[cycle] if cycle < len(values) else {}).items():
                ctx.set(getattr(dut, name), value)
            given = cycle - dut.settings_cycle
            if 0 <= given < len(values):
                ctx.set(dut.settings, settings[given])
            assert ctx.get(dut.output_valid) == (dut.latency <= cycle), "an output came at another time"
            if cycle >= dut.latency and len(outputs) < len(values):
                outputs.append(ctx.get(dut.output))
            await ctx.tick()
            if cycle + 1 == len(values) + dut.latency:
                break

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(drive)
    sim.run()
    return np.array(outputs, np.uint64)


def signed(values, bits):
    values = values.astype(np.int64) & (1 << bits) - 1
    return values - ((values >> bits - 1) << bits)


def test_random(rng):
    """A wrong bias, zero point, clamp, table, ReLU or a setting that comes too early or late would show."""
    target = config()
    count = 3000
    table = rng.integers(0, 256, 512)
    values, settings, expected = [], [], []
    for _ in range(count):
        acc = int(rng.integers(-(1 << 31), 1 << 31) >> rng.integers(0, 31))
        bias = int(rng.integers(-(1 << 31), 1 << 31) >> rng.integers(0, 31)) if rng.random() < 0.7 else 0
        total = (acc + bias + (1 << 31)) % (1 << 32) - (1 << 31)
        rule = list(Rounding)[rng.integers(0, 4)]
        low, high = sorted(rng.integers(-128, 128, 2).tolist())
        if rng.random() < 0.5:
            low, high = (-128, 127) if rng.random() < 0.5 else (0, 255)
        zero_point = int(rng.integers(-128, 256))
        use_table = bool(rng.random() < 0.3) and rule != Rounding.NONE
        group = int(rng.integers(0, 2))
        shift = int(rng.integers(-3, 20))
        if rule == Rounding.ONNX:
            factor = np.float32(rng.uniform(0.1, 300) / max(abs(total), 1))
            scale = int(factor.view(np.uint32))
            output = int(golden.onnx(np.array([total]), factor, zero_point, low, high, axis=0)[0])
        else:
            scale = int(rng.integers(1 << 30, 1 << 31))
            output = total
            if rule != Rounding.NONE:
                output = int(golden.tflite(
                    np.array([total]), scale, -shift, zero_point, low, high, axis=0,
                    rounding="double" if rule == Rounding.TFLITE_DOUBLE else "single")[0])
        relu = rule == Rounding.NONE and bool(rng.random() < 0.3)
        if use_table:
            output = int(table[group * 256 + output % 256])
        elif relu:
            output = max(output, 0)
        expected.append(output % (1 << 32) if rule == Rounding.NONE else output % 256)
        values.append({"group": group, "rounding": rule, "accumulator": acc, "bias": bias, "scale": scale,
                       "shift": shift})
        raw = rule == Rounding.NONE
        settings.append({"zero_point": 0 if raw else zero_point, "low": low, "high": high,
                         "clamp": not raw, "table": use_table, "relu": relu})
    actual = run(Lane(target), 2, values, settings, table)
    mask = np.array([0xFFFFFFFF if value["rounding"] == Rounding.NONE else 0xFF for value in values])
    wrong = np.flatnonzero((actual & mask.astype(np.uint64)) != np.array(expected, np.uint64))
    assert not len(wrong), (f"{len(wrong)} wrong, first {values[wrong[0]]} {settings[wrong[0]]}: "
                            f"{actual[wrong[0]]}")


def test_wide(rng):
    """With 16-bit operands the sum has 48 bits, the output 16, and a table's byte is zero-extended."""
    count = 800
    values, settings, expected = [], [], []
    table = rng.integers(0, 256, 512)
    for _ in range(count):
        acc = int(rng.integers(-(1 << 47), 1 << 47) >> rng.integers(0, 47))
        bias = int(rng.integers(-(1 << 31), 1 << 31))
        total = (acc + bias + (1 << 47)) % (1 << 48) - (1 << 47)
        raw, use_table = bool(rng.random() < 0.3), bool(rng.random() < 0.3)
        zero_point, low, high = int(rng.integers(-1000, 1000)), -32768, 32767
        factor = np.float32(rng.uniform(1, 70000) / max(abs(total), 1))
        output = int(golden.onnx(np.array([total]), factor, zero_point, low, high, axis=0)[0])
        if use_table:
            output = int(table[256 + output % 256])
        expected.append((max(total, 0) if use_table else total) if raw else output)
        values.append({"group": 1, "rounding": Rounding.NONE if raw else Rounding.ONNX, "accumulator": acc,
                       "bias": bias, "scale": int(factor.view(np.uint32)), "shift": 0})
        settings.append({"zero_point": 0 if raw else zero_point, "low": low, "high": high,
                         "clamp": not raw, "table": use_table and not raw, "relu": use_table and raw})
    actual = run(Lane(config(16)), 2, values, settings, table)
    bits = [64 if value["rounding"] == Rounding.NONE else 16 for value in values]
    for index in range(count):
        value = int(actual[index]) & (1 << bits[index]) - 1
        assert value == expected[index] % (1 << bits[index]), f"{values[index]}: {value}"


@pytest.mark.parametrize(("cols", "lanes", "data_width"), [(3, 1, 32), (8, 8, 128), (4, 1, 512)])
def test_table_shapes(rng, cols, lanes, data_width):
    """Each of a lane's columns has its own table, however wide the words that filled it."""
    target = config(8, cols, lanes, data_width)
    groups = cols // lanes
    table = rng.integers(0, 256, groups * 256)
    group = rng.integers(0, groups, 300)
    total = rng.integers(-128, 128, 300)
    values = [{"group": int(g), "rounding": Rounding.TFLITE_DOUBLE, "accumulator": int(t) * 2, "bias": 0,
               "scale": 1 << 30, "shift": 0} for g, t in zip(group, total, strict=True)]
    settings = [{"zero_point": 0, "low": -128, "high": 127, "clamp": 1, "table": 1}] * 300
    actual = run(Lane(target), data_width // 32, values, settings, table)
    assert (actual.astype(np.int64) % 256 == table[group * 256 + total % 256]).all()


def test_onnxruntime(rng):
    """Outputs must be those of onnxruntime's QLinearConv and QLinearMatMul, element for element."""
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    helper, kinds = onnx.helper, onnx.TensorProto

    def infer(name, inputs, output, constants):
        node = helper.make_node(name, list(inputs) + list(constants), ["y"])
        node.input[:] = ["x", "x_scale", "x_zero", "w", "w_scale", "w_zero", "y_scale", "y_zero"]
        if "bias" in constants:
            node.input.append("bias")
        graph = helper.make_graph(
            [node], "g", [helper.make_tensor_value_info(k, kinds.INT8, v.shape) for k, v in inputs.items()],
            [helper.make_tensor_value_info("y", kinds.INT8, output)],
            [onnx.numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        return session.run(None, dict(inputs))[0]

    x_scale, y_scale, y_zero = np.float32(0.0371), np.float32(0.213), np.int8(-7)
    channels, depth, pixels = 6, 40, 12
    w_scale = rng.uniform(0.001, 0.02, channels).astype(np.float32)
    scale = golden.onnx_scale(x_scale, w_scale, y_scale)
    x = rng.integers(-128, 128, (1, depth, pixels, pixels)).astype(np.int8)
    w = rng.integers(-128, 128, (channels, depth, 1, 1)).astype(np.int8)
    bias = rng.integers(-20000, 20000, channels).astype(np.int32)
    constants = {"x_scale": x_scale, "x_zero": np.int8(3), "w": w, "w_scale": w_scale,
                 "w_zero": np.zeros(channels, np.int8), "y_scale": y_scale, "y_zero": y_zero, "bias": bias}
    y = infer("QLinearConv", {"x": x}, (1, channels, pixels, pixels), constants)
    sums = w[:, :, 0, 0].astype(np.int64) @ (x[0].reshape(depth, -1).astype(np.int64) - 3)

    a = rng.integers(-128, 128, (20, depth)).astype(np.int8)
    b = rng.integers(-128, 128, (depth, 15)).astype(np.int8)
    plain = np.float32(0.00437)
    flat = {"x_scale": x_scale, "x_zero": np.int8(3), "w": b, "w_scale": plain, "w_zero": np.int8(-2),
            "y_scale": y_scale, "y_zero": y_zero}
    product = infer("QLinearMatMul", {"x": a}, (20, 15), flat)
    matmul = (a.astype(np.int64) - 3) @ (b.astype(np.int64) + 2)

    cases = [(sums[c].tolist(), int(bias[c]), scale[c], y[0, c].ravel()) for c in range(channels)]
    cases.append((matmul.ravel().tolist(), 0, golden.onnx_scale(x_scale, plain, y_scale), product.ravel()))
    values = [{"rounding": Rounding.ONNX, "accumulator": value, "bias": offset,
               "scale": int(np.float32(factor).view(np.uint32))}
              for accs, offset, factor, _ in cases for value in accs]
    settings = [{"zero_point": int(y_zero), "low": -128, "high": 127, "clamp": 1, "table": 0}] * len(values)
    actual = signed(run(Lane(config()), 2, values, settings), 8)
    expected = np.concatenate([case[3] for case in cases])
    assert (np.abs(expected) < 127).mean() > 0.2, "nearly every output was clipped"
    assert (actual == expected).all(), f"{(actual != expected).sum()} of {len(expected)} differ"
