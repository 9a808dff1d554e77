"""What load_tflite takes and what it refuses, in one line that says what to do."""

import sys
import time

import numpy as np
import pytest
from kinds import SMALL as ACCELERATORS
from random_workloads import configuration, interpret

import pearray as pe
from pearray.workloads.workload import load_workload

pytest.importorskip("ai_edge_litert", reason="LiteRT has no wheel for this platform")
pytest.importorskip("tflite")

from tflite_draw import same, values
from tflite_draw_moves import FAMILIES, draw
from tflite_models import Tflite, reference
from tflite_networks import NETWORKS

WINDOW = {"padding": 1, "strideH": 1, "strideW": 1}
CONV = {**WINDOW, "dilationHFactor": 1, "dilationWFactor": 1}


@pytest.fixture
def load(tmp_path):
    """Read a model from its bytes."""
    def read(content):
        path = tmp_path / "model.tflite"
        path.write_bytes(content)
        return pe.load_tflite(path)

    return read


def chain(*kinds, shape=(1, 4, 4, 2), **form):
    """Bytes of a model of operators that keep a shape, one behind the other."""
    model = Tflite()
    form = {"scale": 0.1, "zero_point": 0, **form}
    first = last = model.tensor(shape, **form, name="x")
    for kind in kinds:
        made = model.tensor(shape, **form, name=f"made by {kind.lower()} {len(model.nodes)}")
        last = model.node(kind, [last], [made])
    return model.content([first], [last])


def conv(model, x, shape, w=(3, 1, 1, 2), scale=0.01, zero_point=0, axis=0, kind="CONV_2D", bias=np.int32, of="int8",
         **fields):
    """Add a convolution, right but for what is said."""
    weights = model.constant(np.ones(w, np.int8), scale, zero_point, axis)
    more = [] if bias is None else [model.constant(np.zeros(w[0], bias), 0.001)]
    y = model.tensor(shape, 0.1, dtype=of, name="y")
    return model.node(kind, [x, weights, *more], [y], "Conv2DOptions", **{**CONV, **fields})


def broken(**changes):
    """Bytes of a model of one convolution, right but for what is said."""
    model = Tflite()
    x = model.tensor(changes.pop("x", (1, 4, 4, 2)), 0.1, 3, changes.pop("dtype", "int8"), name="x")
    return model.content([x], [conv(model, x, changes.pop("shape", (1, 4, 4, 3)), **changes)])


def test_tensors_are_the_files(load, rng):
    """Who reads the file's documentation would not find its tensors."""
    net = NETWORKS["residual"](rng)
    model = load(net.file())
    assert model.name == "model"
    assert {name: (tensor.shape, str(tensor.dtype)) for name, tensor in model.inputs.items()} == {
        "serving_default_input:0": ((1, 9, 8, 3), "float32")}
    assert model.outputs == [net.tensors[net.at].name]
    outputs = pe.golden_run(model, {"serving_default_input:0": np.zeros((2, 9, 8, 3), np.float32)}, keep="all")
    names = {node[2][0]: net.tensors[node[2][0]] for node in net.nodes}
    assert all(outputs[each.name].shape == (2, *each.shape[1:]) for each in names.values())


def test_all_that_cannot_be_mapped_is_listed(load):
    """A user would convert a model again for each operator."""
    model = Tflite()
    form = {"scale": 0.1, "dtype": "uint8"}
    x = model.tensor((1, 4, 4, 2), **form, name="x")
    size = model.constant(np.array([7, 8], np.int32))
    first, second = (model.node("RESIZE_BILINEAR", [x, size], [model.tensor((1, 7, 8, 2), **form, name=name)],
                                "ResizeBilinearOptions") for name in "ab")
    # From what nobody reads no output follows.
    model.node("FLOOR", [x], [model.tensor((1, 4, 4, 2), 0.1)])
    both = model.node("ADD", [first, second], [model.tensor((1, 7, 8, 2), **form)], "AddOptions")
    made = conv(model, both, (1, 7, 8, 3), scale=[0.1, 0.2])
    last = model.tensor((1, 7, 8, 3), 0.1, name="last")
    model.node("FLOOR", [made], [last])
    read = load(model.content([x], [last]))
    with pytest.raises(pe.PearrayError) as refused:
        read.graph()
    line = str(refused.value)
    assert "\n" not in line
    assert "2 x RESIZE_BILINEAR (first: operator 0, RESIZE_BILINEAR, 'a'): places of outputs must be multiples" in line
    assert "1 x CONV_2D (first: operator 4, CONV_2D, 'y'): w must have one scale, or 3 along its axis 0, not 2" in line
    assert "1 x FLOOR (first: operator 5, FLOOR, 'last'): there is none of this kind here; known: ABS, ADD, " in line


@pytest.mark.parametrize(("content", "message"), [
    (lambda: b"", "must be TFL3, the format's mark"),
    (lambda: b"\x00" * 100, "must be TFL3"),
    (lambda: b"\x00\x00\x00\x00TFL3", "cannot be read"),
    (lambda: Tflite().content([], []), "it holds no network"),
    (lambda: chain("RELU")[:200], "cannot be read"),
    (lambda: chain("RELU", dtype="float32", scale=None), "is not quantised: 1 of its 1 operators compute with floats, "
     "the first of them operator 0, RELU, 'made by relu 0'; convert it to int8 with tf.lite.TFLiteConverter"),
    (lambda: chain("HARD_SWISH", dtype="int16"), "x must be int8 or uint8, not int16: convert the model to int8 (16 "
     "bits are for convolutions, matrix products, sums, differences and products of two tensors, poolings and what"),
    (lambda: chain("RELU", scale=None), "x must have one scale, not 0"),
    (lambda: chain("RELU", zero_point=300), "zero point of x must be one integer in -128..127, not 300"),
    (lambda: chain("TANH"), "y must have scale 1 / 128 and zero point 0, not 0.1"),
    (lambda: chain("LEAKY_RELU"), "its options are missing, of which Alpha is one"),
    (lambda: broken(x=(4, 4, 2)), "x must have 4 dimensions (N, H, W, C), not shape (4, 4, 2)"),
    (lambda: broken(w=(3, 1, 1, 3)), "w must have a number of channels that divides the 2 of x, not 3"),
    (lambda: broken(w=(3, 2)), "w must have 4 dimensions (M, R, S, C), not shape (3, 2)"),
    (lambda: broken(shape=(1, 4, 4, 5)), "its output must have shape (1, 4, 4, 3), not (1, 4, 4, 5)"),
    (lambda: broken(scale=[1, 2, 3], axis=3), "w must have one scale, or 3 along its axis 0, not 3 along axis 3"),
    (lambda: broken(scale=float("nan")), "scale of w must be finite and above 0, not nan"),
    (lambda: broken(bias=np.int64), "bias must be int32 with x of int8, not int64"),
    (lambda: broken(dtype="int16", bias=np.int64), "y must be as wide as x, int16, not int8"),
    (lambda: broken(strideH=0), "StrideH and StrideW must be at least 1, not 0 and 1"),
    (lambda: broken(dtype="int16", of="int16"), "bias must be int64 with x of int16, not int32"),
    (lambda: broken(padding=2), "padding must be SAME (0) or VALID (1), not 2"),
    (lambda: broken(fusedActivationFunction=4), "fused activation must be NONE, RELU, RELU_N1_TO_1 or RELU6, not TANH"),
])
def test_refused(load, content, message):
    """A file that is not what it seems would be read as something else, or end in a traceback."""
    with pytest.raises(pe.PearrayError) as refused:
        load(content()).graph()
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_schema_is_missing(load, monkeypatch):
    """Who has not installed the extra would have to guess its name."""
    monkeypatch.setitem(sys.modules, "tflite", None)
    with pytest.raises(pe.PearrayError, match=r"run `pip install 'pearray\[tflite\]'`"):
        load(chain("RELU"))


@pytest.mark.parametrize("path", ["nowhere.tflite", None])
def test_no_file(path):
    """A path that is none would end in a traceback."""
    with pytest.raises(pe.PearrayError, match="TensorFlow Lite file"):
        pe.load_tflite(path)


def test_corrupt_files(load, rng):
    """Bytes that are not checked would raise what they like, or be read for ever."""
    names, outcomes = [*FAMILIES], []
    for number in range(400):
        content = bytearray(draw(names[number % len(names)], rng)[0])
        for _ in range(int(rng.integers(1, 6))):
            place = int(rng.integers(8, len(content) - 4))
            content[place:place + 4] = int(rng.choice([0, 1, 255, 1 << 31, (1 << 32) - 1, rng.integers(1 << 32)])
                                           ).to_bytes(4, "little")
        started = time.process_time()
        try:
            load(bytes(content)).graph()
        except pe.PearrayError as error:
            outcomes.append("two lines" if "\n" in str(error) else "refused")
        else:
            outcomes.append("read")
        assert time.process_time() - started < 5
    assert {*outcomes} == {"read", "refused"}


@pytest.mark.parametrize("reader", ["conv", "other value", "pool", "output", "both"])
def test_padding_belongs_to_the_convolution_behind(load, rng, reader):
    """Padding would be stored for nothing, or be lost where somebody else reads it."""
    model = Tflite()
    x = model.tensor((1, 4, 5, 2), 0.1, 7, name="x")
    padded = model.tensor((1, 7, 6, 2), **same(model, x), name="padded")
    sides = [x, model.constant(np.array([[0, 0], [1, 2], [0, 1], [0, 0]], np.int32))]
    value = [model.constant(np.array([9], np.int8), 0.1, 7)] if reader == "other value" else []
    model.node("PADV2" if value else "PAD", [*sides, *value], [padded], "PadV2Options" if value else "PadOptions")
    outputs = []
    if reader in ("conv", "both", "other value", "output"):
        outputs.append(conv(model, padded, (1, 6, 4, 3), (3, 2, 3, 2)))
    if reader in ("pool", "both"):
        outputs.append(model.tensor((1, 6, 5, 2), **same(model, x), name="pooled"))
        model.node("MAX_POOL_2D", [padded], outputs[-1:], "Pool2DOptions", **WINDOW, filterHeight=2, filterWidth=2)
    if reader == "output":
        outputs.append(padded)
    content = model.content([x], outputs)
    graph = load(content).graph()
    assert sum(node.operator.kind == "Pad" for node in graph.nodes) == (reader != "conv")
    assert all(any(node.operator.padding) == (reader in ("conv", "both", "output"))
               for node in graph.nodes if node.operator.kind == "Conv2d")
    inputs = {"x": values(rng, (1, 4, 5, 2))}
    theirs, ours = reference(content, inputs), graph.golden(inputs)
    for name in graph.outputs:
        np.testing.assert_array_equal(ours[name], theirs[name], name)


def test_shared_weights_are_one_constant(load, rng):
    """Heads that share their weights would have them in memory once for each."""
    model = Tflite()
    inputs = [model.tensor((1, size, size, 2), 0.1, 3, name=f"x{size}") for size in (4, 6)]
    weights = model.constant(values(rng, (3, 2, 2, 2)), 0.01)
    bias = model.constant(np.arange(3, dtype=np.int32), 0.001)
    outputs = [model.tensor((1, size - 1, size - 1, 3), 0.1, name=f"y{size}") for size in (4, 6)]
    for x, y in zip(inputs, outputs, strict=True):
        model.node("CONV_2D", [x, weights, bias], [y], "Conv2DOptions", **CONV)
    content = model.content(inputs, outputs)
    graph = load(content).graph()
    assert len(graph.constants) == 2
    given = {f"x{size}": values(rng, (1, size, size, 2)) for size in (4, 6)}
    theirs, ours = reference(content, given), graph.golden(given)
    for name in graph.outputs:
        np.testing.assert_array_equal(ours[name], theirs[name], name)


def test_bytes_stand_in_memory_as_in_the_file(load, rng):
    """The host would change the order of inputs and outputs for nothing."""
    inputs = {"x": values(rng, (1, 4, 4, 2))}
    compiled = interpret(load(broken()).graph(), inputs, configuration())
    assert [bytes(data) for _, data in compiled.bind(inputs)] == [inputs["x"].tobytes()]
    for name in ("x", "y"):
        placed = {**compiled.inputs, **compiled.outputs}[name]
        np.testing.assert_array_equal(placed.layout.positions().reshape(-1), np.arange(placed.layout.positions().size))


def test_file_is_a_workload(tmp_path, rng):
    """The command line would take a file for an ONNX one, or draw others than what a seed says."""
    path = str(tmp_path / "residual.tflite")
    (tmp_path / "residual.tflite").write_bytes(NETWORKS["residual"](rng).file())
    workload = load_workload(path, 3, {"batch": 2})
    assert {name: value.shape for name, value in workload.inputs.items()} == {"serving_default_input:0": (2, 9, 8, 3)}
    for name, value in load_workload(path, 3, {"batch": 2}).inputs.items():
        np.testing.assert_array_equal(value, workload.inputs[name])
    [stored] = [node for node in workload.graph.nodes if node.operator.kind == "Quantize"]
    made = workload.graph.golden(workload.inputs)[stored.outputs["y"]]
    assert (made.min(), made.max()) == (-128, 127)


def stateful(rng, name="memory"):
    """Bytes of a model that adds what it has read to a variable, and gives the sum of both."""
    model, first = Tflite(), Tflite()
    form = {"scale": 0.1, "zero_point": -3}
    x, handle = model.tensor((1, 6), **form, name="x"), model.tensor((), dtype="resource", name="handle")
    model.node("CALL_ONCE", [], [], "CallOnceOptions", initSubgraphIndex=1)
    model.node("VAR_HANDLE", [], [handle], "VarHandleOptions", sharedName="memory", container="")
    before, sums = model.tensor((1, 6), **form, name="before"), model.tensor((1, 6), **form, name="sums")
    again, y = model.tensor((1, 6), **form, name="again"), model.tensor((1, 6), **form, name="y")
    model.node("READ_VARIABLE", [handle], [before])
    model.node("ADD", [x, before], [sums], "AddOptions")
    model.node("ASSIGN_VARIABLE", [handle, sums], [])
    model.node("READ_VARIABLE", [handle], [again])
    model.node("RELU", [again], [y])
    other = first.tensor((), dtype="resource")
    value = first.constant(rng.integers(-20, 20, (1, 6)).astype(np.int8), **form)
    first.node("VAR_HANDLE", [], [other], "VarHandleOptions", sharedName=name, container="")
    first.node("ASSIGN_VARIABLE", [other, value], [])
    return model.content([x], [y], [first])


def test_states_are_inputs_and_outputs(load, rng):
    """What a model keeps from one run to the next would be forgotten, or begin with other values than the file's."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    content = stateful(rng)
    model = load(content)
    assert (list(model.inputs), model.outputs, model.states) == (["x", "before"], ["y", "sums"], {"before": "sums"})
    theirs = Interpreter(model_content=content, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    theirs.allocate_tensors()
    states = model.initial
    for _ in range(4):
        x = rng.integers(-9, 9, (1, 6)).astype(np.int8)
        ours = pe.golden_run(model, {"x": x, **states})
        states = {name: ours[made] for name, made in model.states.items()}
        theirs.set_tensor(theirs.get_input_details()[0]["index"], x)
        theirs.invoke()
        np.testing.assert_array_equal(ours["y"], theirs.get_tensor(theirs.get_output_details()[0]["index"]))


def test_states_without_beginning(load, rng):
    """A variable of which the file says no value must not begin with one of another."""
    model = load(stateful(rng, "another"))
    assert (model.states, model.initial) == ({"before": "sums"}, {})


def test_axes_that_are_not_there(load):
    """Axes counted from the end would leave open which of them is wrong."""
    model = Tflite()
    x = model.tensor((1, 4, 4, 2), 0.1)
    axes = model.constant(np.array([1, -5], np.int32))
    y = model.node("MEAN", [x, axes], [model.tensor((4, 2), 0.1)], "ReducerOptions", keepDims=False)
    with pytest.raises(pe.PearrayError, match=r"axes must be some in -4\.\.3, not \[1, -5\]"):
        load(model.content([x], [y])).graph()


def test_free_axes_are_named(load):
    """A height that a file leaves open would be one row."""
    model = Tflite()
    x = model.tensor((1, 1, 1, 2), 0.1, name="x", free=(0, 2))
    y = model.node("RELU", [x], [model.tensor((1, 1, 1, 2), 0.1)])
    with pytest.raises(pe.PearrayError, match="'x' must have a fixed shape behind its first dimension"):
        load(model.content([x], [y]))


def test_batches(load, rng):
    """A batch of a user's own would be refused, or counted as rows."""
    model = load(NETWORKS["autoencoder"](rng).file())
    for batch in (1, 2, 5):
        graph = model.graph(batch)
        assert graph.tensors[graph.outputs[0]].shape == (batch, 8, 8, 2)
    with pytest.raises(pe.PearrayError, match="batch must be an integer"):
        model.graph(0)


@pytest.mark.parametrize("target", [(1, -1), (-1, 24), (2, 24)])
def test_shapes_within_a_free_batch(load, rng, target):
    """Where a file leaves its batch free, a target of one row would be read as one row for each of the batch."""
    model, form = Tflite(), {"scale": 0.05, "zero_point": 3}
    x = model.tensor((1, 2, 3, 4), **form, name="x", free=(0,))
    y, z = (model.tensor((1, 24), **form, name=name) for name in "yz")
    model.node("RESHAPE", [x, model.constant(np.array(target, np.int32))], [y], "ReshapeOptions", newShape=[*target])
    model.node("RELU", [y], [z])
    content, inputs = model.content([x], [z]), {"x": values(rng, (2, 2, 3, 4))}
    found, wanted = pe.golden_run(load(content), inputs)["z"], reference(content, inputs)["z"]
    np.testing.assert_array_equal(found, wanted, strict=True)


@pytest.mark.parametrize("batch", [1, 3])
def test_axis_before_the_batch(load, rng, batch):
    """An axis of one that is put first would be taken for the batch of the file, and grow with it."""
    model, form = Tflite(), {"scale": 0.05, "zero_point": 3}
    x = model.tensor((1, 2, 3), **form, name="x")
    y, z = model.tensor((1, 1, 2, 3), **form, name="y"), model.tensor((1, 1, 2, 3), **form, name="z")
    model.node("EXPAND_DIMS", [x, model.constant(np.int32(0))], [y], "ExpandDimsOptions")
    model.node("RELU", [y], [z])
    content, inputs = model.content([x], [z]), {"x": values(rng, (batch, 2, 3))}
    found, wanted = pe.golden_run(load(content), inputs)["z"], reference(content, inputs)["z"]
    assert wanted.shape == (1, batch, 2, 3)
    np.testing.assert_array_equal(found, wanted, strict=True)


def test_sums_with_a_sign(load, rng):
    """Sums of int8 would be those of the reference kernel, which takes its operands for uint8, or would wrap."""
    model = Tflite()
    x = model.tensor((2, 3, 4, 5), 0.1, 7, name="x")
    y = model.tensor((2, 5), 0.7, -3, name="y")
    model.node("SUM", [x, model.constant(np.array([1, 2], np.int32))], [y], "ReducerOptions", keepDims=False)
    content = model.content([x], [y])
    for inputs in ({"x": values(rng, (2, 3, 4, 5))}, {"x": np.full((2, 3, 4, 5), [[[[-128]]], [[[127]]]], np.int8)}):
        found, wanted = pe.golden_run(load(content), inputs)["y"], reference(content, inputs, is_default=True)["y"]
        np.testing.assert_array_equal(found, wanted, strict=True)


def test_halves_of_bytes_are_counted(load):
    """Weights of four bits that lack one would be read from what stands behind them."""
    model = Tflite()
    x = model.tensor((1, 4, 4, 3), 0.1, name="x")
    weights = model.constant(np.ones((3, 1, 1, 3), np.int8), 0.1, dtype="int4")
    y = model.node("CONV_2D", [x, weights], [model.tensor((1, 4, 4, 3), 0.1, name="y")], "Conv2DOptions", **CONV)
    model.tensors[weights].values = np.ones((2, 1, 1, 3), np.int8)
    with pytest.raises(pe.PearrayError, match=r"must have 5 bytes, two integers of 4 bits in each, .* not 3"):
        load(model.content([x], [y]))


def filtered(model, rng, batch):
    """Add SVDF of any rank and memory; return the numbers of its input and its output."""
    units, rank, memory, depth = (int(size) for size in rng.integers(1, [5, 4, 7, 9]))
    x = model.tensor((batch, depth), 0.05, int(rng.integers(-128, 128)), name="x")
    features = model.constant(rng.integers(-127, 128, (units * rank, depth)).astype(np.int8), 0.013)
    time = model.constant(rng.integers(-3000, 3000, (units * rank, memory)).astype(np.int16), 0.0003)
    bias = [model.constant(rng.integers(-40000, 40000, units).astype(np.int32), 0.0001)] if rng.integers(2) else [-1]
    state = model.tensor((batch, units * rank * memory), np.float32(rng.uniform(0.001, 0.01)), dtype="int16",
                         name="state", variable=True)
    y = model.tensor((batch, units), np.float32(rng.uniform(0.01, 0.2)), int(rng.integers(-128, 128)), name="y")
    model.node("SVDF", [x, features, time, *bias, state], [y], "SVDFOptions", rank=rank, fusedActivationFunction=1)
    return x, y


def test_filters_keep_their_state(load, rng):
    """What a filter has seen before would be forgotten, stand in another order, or be rounded otherwise."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    for number in range(12):
        batch, model = int(rng.integers(1, 3)), Tflite()
        x, y = filtered(model, rng, batch)
        content = model.content([x], [y])
        read = load(content)
        assert (list(read.inputs), read.outputs, read.states) == (
            ["x", "state"], ["y", "state:next"], {"state": "state:next"})
        theirs = Interpreter(model_content=content, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
        theirs.allocate_tensors()
        states = read.initial
        for _ in range(6):
            given = {"x": values(rng, (batch, model.tensors[x].shape[1])), **states}
            ours = pe.golden_run(read, given)
            theirs.set_tensor(theirs.get_input_details()[0]["index"], given["x"])
            theirs.invoke()
            np.testing.assert_array_equal(ours["y"], theirs.get_tensor(theirs.get_output_details()[0]["index"]))
            states = {name: ours[made] for name, made in read.states.items()}
        if number < 3:
            interpret(read.graph_for(given), given, ACCELERATORS["systolic-16"], effort=0)
