"""Pooling as a part of the convolution before it, where the accelerator has maxima and that takes fewer cycles."""

from collections.abc import Callable, Iterator

from ...hdl.shell.config import Config
from ...hdl.shell.functions import REDUCE_BITS
from ..graph.graph import Graph, Node
from ..graph.verify import verify
from ..operators import Conv2d, MaxPool2d, PooledConv2d, Requant
from .context import Context
from .kernel import Kernel
from .lowerings import LOWERINGS

__all__ = ["fuse_pools"]


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
    for conv, pool in _candidates(graph):
        fused = Node(f"{conv.name} + {pool.name}", PooledConv2d.of(conv.operator, pool.operator), conv.inputs,
                     pool.outputs)
        if _fits(graph, conv, pool, config) and (_cycles(graph, config, fused, cycles)
                                                 < sum(_cycles(graph, config, each, cycles) for each in (conv, pool))):
            nodes = [fused if node is conv else node for node in nodes if node is not pool]
    changed = graph.changed(nodes=nodes)
    verify(changed)
    return changed


def _candidates(graph: Graph) -> Iterator[tuple[Node[Conv2d], Node[MaxPool2d]]]:
    """Convolutions, each with the pooling that alone reads its outputs."""
    read = [*graph.outputs, *graph.views.values(), *(name for node in graph.nodes for name in node.inputs.values())]
    makers = {name: node for node in graph.nodes for name in node.outputs.values()}
    for pool in graph.nodes:
        if type(pool.operator) is MaxPool2d and (conv := makers.get(pool.inputs["x"])) is not None:
            if type(conv.operator) is Conv2d and read.count(pool.inputs["x"]) == 1:
                yield conv, pool


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
