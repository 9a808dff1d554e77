"""The workload `minilm`: sentences through the quantised encoder, judged by their embeddings in float32."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..hdl.errors import PearrayError
from .made import Judgement, Workload
from .minilm import LENGTH, read_weights
from .sentence_encoder import Batch, Encoder, float_outputs, quantised_encoder
from .sentences import CALIBRATION, JUDGED
from .settings import Settings

__all__ = ["sentence_workload"]

#: Sentences of a run, and tokens of all of them at most: the mask has a byte for each pair.
_BATCH, _MOST_TOKENS = 8, 1 << 13

#: Words that a table shows of a sentence.
_SHOWN = 48


def sentence_workload(name: str, rng: np.random.Generator, settings: Settings) -> Workload:
    """Make the workload: ``batch`` sentences drawn without repetition, or those of the file ``text``, one a line.

    Each has ``tokens`` tokens at most; what is beyond is cut. Scales are learnt from sentences that are none of these.
    """
    batch, text = settings.integer("batch", 0, 0), settings.text("text")
    length = settings.integer("tokens", LENGTH, 3, 512)
    settings.finish()
    sentences = _drawn(rng, batch) if text is None else _read(text, batch)
    weights = read_weights()
    given = Batch.of(weights, sentences, length)
    if len(given.x) > _MOST_TOKENS:
        raise PearrayError(f"sentences of workload {name!r} must have {_MOST_TOKENS} tokens at most in all, not "
                           f"{len(given.x)}: take fewer with workload.batch, or cut them with workload.tokens")
    encoder = quantised_encoder(weights, Batch.of(weights, CALIBRATION, LENGTH))
    graph = encoder.graph(given)
    wanted = given.embeddings(float_outputs(weights, given))
    return Workload(name, graph, {"x": encoder.x.integers(given.x)},
                    judge=lambda outputs: _judgement(encoder, given, wanted, outputs[graph.outputs[-1]]))


def _drawn(rng: np.random.Generator, batch: int) -> list[str]:
    if batch > len(JUDGED):
        raise PearrayError(f"workload.batch must be an integer in 0..{len(JUDGED)} without workload.text, not {batch}")
    return [JUDGED[number] for number in rng.choice(len(JUDGED), batch or _BATCH, replace=False)]


def _read(path: str, batch: int) -> list[str]:
    try:
        # What else splitlines cuts at may stand within a sentence.
        lines = Path(path).read_text("utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise PearrayError(f"workload.text {path!r} cannot be read: {error}") from None
    found = [line.strip() for line in lines if line.strip()]
    if not found:
        raise PearrayError(f"workload.text must be a file with a sentence on each line, not {path!r}, which has none")
    if batch > len(found):
        raise PearrayError(f"workload.batch must be an integer in 0..{len(found)}, the sentences of workload.text, "
                           f"not {batch}")
    return found[:batch or None]


def _judgement(encoder: Encoder, batch: Batch, wanted: np.ndarray, y: np.ndarray) -> Judgement:
    """Cosine of each sentence's embedding with that of the float network."""
    found = batch.embeddings(encoder.layers[-1].y.real(y))
    cosines = np.sum(found * wanted, axis=1)
    records: list[Mapping[str, object]] = [
        {"sentence": text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...", "tokens": length,
         "cosine": round(float(cosine), 6)}
        for text, length, cosine in zip(batch.sentences, batch.lengths, cosines, strict=True)]
    return Judgement("Embeddings of sentences beside those of the network in float32", records,
                     {"least_cosine": round(float(cosines.min()), 6)})
