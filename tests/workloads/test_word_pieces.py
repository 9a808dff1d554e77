"""Word pieces as BERT's tokeniser has them."""

import pytest

from pearray.workloads.word_pieces import word_pieces

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "play", "##ing", "##in", "p", ",", "cafe", "東", "京", "$", "5", "##0",
          "'", "s", "strasse", "stra", "##ß", "##e", ".", "-", "a", "##a", "i", "##stanbul", "°", "##°", "##c"]
NUMBERS = {piece: number for number, piece in enumerate(PIECES)}

#: Texts with what Hugging Face's `tokenizers` 0.23 makes of them.
CASES = [
    ("Playing, Café xyz play", ["play", "##ing", ",", "cafe", "[UNK]", "play"]),
    ("東京a", ["東", "京", "a"]),
    ("play's $50.", ["play", "'", "s", "$", "5", "##0", "."]),
    ("Straße", ["stra", "##ß", "##e"]),
    ("İstanbul", ["i", "##stanbul"]),
    ("pl\u200bay\tplay\u00a0p\ufffd\u0007", ["play", "play", "p"]),
    ("5°c 5 °", ["5", "##°", "##c", "5", "°"]),
    ("a" * 100 + " " + "a" * 101, ["a", *["##a"] * 99, "[UNK]"]),
    ("", []),
]


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_pieces_are_those_of_bert(text, expected):
    """Another piece is another row of the embeddings, so another sentence."""
    assert [PIECES[number] for number in word_pieces(text, NUMBERS, 1000)] == ["[CLS]", *expected, "[SEP]"]


def test_long_texts_are_cut():
    """The mark of the end stays."""
    assert word_pieces("play " * 30, NUMBERS, 5) == [2, 4, 4, 4, 3]


def test_cases_are_those_of_the_reference():
    """The list above is what it says."""
    tokenizers = pytest.importorskip("tokenizers")
    theirs = tokenizers.Tokenizer(tokenizers.models.WordPiece(NUMBERS, unk_token="[UNK]",
                                                              max_input_chars_per_word=100))
    theirs.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    for text, expected in CASES:
        assert theirs.encode(text, add_special_tokens=False).tokens == expected, text
