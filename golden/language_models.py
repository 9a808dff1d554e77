"""The lecture's four language models: parameters, multiply-accumulates and storage, as published and as in its deck.

Ranks are the lecture's: M tokens of keys, P of queries, C words, D wide, H heads of E and F, G wide outputs. A layer is
attention with four projections, and a feed-forward part.
"""

from dataclasses import dataclass

__all__ = ["DECK", "PUBLISHED", "LanguageModel"]


@dataclass(frozen=True)
class LanguageModel:
    """Sizes of a language model.

    Parameters
    ----------
    name : str
        Name.
    layers, tokens, words, width, heads, head, hidden : int
        Layers, M = P, C, D = G, H, E = F, and what the feed-forward part has between its matrices.
    matrices : int
        Matrices of the feed-forward part: two, or three if a gate multiplies.
    others : int
        Parameters outside the matrices of the layers: tables of words and places, a pooler or an output's matrix.
    vectors : int
        Parameters of a layer in vectors, biases and normalisation, in units of D, and of the hidden width.
    """

    name: str
    layers: int
    tokens: int
    words: int
    width: int
    heads: int
    head: int
    hidden: int
    matrices: int = 2
    others: int = 0
    vectors: tuple[int, int] = (0, 0)

    @property
    def projections(self) -> int:
        """Weights of a layer's W_Q, W_K, W_V (D x E x H each) and W_Z (F x G x H)."""
        return 4 * self.width * self.head * self.heads

    @property
    def feed_forward(self) -> int:
        """Weights of a layer's feed-forward part."""
        return self.matrices * self.width * self.hidden

    @property
    def static(self) -> int:
        """Weights of the matrices of all layers, which is what the deck calls static storage."""
        return self.layers * (self.projections + self.feed_forward)

    @property
    def parameters(self) -> int:
        """All parameters."""
        vectors = self.vectors[0] * self.width + self.vectors[1] * self.hidden
        return self.static + self.layers * vectors + self.others

    @property
    def dynamic(self) -> int:
        """Elements of what a layer makes, as the deck lists it: I, Q, K, V, QK, softmax(QK) V of all heads, and Z."""
        own = 3 * self.tokens * self.head + self.tokens ** 2 + self.tokens * self.head
        return 2 * self.tokens * self.width + self.heads * own

    @property
    def head_macs(self) -> int:
        """Multiply-accumulates of QK and AV of one head."""
        return 2 * self.tokens ** 2 * self.head

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one pass over all tokens: projections, QK, AV, and the feed-forward part."""
        return self.layers * (self.tokens * (self.projections + self.feed_forward) + self.heads * self.head_macs)

    @property
    def deck_macs(self) -> int:
        """The same as the deck counts: five projections instead of four, and a product with the table of words.

        It is the only small combination of such terms that gives three of its four numbers.
        """
        fifth = self.tokens * self.projections // 4
        return self.macs + self.layers * fifth + self.tokens * self.words * self.width


def _bert(name: str, layers: int, width: int, heads: int, hidden: int) -> LanguageModel:
    """BERT (Devlin 2018): tables of words, 512 places and 2 segments with a normalisation, and a pooler."""
    others = (30522 + 512 + 2) * width + 2 * width + width * width + width
    return LanguageModel(name, layers, 512, 30522, width, heads, 64, hidden, others=others, vectors=(9, 1))


#: As published: BERT (Devlin 2018), LLaMA-7B (Touvron 2023), GPT-3 (Brown 2020).
PUBLISHED = (
    _bert("BERT-base", 12, 768, 12, 3072),
    _bert("BERT-large", 24, 1024, 16, 4096),
    # Normalisation without biases, and an output's matrix of its own.
    LanguageModel("LLaMA-7B", 32, 2048, 32000, 4096, 32, 128, 11008, 3, others=2 * 32000 * 4096 + 4096, vectors=(2, 0)),
    LanguageModel("GPT-3", 96, 2048, 50257, 12288, 96, 128, 49152, others=(50257 + 2048 + 2) * 12288, vectors=(9, 1)),
)

#: As the deck's table has them.
DECK = (
    LanguageModel("BERT-base", 12, 512, 30522, 768, 12, 32, 3072),
    LanguageModel("BERT-large", 24, 512, 30522, 768, 16, 64, 3072),
    LanguageModel("LLaMA", 32, 2048, 32000, 4096, 32, 128, 11008),
    LanguageModel("GPT-3", 96, 2048, 50257, 12288, 96, 128, 49152),
)
