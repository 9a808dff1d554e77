"""A small float encoder with drawn weights, whose first tokens have one huge sum behind its first layer."""

import numpy as np

from pearray.workloads.sentence_encoder import Batch

__all__ = ["HEADS", "HUGE", "LAYERS", "WORDS", "drawn_batch", "drawn_weights"]

LAYERS, HEADS, WIDTH, HIDDEN, WORDS, LENGTH = 2, 4, 32, 48, 40, 24

#: The element that marks first tokens, and that of their huge sum.
MARK, HUGE = 3, 7


def drawn_weights(rng):
    """Weights by the names of the file. Token 0, the first of every sentence, hardly looks at others in layer 0."""
    found = {}
    for number in range(LAYERS):
        for name, outputs, inputs in (
                ("attention.self.query", WIDTH, WIDTH), ("attention.self.key", WIDTH, WIDTH),
                ("attention.self.value", WIDTH, WIDTH), ("attention.output.dense", WIDTH, WIDTH),
                ("intermediate.dense", HIDDEN, WIDTH), ("output.dense", WIDTH, HIDDEN)):
            prefix = f"encoder.layer.{number}.{name}"
            found[f"{prefix}.weight"] = rng.normal(0, inputs ** -0.5, (outputs, inputs)).astype(np.float32)
            found[f"{prefix}.bias"] = rng.normal(0, 0.1, outputs).astype(np.float32)
        for name in ("attention.output", "output"):
            found |= _norm(rng, f"encoder.layer.{number}.{name}.LayerNorm")
    found["embeddings.word_embeddings.weight"] = rng.normal(0, 1, (WORDS, WIDTH)).astype(np.float32)
    found["embeddings.position_embeddings.weight"] = rng.normal(0, 0.1, (LENGTH, WIDTH)).astype(np.float32)
    found["embeddings.token_type_embeddings.weight"] = np.zeros((2, WIDTH), np.float32)
    found |= _norm(rng, "embeddings.LayerNorm")
    found["embeddings.word_embeddings.weight"][:, MARK] = -1
    found["embeddings.word_embeddings.weight"][0] = 0
    found["embeddings.word_embeddings.weight"][0, MARK] = 4
    prefix = "encoder.layer.0."
    found[f"{prefix}attention.output.dense.weight"] *= 0.1
    found[f"{prefix}intermediate.dense.weight"][0] = 0
    found[f"{prefix}intermediate.dense.weight"][0, MARK] = 4
    found[f"{prefix}intermediate.dense.bias"][0] = -10
    found[f"{prefix}output.dense.weight"][HUGE, 0] = 40
    return found


def _norm(rng, name):
    return {f"{name}.weight": rng.normal(1, 0.1, WIDTH).astype(np.float32),
            f"{name}.bias": rng.normal(0, 0.1, WIDTH).astype(np.float32)}


def drawn_batch(rng, weights, lengths):
    """Sentences of some tokens, of which the first is 0."""
    from pearray.workloads.minilm import embedded

    found = [embedded(weights, np.array([0, *rng.integers(1, WORDS, length - 1)])) for length in lengths]
    return Batch(tuple(map(str, range(len(lengths)))), tuple(lengths), np.concatenate(found))
