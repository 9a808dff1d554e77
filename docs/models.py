"""Write docs/models.md: ``python docs/models.py`` measures its runs, with ``--keep`` those that the page lacks."""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench import measure
from image_models import INTRODUCTION as IMAGES
from image_models import NETWORKS, image_runs
from row_stationary_models import INTRODUCTION as ROW_STATIONARY
from row_stationary_models import row_stationary_runs

from pearray.golden.language_models import DECK, PUBLISHED, LanguageModel

__all__ = ["HEADING", "RUNS", "page", "rows"]

PAGE = Path(__file__).parent / "models.md"

#: What the deck prints for parameters and multiply-accumulates of an inference.
PRINTED = {"BERT-base": ("110M", "53G"), "BERT-large": ("340M", "131G"), "LLaMA-7B": ("6.7B", "12.8T"),
           "GPT-3": ("175B", "397T")}

CONFIG = "systolic-32x32"

HEADING = "One head and one layer on RTL"

#: Models, which sizes, what runs, and its settings.
RUNS: list[tuple[str, str, str, str]] = [
    ("BERT-base", "deck", "attention:512,512,32,32,1", ""),
    ("BERT-base", "published", "attention:512,512,64,64,1", ""),
    ("BERT-base", "published, all heads with their projections", "multi-head-attention:512,768,12", ""),
    ("BERT-large", "deck and published", "attention:512,512,64,64,1", ""),
    ("LLaMA-7B", "deck and published", "attention:2048,2048,128,128,1", ""),
    ("LLaMA-7B", "causal", "attention:2048,2048,128,128,1", "workload.causal=true"),
    ("GPT-3", "deck and published", "attention:2048,2048,128,128,1", ""),
    ("BERT-base", "published, a layer of 64 tokens", "encoder-layer:64,768,12,3072", ""),
    ("BERT-large", "published, a layer of 64 tokens", "encoder-layer:64,1024,16,4096", ""),
    ("LLaMA-7B", "64 tokens, Q, K, V or Z, or before the gate, 256 outputs", "gemm:64x4096x256", ""),
    ("LLaMA-7B", "64 tokens, the product behind the gate, 128 outputs", "gemm:64x11008x128", ""),
    ("GPT-3", "64 tokens, Q, K, V, Z or the first product behind them, 128 outputs", "gemm:64x12288x128", ""),
    ("GPT-3", "64 tokens, the last product of a layer, 96 outputs", "gemm:64x49152x96", ""),
]

TITLE = """\
# The lecture's models

<!-- Written by docs/models.py: change that, not this. -->
"""

INTRODUCTION = """\
## Language models

The lecture's deck shows four language models. Here their parameters, multiply-accumulates and storage are computed from
layers (`golden/language_models.py`), once with the sizes that were published and once with those of the deck, and one
head and one layer of each run on generated hardware, in strips where the whole is too long. Ranks are the lecture's: M
tokens, as many queries P, C words, D wide, H heads of E = F.
"""

EXPLAINED = """\
### Where the deck differs

* **BERT-base, E = F = 32.** Heads are 64 wide: 768 = 12 x 64. With 32 there would be 95.3 M parameters, not 110 M.
* **BERT-large, D = G = 768 and 3,072.** It is 1,024 wide, with 4,096 in the feed-forward part. With the deck's sizes it
  would have 213 M parameters, not 340 M. The deck's MACs are those of its own sizes.
* **LLaMA, two matrices.** Its feed-forward part has three, since a gate multiplies. With two there would be 5.30 B
  parameters, not 6.7 B; the deck's MACs are those with two.
* **MACs.** Three of the four printed numbers are `L (5 M D E H + 2 M^2 E H + 2 M D FF) + M C D`: five products of the
  size of a projection where attention has four (Q, K, V, Z), and a product with the table of words, which is looked up.
  For BERT-base the formula gives 52 G, not 53 G. The MACs of the first table have four projections, and neither the
  table of words nor an output.
* **Softmax.** On its slide the sum over j in the denominator has the key of i; it is that of j.
"""


def _short(count: float) -> str:
    """Number with a unit and four digits."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.4g} {unit}"
    return f"{count:.0f}"


def _counts() -> Iterator[str]:
    yield "### Parameters and multiply-accumulates\n"
    yield "| model | parameters | deck prints | MACs | deck prints | MACs as the deck counts, with its sizes |"
    yield "|---|---|---|---|---|---|"
    for model, deck in zip(PUBLISHED, DECK, strict=True):
        parameters, macs = PRINTED[model.name]
        yield (f"| {model.name} | {model.parameters:,} | {parameters} | {_short(model.macs)} | {macs} "
               f"| {_short(deck.deck_macs)} |")


def _sizes() -> Iterator[str]:
    yield ""
    yield "### Storage\n"
    yield ("Static are the matrices of all layers, W_Q, W_K, W_V, W_Z and those of the feed-forward part, dynamic what "
           "one layer makes: I, Q, K, V, QK, softmax(QK) V, and Z, of all heads. Both count elements, which is bytes "
           "in int8. Fused attention stores no QK: the last column is dynamic storage without it.\n")
    yield "| model | sizes | L | M | D | H | E | FF | static | dynamic | without QK |"
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    for name, models in (("published", PUBLISHED), ("deck", DECK)):
        for model in models:
            yield _storage(name, model)


def _storage(sizes: str, model: LanguageModel) -> str:
    scores = model.heads * model.tokens ** 2
    cells = [model.layers, model.tokens, model.width, model.heads, model.head, model.hidden]
    return (f"| {model.name} | {sizes} | {' | '.join(f'{cell:,}' for cell in cells)} | {_short(model.static)} "
            f"| {_short(model.dynamic)} | {_short(model.dynamic - scores)} |")


def rows() -> list[str]:
    """First cells of the table of runs."""
    return [f"{model}, {sizes}: `pearray run {workload} --on {CONFIG}{' --set ' * bool(settings)}{settings}`"
            for model, sizes, workload, settings in RUNS]


def _runs(kept: dict[str, str]) -> Iterator[str]:
    """Lines of the table of runs; equal commands run once, and those not at all whose lines are kept."""
    made: dict[tuple[str, str], str] = {}
    for row, (_, _, workload, settings) in zip(rows(), RUNS, strict=True):
        if row in kept:
            yield kept[row]
            continue
        if (workload, settings) not in made:
            made[workload, settings] = _figures(measure(
                "run", workload, "--on", CONFIG, *(["--set", settings] if settings else [])))
        yield f"| {row} | {made[workload, settings]} |"


def _figures(record: Mapping[str, Any]) -> str:
    """Cells of a run behind the first."""
    return (f"{record['cycles']:,} | {-(-record['macs'] // record['pes']):,} | {100 * record['utilisation']:.1f} % "
            f"| {record['mismatches']} of {record['checked']:,} | `{record['verilog_sha256'][:12]}`")


def page(images: list[str], others: list[str], runs: list[str]) -> str:
    """The whole page with the lines of its tables: image networks on either kind of array, and language models."""
    introduced = (
        f"### {HEADING}\n\nQK, softmax and AV of one head of a layer, whole, in int8 on {CONFIG}, from the start write "
        "to the done flag with the default memory ([attention](attention.md)). The limit is MACs over PEs. Heads of "
        "BERT-large and those of BERT-base as published are alike, and so are those of LLaMA and GPT-3. Heads are not "
        "cut into strips: scores never leave the chip, so that 2,048 tokens need no more of it than 512. "
        "`multi-head-attention:P,D,H` runs all heads of a layer with their projections in one program.\n\n"
        "Layers of BERT are programs of attention with its projections, both LayerNorms, residuals, GELU and the "
        "feed-forward part, of a strip of 64 tokens, which see one another: weights are then loaded in half the time "
        "that their products take. Of a layer of LLaMA or GPT-3 the products run one by one, as strips of 64 tokens "
        "and of some of their outputs, over all that they add up; with the heads above these are all products of a "
        "layer. Its normalisation and its gates are no part of these runs.\n\n"
        "| what | cycles | limit | utilisation | mismatches | Verilog |\n|---|---|---|---|---|---|")
    languages = [INTRODUCTION, *_counts(), *_sizes(), "", EXPLAINED, introduced, *runs, ""]
    return "\n".join([TITLE, IMAGES, *images, "", ROW_STATIONARY, *others, "", *languages])


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="keep the runs that the page has, measure others")
    kept = {line.split(" | ")[0].removeprefix("| "): line for line in PAGE.read_text().splitlines()
            if line.startswith("| ")} if parser.parse_args().keep else {}
    PAGE.write_text(page([*image_runs(measure, kept)], [*row_stationary_runs(NETWORKS, measure, kept)],
                         [*_runs(kept)]))


if __name__ == "__main__":
    main()
