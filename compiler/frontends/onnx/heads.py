"""Heads that stand side by side in tensors of an ONNX file, and apart from one another where they are computed."""

from ...operators import Reshape, Transpose
from .builder import Builder, OnnxNode

__all__ = ["join_heads", "split_heads"]


def split_heads(node: OnnxNode, graph: Builder, name: str, heads: int) -> str:
    """Name of heads (N, H, P, E) of a tensor (N, P, H E)."""
    shape = graph.tensor(name).shape
    split, apart = (graph.inner(name, what) for what in ("split", "apart"))
    graph.add(node, Reshape((*shape[:2], heads, shape[2] // heads)), {"x": name}, split)
    graph.add(node, Transpose((0, 2, 1, 3)), {"x": split}, apart)
    return apart


def join_heads(node: OnnxNode, graph: Builder, name: str, heads: int, bounds: tuple[int, int] | None = None) -> None:
    """Let heads (N H, P, F) side by side, (N, P, H F), be the output of a node; `bounds` are those of its values."""
    both, rows, width = graph.tensor(name).shape
    apart, beside = (graph.inner(node.outputs[0], what) for what in ("apart", "beside"))
    graph.add(node, Reshape((both // heads, heads, rows, width)), {"x": name}, apart)
    graph.add(node, Transpose((0, 2, 1, 3)), {"x": apart}, beside)
    graph.add(node, Reshape((both // heads, rows, heads * width)), {"x": beside}, bounds=bounds)
