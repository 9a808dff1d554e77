"""LSTMs of TensorFlow Lite files: products in programs, gates on the host, to the last bit as LiteRT's kernel."""

import numpy as np
import pytest
from random_workloads import configuration, interpret
from tflite_lstm import drawn_lstm
from tflite_models import Tflite, reference

import pearray as pe
from pearray.compiler.graph.parts import parts_of
from pearray.golden import short_gemmlowp

SMALL = configuration(4, 4)


def _lstm(rng, folder, **options):
    """Drawn model of an LSTM, the content of its file, the name of its output, and an input."""
    model, (batch, steps, size) = Tflite(), rng.integers(1, 7, 3)
    shape = (int(steps), int(batch), int(size)) if options.get("time_major") else (int(batch), int(steps), int(size))
    x = model.tensor(shape, float(np.float32(rng.uniform(0.01, 0.05))), int(rng.integers(-30, 30)), name="x")
    y = drawn_lstm(rng, model, x, shape, int(rng.integers(1, 8)), **options)
    content = model.content([x], [y])
    (folder / "model.tflite").write_bytes(content)
    found = pe.load_tflite(folder / "model.tflite", fallback="host")
    return found, content, model.tensors[y].name, rng.integers(-128, 128, shape).astype(np.int8)


@pytest.mark.parametrize("options", [
    {}, {"time_major": True}, {"coupled": True}, {"clip": 3.0, "cell_bits": 12}, {"cell_bits": 9}, {"cell_bits": 15},
    {"cell_bits": 10, "time_major": True, "coupled": True}])
def test_equals_the_reference_kernel(rng, tmp_path, options):
    """Any scale, order of axes, limit and number of bits of the cell state: a rounding that differs goes on."""
    for _ in range(8):
        model, content, name, x = _lstm(rng, tmp_path, **options)
        made = pe.golden_run(model, {"x": x, **model.initial})
        np.testing.assert_array_equal(made[name], reference(content, {"x": x})[name])


def test_programs_are_products(rng, tmp_path):
    """One product of the whole sequence, and one for each step, whatever the host computes between them."""
    model, _, name, x = _lstm(rng, tmp_path)
    inputs = {"x": x, **model.initial}
    graph = model.graph_for(inputs)
    values, steps = inputs | graph.golden(inputs), x.shape[1]
    programs = [part for part in parts_of(graph) if not part.on_host]
    assert len(programs) == steps
    macs = 0
    for part in programs:
        compiled = interpret(part.graph, {each: values[each] for each in part.graph.inputs}, SMALL, effort=0)
        macs += sum(layer.macs for layer in compiled.layers)
    cells, rows = values[name].shape[2], x.shape[0] * steps
    assert macs == rows * 4 * cells * (x.shape[2] + cells)


def test_states_go_on(rng, tmp_path):
    """A second run begins where the first one has ended, as LiteRT's variables do."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    model, content, name, x = _lstm(rng, tmp_path)
    theirs = Interpreter(model_content=content, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    theirs.allocate_tensors()
    states = model.initial
    for _ in range(3):
        x = rng.integers(-128, 128, x.shape).astype(np.int8)
        theirs.set_tensor(theirs.get_input_details()[0]["index"], x)
        theirs.invoke()
        made = pe.golden_run(model, {"x": x, **states})
        np.testing.assert_array_equal(made[name], theirs.get_tensor(theirs.get_output_details()[0]["index"]))
        states = {each: made[after] for each, after in model.states.items()}


def test_functions_are_near_real_ones():
    """A constant or a shift that is wrong is far off for some of the words."""
    words = np.arange(-1 << 15, 1 << 15).astype(np.int16)
    real = words.astype(np.float64)
    assert np.abs(short_gemmlowp.sigmoid(words) - 32768 / (1 + np.exp(-real / 4096))).max() < 7
    for bits in range(7):
        wanted = np.tanh(real / 2.0**(15 - bits)) * 32768
        assert np.abs(short_gemmlowp.tanh(words, bits) - wanted).max() < 13


def test_refusals_are_told(rng, tmp_path):
    """Without the host, and with what no LSTM has here, one line says what to do."""
    _lstm(rng, tmp_path)
    with pytest.raises(pe.PearrayError, match=r"gates are sigmoids .* of words of 16 bits.*with fallback='host'"):
        pe.load_tflite(tmp_path / "model.tflite").graph()
    model, shape = Tflite(), (1, 2, 3)
    x = model.tensor(shape, 0.1, 0, name="x")
    y = drawn_lstm(rng, model, x, shape, 4)
    model.nodes[0][1][9:12] = [model.constant(np.ones(4, np.int16), 1e-3)] * 3
    (tmp_path / "model.tflite").write_bytes(model.content([x], [y]))
    with pytest.raises(pe.PearrayError, match="it must be without peepholes"):
        pe.load_tflite(tmp_path / "model.tflite", fallback="host").graph()
