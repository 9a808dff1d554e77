"""The workload `minilm`, with a small network in the place of the real one, which is not installed everywhere."""

from functools import partial

import numpy as np
import pytest
from drawn_encoder import HEADS, LAYERS, WORDS, drawn_weights

from pearray import PearrayError
from pearray.workloads import sentence_encoder, sentence_workload
from pearray.workloads.sentences import CALIBRATION, JUDGED
from pearray.workloads.workload import load_workload


@pytest.fixture
def small(monkeypatch):
    """Let the workload take a drawn network whose words have the numbers of their letters."""
    weights = drawn_weights(np.random.default_rng(11))

    def tokens(text, length):
        return np.array([0, *(1 + sum(map(ord, word)) % (WORDS - 1) for word in text.split())])[:length]

    monkeypatch.setattr(sentence_workload, "read_weights", lambda: weights)
    monkeypatch.setattr(sentence_encoder, "tokens", tokens)
    for name in ("quantised_encoder", "float_outputs"):
        monkeypatch.setattr(sentence_workload, name, partial(getattr(sentence_encoder, name), layers=LAYERS,
                                                             heads=HEADS))


def test_sentences_are_judged_one_by_one(small, tmp_path):
    """Sentences of a file come in their order, cut where they are too long, and each cosine is its own."""
    path = tmp_path / "sentences.txt"
    path.write_text("a dog runs\n\n  the quick brown fox jumps over it \nnobody asked\n")
    workload = load_workload("minilm", settings={"text": str(path), "tokens": 6, "batch": 3})
    outputs = workload.graph.golden(workload.inputs)
    found = workload.judge(outputs)
    assert [record["sentence"] for record in found.records] == ["a dog runs", "the quick brown fox jumps over it",
                                                                "nobody asked"]
    assert [record["tokens"] for record in found.records] == [4, 6, 3]
    assert found.summary["least_cosine"] == min(record["cosine"] for record in found.records) > 0.98
    spoilt = dict(outputs)
    spoilt["layer 2"] = outputs["layer 2"].copy()
    spoilt["layer 2"][4:10] = outputs["layer 2"][4:10, ::-1]
    cosines = [record["cosine"] for record in workload.judge(spoilt).records]
    assert cosines[1] < 0.8
    assert cosines[::2] == [record["cosine"] for record in found.records][::2]


def test_drawn_sentences_follow_the_seed(small):
    """Eight by default, none twice, others for another seed."""
    first, again, other = (load_workload("minilm", seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.inputs["x"], again.inputs["x"])
    assert first.inputs["x"].shape != other.inputs["x"].shape or (first.inputs["x"] != other.inputs["x"]).any()
    records = first.judge(first.graph.golden(first.inputs)).records
    assert len({record["sentence"] for record in records}) == len(records) == 8


def test_no_sentence_is_judged_by_what_it_taught():
    """Scales that were learnt from the judged sentences would flatter."""
    assert not {*CALIBRATION} & {*JUDGED}
    assert len({*JUDGED}) == len(JUDGED)


@pytest.mark.parametrize(("settings", "message"), [
    ({"batch": 17}, r"workload.batch must be an integer in 0..16 without workload.text, not 17"),
    ({"tokens": 2}, r"workload.tokens must be an integer in 3..512, not 2"),
    ({"text": "/nowhere/at.all"}, r"workload.text '/nowhere/at.all' cannot be read: .*No such file"),
    ({"text": 3}, r"workload.text must be a text, not 3"),
    ({"texts": "a"}, r"workload.texts"),
])
def test_wrong_settings_are_named(settings, message):
    """A mistake costs one line, not a run."""
    with pytest.raises(PearrayError, match=message):
        load_workload("minilm", settings=settings)


def test_an_empty_file_is_named(tmp_path):
    """A file without sentences has nothing to run."""
    path = tmp_path / "empty.txt"
    path.write_text("\n  \n")
    with pytest.raises(PearrayError, match=r"workload.text must be a file with a sentence on each line, not .*empty"):
        load_workload("minilm", settings={"text": str(path)})
    path.write_text("one\u2028sentence\nanother\n")
    with pytest.raises(PearrayError, match=r"workload.batch must be an integer in 0..2, the sentences of"):
        load_workload("minilm", settings={"text": str(path), "batch": 3})
