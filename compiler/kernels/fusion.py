"""Operators as a part of the one before: pooling of a convolution, where that takes fewer cycles, and norms of sums."""

from collections.abc import Callable, Iterator
from typing import Any

from ...hdl.shell.config import Config
from ...hdl.shell.functions import REDUCE_BITS
from ..graph.graph import Graph, Node
from ..graph.verify import verify
from ..operators import (
    Add,
    Conv2d,
    LayerNorm,
    MaxPool2d,
    NormedSum,
    Operator,
    PooledConv2d,
    Requant,
    RMSNorm,
    Sub,
)
from .context import Context
from .kernel import Kernel
from .lowerings import LOWERINGS
from .row_pairs import find_row_pair

__all__ = ["fuse_pools", "fuse_sums"]


def fuse_pools(graph: Graph, config: Config, cycles: Callable[[Kernel], float]) -> Graph:
    """Make one node of a convolution and the pooling of its outputs, wherever nobody else wants these.

    Windows that overlap or reach padding stay nodes of their own: their outputs would be computed more than once.

    Parameters
    ----------
    graph : Graph
        Behind the passes.
    config : Config
        Accelerator.
    cycles : callable
        Estimates the cycles of a kernel.
    """
    nodes = list(graph.nodes)
    for conv, pool in _followed(graph, (Conv2d,), (MaxPool2d,)):
        fused = Node(f"{conv.name} + {pool.name}", PooledConv2d.of(conv.operator, pool.operator), conv.inputs,
                     pool.outputs)
        if _fits(graph, conv, pool, config) and (_cycles(graph, config, fused, cycles)
                                                 < sum(_cycles(graph, config, each, cycles) for each in (conv, pool))):
            nodes = [fused if node is conv else node for node in nodes if node is not pool]
    changed = graph.changed(nodes=nodes)
    verify(changed)
    return changed


def fuse_sums(graph: Graph) -> Graph:
    """Make one node of the sum of two tensors and the normalisation of its rows, wherever nobody else wants the sum.

    The sum is then neither stored nor loaded. Sums for which there are no tables stay nodes of their own.

    Parameters
    ----------
    graph : Graph
        Behind the passes.
    """
    nodes = list(graph.nodes)
    for first, norm in _followed(graph, (Add, Sub), (LayerNorm, RMSNorm)):
        tensors = graph.typed(first.inputs)
        if (not first.operator.is_scaled or first.on_host or graph.constants.keys() & {*first.inputs.values()}
                or len({tuple(tensor.shape) for tensor in tensors.values()}) > 1):
            continue
        operator = NormedSum(sum=first.operator, norm=norm.operator)
        if find_row_pair(operator, **tensors) is not None:
            gains = {role: name for role, name in norm.inputs.items() if role != "x"}
            fused = Node(f"{first.name} + {norm.name}", operator, first.inputs | gains, norm.outputs)
            nodes = [fused if node is norm else node for node in nodes if node is not first]
    changed = graph.changed(nodes=nodes)
    verify(changed)
    return changed


def _followed(graph: Graph, firsts: tuple[type[Operator], ...],
              others: tuple[type[Operator], ...]) -> Iterator[tuple[Node[Any], Node[Any]]]:
    """Nodes of some operators, each with the node of some others that alone reads its outputs, as its x."""
    read = [*graph.outputs, *graph.views.values(), *(name for node in graph.nodes for name in node.inputs.values())]
    makers = {name: node for node in graph.nodes for name in node.outputs.values()}
    for node in graph.nodes:
        if type(node.operator) in others and (first := makers.get(node.inputs["x"])) is not None:
            if type(first.operator) in firsts and read.count(node.inputs["x"]) == 1:
                yield first, node


def _fits(graph: Graph, conv: Node[Conv2d], pool: Node[MaxPool2d], config: Config) -> bool:
    """Whether post-processing can reduce the windows, each of which lies apart from others inside the outputs."""
    made, pooled = (graph.tensors[node.outputs["y"]].shape for node in (conv, pool))
    operator = pool.operator
    kernel, stride = operator.window(made)
    sums = kernel[0] * kernel[1]
    return (operator.kernel is not None and isinstance(conv.operator.requant, Requant) and kernel == stride
            and operator.dilation == (1, 1) and not any(operator.padding)
            and all(size * window <= whole for size, window, whole in zip(pooled[2:], kernel, made[2:], strict=True))
            and 1 < sums <= min(1 << REDUCE_BITS, config.sum_rows))


def _cycles(graph: Graph, config: Config, node: Node, cycles: Callable[[Kernel], float]) -> float:
    """Estimated cycles of a node alone."""
    context = Context(graph, config, is_fixed_point=False)
    for name in node.inputs.values():
        if name not in graph.constants:
            context.locate(name)
    kernels = LOWERINGS[type(node.operator)](context, node)
    for buffer in context.made:
        # As buffers do in the end, each begins where bursts may.
        buffer.address = 0
    return sum(map(cycles, kernels))
