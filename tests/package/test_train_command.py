"""``pearray train``: its record, its mistakes, and going on after it was killed."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest
from typer.testing import CliRunner

import pearray as pe
from pearray import training
from pearray.cli import app
from pearray.workloads.digit_training import NETWORKS, batch_of, drawn_weights, held_out
from pearray.workloads.digits import small_digits

#: A small accelerator, so that programs are found soon.
SMALL = ["--on", "systolic-8x8-bf16", "--set", "array.rows=4", "--set", "array.cols=4"]


def run(*arguments, code=0):
    """Run the command in this process."""
    done = CliRunner().invoke(app, ["train", *map(str, arguments)])
    if isinstance(done.exception, pe.PearrayError):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.output


@pytest.fixture
def golden(monkeypatch):
    """Training without an accelerator: the bits are its own, and what is tested here is around it."""
    monkeypatch.setattr(training, "divided", lambda graph, system, **settings: None)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_learn(name):
    """If it failed, a network would not depend on all of its weights, or its gradients lead uphill."""
    network, (learned, judged) = NETWORKS[name], held_out(*small_digits(), 0)
    assert (len(learned["labels"]), len(judged["labels"])) == (1438, 359)
    made = pe.train_step(network.graph(drawn_weights(network, 1), 8), "loss", pe.Adam(lr=0.005), format="bfloat16")
    assert {*made.weights} == {*network.weights}
    before = {name: value.copy() for name, value in made.weights.items()}
    losses = [made.step(batch_of(learned, 8, 0, 0)) for _ in range(12)]
    assert losses[-1] < losses[0] / 2
    assert all((made.weights[name] != value).any() for name, value in before.items())


def test_batches_are_all_images_once():
    """If it failed, a step's batch would depend on more than its number, or images be left out."""
    data = {"labels": np.arange(20)}
    passes = [np.concatenate([batch_of(data, 5, 7, step)["labels"] for step in range(start, start + 4)])
              for start in (0, 4)]
    assert all(sorted(found.tolist()) == [*range(20)] for found in passes)
    assert (passes[0] != passes[1]).any()
    assert (batch_of(data, 5, 7, 6)["labels"] == passes[1][10:15]).all()


def test_a_broken_run_goes_on_to_the_same_bits(golden, tmp_path):
    """If it failed, a checkpoint would lack something that decides what comes."""
    whole, first, second = (tmp_path / f"{name}.json" for name in ("whole", "first", "second"))
    given = ["digits-mlp", "--on", "systolic-8x8-fp8", "--batch", 16, "--checkpoint-every", 3]
    run(*given, "--steps", 9, "--json", whole)
    folder = tmp_path / "run"
    run(*given, "--steps", 5, "--json", first, "--checkpoint", folder, "--resume")
    run(*given, "--steps", 9, "--json", second, "--checkpoint", folder, "--resume")
    broken, unbroken = json.loads(second.read_text()), json.loads(whole.read_text())
    assert broken["resumed_from"] == 5
    for key in ("losses", "weights_sha256", "accuracy", "loss_factor", "steps", "lost_steps"):
        assert broken[key] == unbroken[key]
    assert json.loads(first.read_text())["weights_sha256"] != unbroken["weights_sha256"]
    with pytest.raises(pe.PearrayError, match=r"^folder '.*' has a checkpoint of step 9: go on from it by --resume"):
        run(*given, "--steps", 9, "--checkpoint", folder)
    with pytest.raises(pe.PearrayError, match=r"^batch must be that of the checkpoint, 16, not 8$"):
        run("digits-mlp", "--on", "systolic-8x8-fp8", "--batch", 8, "--steps", 9, "--checkpoint", folder, "--resume")


def test_the_record(golden, tmp_path):
    """If it failed, a script would not find the curve, or be told of checks that there were not."""
    pytest.importorskip("matplotlib")
    output = run("digits-vit", *SMALL, "--steps", 2, "--batch", 4, "--optimiser", "sgd", "--check-every", 0, "--json",
                 tmp_path / "a.json", "--plot", tmp_path / "new" / "a.png")
    record = json.loads((tmp_path / "a.json").read_text())
    assert {"workload", "config", "engine", "format", "rounding", "optimiser", "batch", "seed", "steps", "resumed_from",
            "lost_steps", "loss_factor", "losses", "weights_sha256", "held_out", "accuracy", "check_every",
            "checked_steps", "checked", "mismatches", "first_difference", "step_on_rtl", "host", "wall_s"} == {*record}
    assert len(record["losses"]) == 2
    assert (record["checked"], record["step_on_rtl"]) == (0, None)
    assert (tmp_path / "new" / "a.png").read_bytes().startswith(b"\x89PNG")
    assert "0 elements compared" in output


@pytest.mark.parametrize(("arguments", "message"), [
    (["digit"], "^unknown workload to train 'digit': did you mean 'digits-[a-z]+'"),
    (["digits-mlp", "--resume"], r"^--resume needs the folder of a checkpoint \(--checkpoint DIR\)$"),
    (["digits-mlp", "--optimiser", "adamw"], "^optimiser must be 'adam' or 'sgd', not 'adamw'$"),
    (["digits-mlp", "--rounding", "up"], "^rounding must be 'auto', 'nearest' or 'random', not 'up'$"),
    (["digits-mlp", "--batch", "2000"], "^batch must be at most 1438, the images there are to learn from, not 2000$"),
    (["digits-mlp", "--lr", "nan"], "^lr must be a finite number, not nan$"),
    (["digits-mlp", "--set", "workload.batch=3"], r"^--set takes keys of the configuration, not workload\.batch"),
    (["digits-mlp", "--engine", "spice"], "^engine must be 'verilator', 'cocotb' or 'amaranth', not 'spice'$"),
])
def test_mistakes_are_named(arguments, message):
    """If it failed, a mistake would end in a traceback."""
    with pytest.raises(pe.PearrayError, match=message):
        run(*arguments, "--on", "systolic-8x8-bf16", "--steps", 1)


def test_checkpoints_of_another_run_are_named(golden, tmp_path):
    """If it failed, a run of fewer steps would end well with more, and a folder be found bad when steps are done."""
    arguments = ["digits-mlp", *SMALL, "--batch", 2, "--check-every", 0]
    run(*arguments, "--steps", 2, "--checkpoint", tmp_path)
    with pytest.raises(pe.PearrayError, match=r"^--steps must be at least 2, which the checkpoint has, not 1$"):
        run(*arguments, "--steps", 1, "--checkpoint", tmp_path, "--resume")
    with pytest.raises(pe.PearrayError, match=r"^hardware must be that of the checkpoint: take the same --on "):
        run(*arguments, "--set", "array.rows=8", "--steps", 3, "--checkpoint", tmp_path, "--resume")
    (tmp_path / "file").symlink_to(tmp_path / "nowhere" / "else")
    with pytest.raises(pe.PearrayError, match=r"^checkpoint '.*' cannot be written: "):
        run(*arguments, "--steps", 1, "--checkpoint", tmp_path / "file")
    assert not (tmp_path / "nowhere").exists()


def test_integers_do_not_train():
    """If it failed, training on an array of integers would end in a traceback."""
    with pytest.raises(pe.PearrayError, match=r"^on must be an array of floats, such as systolic-8x8-bf16, not systol"):
        run("digits-mlp", "--on", "systolic-8x8", "--steps", 1)


def test_a_curve_without_matplotlib(monkeypatch, tmp_path):
    """If it failed, it would be known after the training that its curve cannot be drawn."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(pe.PearrayError, match=r"^--plot needs matplotlib: run `pip install pearray\[train\]`$"):
        run("digits-mlp", *SMALL, "--steps", 1, "--plot", tmp_path / "a.png")


@pytest.mark.slow
def test_killed_at_twenty_moments(rng, tmp_path):
    """If it failed, a training that is killed would not resume to the same bits."""
    command = [sys.executable, "-m", "pearray.cli", "train", "digits-mlp", *SMALL, "--steps", "60", "--check-every",
               "0", "--checkpoint-every", "1"]
    begin = time.monotonic()
    subprocess.run([*command, "--json", tmp_path / "whole.json"], check=True, capture_output=True)
    whole = time.monotonic() - begin
    kills, folder = 0, tmp_path / "run"
    while kills < 20:
        process = subprocess.Popen([*command, "--checkpoint", folder, "--resume"], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        try:
            process.wait(float(rng.uniform(0.1, whole)))
            # It got to its end: the next goes on from there, and ends soon.
            (folder / "checkpoint.npz").unlink()
        except subprocess.TimeoutExpired:
            process.kill()
            kills += 1
        process.wait()
    subprocess.run([*command, "--checkpoint", folder, "--resume", "--json", tmp_path / "broken.json"], check=True,
                   capture_output=True)
    broken, unbroken = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("broken", "whole"))
    for key in ("losses", "weights_sha256", "accuracy", "checked_steps", "checked", "mismatches"):
        assert broken[key] == unbroken[key]
