"""Parameters and multiply-accumulates of language models: published numbers, and the deck's with its slips."""

import pytest

from pearray.golden.language_models import DECK, PUBLISHED


@pytest.mark.parametrize(("model", "parameters", "macs"), [
    (PUBLISHED[0], 109_482_240, 48.32e9), (PUBLISHED[1], 335_141_888, 167.5e9), (PUBLISHED[2], 6_738_415_616, 14.36e12),
    (PUBLISHED[3], 174_604_259_328, 366.1e12),
], ids=lambda value: getattr(value, "name", ""))
def test_published_models(model, parameters, macs):
    """Parameters are those of the checkpoints, to the last; else a matrix or a vector is missing."""
    assert model.parameters == parameters
    assert model.macs == pytest.approx(macs, rel=5e-4)
    assert model.head * model.heads == model.width


@pytest.mark.parametrize(("model", "printed", "counted"), [
    (DECK[0], 53e9, 52.47e9), (DECK[1], 131e9, 131.2e9), (DECK[2], 12.8e12, 12.78e12), (DECK[3], 397e12, 397.1e12)],
    ids=lambda value: getattr(value, "name", ""))
def test_the_deck_s_numbers(model, printed, counted):
    """The deck counts five projections, two matrices and a product with the table of words; BERT-base is off by one."""
    assert model.deck_macs == pytest.approx(counted, rel=5e-4)
    assert (abs(model.deck_macs - printed) <= 0.006 * printed) == (model is not DECK[0])


def test_the_deck_s_sizes_give_other_parameters():
    """Its E = 32, its width of BERT-large, and its two matrices of LLaMA give other models than it names."""
    embedded = [PUBLISHED[0].others, 30522 * 768, PUBLISHED[2].others, 0]
    found = [deck.static + more for deck, more in zip(DECK, embedded, strict=True)]
    assert found[0] == pytest.approx(95.3e6, rel=3e-3)
    assert found[1] == pytest.approx(213e6, rel=2e-2)
    assert found[2] == pytest.approx(5.30e9, rel=3e-3)
    assert found[3] == PUBLISHED[3].static
