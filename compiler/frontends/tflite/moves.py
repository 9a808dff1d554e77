"""Operators that put elements in other places: parts of tensors, tensors side by side, repetition, other sizes."""

from collections.abc import Callable
from dataclasses import replace
from math import prod

import numpy as np

from ....golden import litert
from ....hdl.errors import PearrayError
from ...operators import (
    Concat,
    DepthToSpace,
    Expand,
    Gather,
    Lookup,
    Pad,
    Reshape,
    Slice,
    SpaceToDepth,
    Tile,
    Transpose,
)
from ...operators.channelwise import every_value
from ...operators.operator import Operator
from ..building import looked_up
from .builder import WORDS, Builder, Padded, handles, image_axis, natural_order
from .file import FileOperator

__all__ = ["gathered", "matrices", "moved", "stacked", "taken"]

Shape = tuple[int, ...]

_MIRRORED = {0: "reflect", 1: "symmetric"}


def moved(operator: FileOperator, graph: Builder) -> tuple[int, Shape]:
    """Number and shape of the first input, as whose bytes those of each output are stored."""
    number = graph.of(operator, 0, "x")
    for output in operator.outputs:
        graph.check_same(number, output)
    return number, graph.shape(number)


def _axis(axis: int, rank: int) -> int:
    """Number of an axis from the first on."""
    if not -rank <= axis < rank:
        raise PearrayError(f"axis must be in {-rank}..{rank - 1}, not {axis}")
    return axis % rank


def _natural(shape: Shape, axes: list[int]) -> tuple[int, ...]:
    """Axes of a tensor of some shape as operators here have them."""
    return tuple(image_axis(axis) if len(shape) == 4 else axis for axis in axes)


@handles("CONCATENATION")
def _concatenation(operator: FileOperator, graph: Builder) -> None:
    if all(number in graph.values for number in operator.inputs):
        graph.values[operator.outputs[0]] = np.concatenate(
            [graph.values[number] for number in operator.inputs], graph.option(operator, "Axis"))
        return
    if graph.option(operator, "FusedActivationFunction"):
        raise PearrayError("fused activation must be NONE, as that of the kernel is")
    _join(operator, graph, graph.option(operator, "Axis"), lambda shape: shape)


@handles("PACK")
def _pack(operator: FileOperator, graph: Builder) -> None:
    """Tensors along an axis of their own, or parts of a shape that is computed."""
    axis = graph.option(operator, "Axis")
    if all(number in graph.values for number in operator.inputs):
        graph.values[operator.outputs[0]] = np.stack([graph.values[number] for number in operator.inputs], axis)
        return
    rank = len(graph.shape(graph.of(operator, 0, "x0"))) + 1
    place = _axis(axis, rank)
    _join(operator, graph, place, lambda shape: (*shape[:place], 1, *shape[place:]))


def _join(operator: FileOperator, graph: Builder, axis: int, form: Callable[[Shape], Shape]) -> None:
    """Put all inputs, in other shapes, one behind the other along an axis."""
    numbers = [graph.of(operator, place, f"x{place}") for place in range(len(operator.inputs))]
    shapes = [form(graph.shape(number)) for number in numbers]
    names = [_as_stored(operator, graph, number, graph.natural(number, shape))
             for number, shape in zip(numbers, shapes, strict=True)]
    made = Concat(_natural(shapes[0], [_axis(axis, len(shapes[0]))])[0])
    graph.make_natural(operator, made, {f"x{place}": name for place, name in enumerate(names)})


def _as_stored(operator: FileOperator, graph: Builder, number: int, name: str) -> str:
    """Name of a tensor in the steps of an operator's output, which those of uint8 are brought to."""
    made = operator.outputs[0]
    if operator.kind != "CONCATENATION" or {graph.entry(each).kind for each in (number, made)} != {"UINT8"}:
        graph.check_same(number, made)
        return name
    x, y = graph.stored(number, "x", "UINT8"), graph.stored(made, "y", "UINT8")
    if x == y:
        return name
    table = litert.rescaled(every_value(x.dtype), *x, *y, dtype=y.dtype)
    return graph.append(operator, Lookup(table), {"x": name}, "part")


def taken(operator: FileOperator, graph: Builder, number: int, parts: dict[int, slice],
          target: Shape | None = None) -> None:
    """Make a part of a tensor along some axes the output of an operator, perhaps under another shape."""
    shape = graph.shape(number)
    axes = _natural(shape, [*parts])
    made = Slice(tuple(part.start for part in parts.values()), tuple(part.stop for part in parts.values()), axes,
                 tuple(part.step or 1 for part in parts.values()))
    graph.make_natural(operator, made, {"x": graph.natural(number)}, target)


def _split(operator: FileOperator, graph: Builder, number: int, axis: int, sizes: list[int],
           target: Shape | None = None) -> None:
    """Cut a tensor along an axis, one output for each part that somebody needs."""
    read = {each for other in graph.file.operators for each in other.inputs} | {*graph.file.outputs}
    if sum(sizes) != graph.shape(number)[axis] or len(sizes) != len(operator.outputs):
        raise PearrayError(f"parts along axis {axis} must be {len(operator.outputs)}, of {graph.shape(number)[axis]} "
                           f"indices together, not {sizes}")
    first = 0
    for output, size in zip(operator.outputs, sizes, strict=True):
        if output in read:
            taken(replace(operator, outputs=[output]), graph, number, {axis: slice(first, first + size)}, target)
        first += size


@handles("SPLIT", several=True)
def _split_evenly(operator: FileOperator, graph: Builder) -> None:
    number = graph.of(operator, 1, "x")
    axis = _axis(graph.integers(operator, 0, "axis")[0], len(graph.shape(number)))
    count = len(operator.outputs)
    for output in operator.outputs:
        graph.check_same(number, output)
    _split(operator, graph, number, axis, [graph.shape(number)[axis] // count] * count)


@handles("SPLIT_V", several=True)
def _split_by_sizes(operator: FileOperator, graph: Builder) -> None:
    number, shape = moved(operator, graph)
    axis, sizes = _axis(graph.integers(operator, 2, "axis")[0], len(shape)), graph.integers(operator, 1, "size_splits")
    if sizes.count(-1) == 1:
        sizes[sizes.index(-1)] = shape[axis] - sum(sizes) - 1
    _split(operator, graph, number, axis, sizes)


@handles("UNPACK", several=True)
def _unpack(operator: FileOperator, graph: Builder) -> None:
    number, shape = moved(operator, graph)
    axis = _axis(graph.option(operator, "Axis"), len(shape))
    _split(operator, graph, number, axis, [1] * shape[axis], shape[:axis] + shape[axis + 1:])


@handles("SLICE")
def _slice(operator: FileOperator, graph: Builder) -> None:
    number, shape = moved(operator, graph)
    begin, size = graph.integers(operator, 1, "begin"), graph.integers(operator, 2, "size")
    if len(begin) != len(shape) or len(size) != len(shape):
        raise PearrayError(f"begin and size must have {len(shape)} integers, not {begin} and {size}")
    taken(operator, graph, number, {axis: slice(first, shape[axis] if count == -1 else first + count)
                                    for axis, (first, count) in enumerate(zip(begin, size, strict=True))})


@handles("REVERSE_V2")
def _reverse(operator: FileOperator, graph: Builder) -> None:
    number, shape = moved(operator, graph)
    taken(operator, graph, number, {_axis(axis, len(shape)): slice(-1, -shape[axis] - 1, -1)
                                    for axis in graph.integers(operator, 1, "axis")})


@handles("TILE")
def _tile(operator: FileOperator, graph: Builder) -> None:
    number, shape = moved(operator, graph)
    counts = graph.integers(operator, 1, "multiples")
    if len(counts) != len(shape):
        raise PearrayError(f"multiples must have {len(shape)} integers, not {counts}")
    graph.make_natural(operator, Tile(natural_order(shape, counts)), {"x": graph.natural(number)})


@handles("BROADCAST_TO")
def _broadcast_to(operator: FileOperator, graph: Builder) -> None:
    number, shape = moved(operator, graph)
    target = graph.target(tuple(graph.integers(operator, 1, "shape")))
    if len(target) < len(shape):
        raise PearrayError(f"shape must have at least the {len(shape)} axes of x, not be {target}")
    own = (*(1,) * (len(target) - len(shape)), *shape)
    graph.make_natural(operator, Expand(natural_order(target, target)), {"x": graph.natural(number, own)})


@handles("GATHER")
def _gather(operator: FileOperator, graph: Builder) -> None:
    number, shape = moved(operator, graph)
    axis, given = _axis(graph.option(operator, "Axis"), len(shape)), graph.of(operator, 1, "indices")
    if number in graph.values and given in graph.file.inputs and not graph.option(operator, "BatchDims"):
        table = looked_up(graph.values[number], axis, graph.tensor(graph.entry(given).name))
        graph.make(operator, table, {"indices": graph.rows(given)})
        return
    indices = graph.known(operator, 1, "indices")
    if graph.option(operator, "BatchDims") or indices.dtype.kind not in "iu":
        raise PearrayError(f"indices must be integers, the same for each batch, not {indices.dtype} with batch_dims "
                           f"{graph.option(operator, 'BatchDims')}")
    made = Gather(indices.reshape(-1), _natural(shape, [axis])[0])
    graph.make_natural(operator, made, {"x": graph.natural(number)},
                       (*shape[:axis], *indices.shape, *shape[axis + 1:]))


@handles("PAD", "PADV2")
def _pad(operator: FileOperator, graph: Builder) -> None:
    number, shape = moved(operator, graph)
    x, pads = graph.stored(number, "x", *WORDS), _pads(operator, graph, shape)
    value = int(x.zero_point)
    if operator.kind == "PADV2":
        constant = graph.known(operator, 2, "constant_values")
        if constant.size != 1 or constant.dtype != x.dtype:
            raise PearrayError(f"constant_values must be one {x.dtype}, not {constant.dtype} of shape {constant.shape}")
        value = int(constant.item())
    graph.pad(operator, Padded(number, tuple((before, behind) for before, behind in pads), value))


def _pads(operator: FileOperator, graph: Builder, shape: Shape) -> list[list[int]]:
    """Elements before and behind each axis."""
    pads = graph.known(operator, 1, "paddings")
    if pads.dtype.kind != "i" or pads.shape != (len(shape), 2) or (pads.size and pads.min() < 0):
        raise PearrayError(f"paddings must be two integers of at least 0 for each of {len(shape)} axes, not "
                           f"{pads.tolist()}")
    found: list[list[int]] = pads.tolist()
    return found


@handles("MIRROR_PAD")
def _mirror_pad(operator: FileOperator, graph: Builder) -> None:
    number, shape = moved(operator, graph)
    mode = graph.option(operator, "Mode")
    if mode not in _MIRRORED:
        raise PearrayError(f"mode must be REFLECT (0) or SYMMETRIC (1), not {mode}")
    pads = _pads(operator, graph, shape)
    if any(max(pair) > size - 1 + mode for pair, size in zip(pads, shape, strict=True)):
        raise PearrayError(f"paddings must be less than what is mirrored of shape {shape}, not {pads}")
    gathered(operator, graph, number, {axis: np.pad(np.arange(shape[axis]), pair, mode=_MIRRORED[mode])  # type: ignore[call-overload]
                                        for axis, pair in enumerate(pads) if any(pair)})


def gathered(operator: FileOperator, graph: Builder, number: int, indices: dict[int, np.ndarray]) -> None:
    """Make the output of an operator of indices along some axes, one after another."""
    shape, name = graph.shape(number), graph.natural(number)
    steps: list[Operator] = [Gather(each, _natural(shape, [axis])[0]) for axis, each in indices.items()]
    steps = steps or [Tile((1,) * len(shape))]
    for made in steps[:-1]:
        name = graph.append(operator, made, {"x": name}, "part")
    graph.make_natural(operator, steps[-1], {"x": name})


@handles("DEPTH_TO_SPACE", "SPACE_TO_DEPTH")
def _blocks(operator: FileOperator, graph: Builder) -> None:
    number, _ = moved(operator, graph)
    made = (DepthToSpace if operator.kind == "DEPTH_TO_SPACE" else SpaceToDepth)(graph.option(operator, "BlockSize"))
    graph.make_image(operator, made, {"x": graph.image(number)})


@handles("SPACE_TO_BATCH_ND")
def _space_to_batch(operator: FileOperator, graph: Builder) -> None:
    """Blocks of pixels, with zeros around all, as images of one batch each."""
    number, shape = moved(operator, graph)
    x, blocks, sides = graph.stored(number, "x", *WORDS), *_batched(operator, graph, "paddings")
    count, rest = len(blocks), shape[1 + len(blocks):]
    pads = [(0, 0), *sides, *((0, 0),) * len(rest)]
    padded = graph.append(operator, Pad(tuple(each for end in zip(*pads, strict=True) for each in end),
                                        value=int(x.zero_point)), {"x": graph.rows(number)}, "padded")
    sizes = [size // block for size, block in zip(graph.tensor(padded).shape[1:], blocks, strict=False)]
    parts = graph.append(operator, Reshape((shape[0], *(each for pair in zip(sizes, blocks, strict=True)
                                                        for each in pair), *rest)), {"x": padded}, "parts")
    order = (*range(2, 2 * count + 1, 2), 0, *range(1, 2 * count, 2), *range(2 * count + 1, 2 * count + 1 + len(rest)))
    graph.make(operator, Transpose(order), {"x": parts}, (shape[0] * prod(blocks), *sizes, *rest))


@handles("BATCH_TO_SPACE_ND")
def _batch_to_space(operator: FileOperator, graph: Builder) -> None:
    """Images of one batch each as blocks of pixels, of which some are cut off at the ends."""
    number, shape = moved(operator, graph)
    blocks, sides = _batched(operator, graph, "crops")
    count, sizes, rest = len(blocks), shape[1:1 + len(blocks)], shape[1 + len(blocks):]
    if shape[0] % prod(blocks):
        raise PearrayError(f"x must have a batch that is a multiple of {prod(blocks)}, not {shape[0]}")
    batch = shape[0] // prod(blocks)
    parts = graph.append(operator, Reshape((*blocks, batch, *sizes, *rest)), {"x": graph.rows(number)}, "parts")
    order = (count, *(axis for place in range(count) for axis in (count + 1 + place, place)),
             *range(2 * count + 1, 2 * count + 1 + len(rest)))
    turned = graph.append(operator, Transpose(order), {"x": parts}, "turned")
    whole = [size * block for size, block in zip(sizes, blocks, strict=True)]
    joined = graph.append(operator, Reshape((batch, *whole, *rest)), {"x": turned}, "joined")
    axes = tuple(range(1, 1 + count))
    cut = Slice(tuple(first for first, _ in sides), tuple(size - last for size, (_, last) in
                                                          zip(whole, sides, strict=True)), axes)
    graph.make(operator, cut, {"x": joined})


def _batched(operator: FileOperator, graph: Builder, role: str) -> tuple[list[int], list[tuple[int, int]]]:
    """Sizes of blocks along the axes behind the batch, and elements at both ends of each axis."""
    blocks, sides = graph.integers(operator, 1, "block_shape"), graph.integers(operator, 2, role)
    if not blocks or min(blocks) < 1 or len(sides) != 2 * len(blocks) or min(sides) < 0:
        raise PearrayError(f"block_shape and {role} must be integers of at least 1, and two of at least 0 for each, "
                           f"not {blocks} and {sides}")
    return blocks, list(zip(sides[::2], sides[1::2], strict=True))


def matrices(operator: FileOperator, graph: Builder, number: int) -> list[str]:
    """Names of the matrices of a tensor, along its last two axes, each on its own."""
    shape = graph.shape(number)
    count, sizes = prod(shape[:-2]), shape[-2:]
    if number in graph.values:
        return [graph.keep(number, f"matrix {index}", value)
                for index, value in enumerate(graph.values[number].reshape(-1, *sizes))]
    if count == 1:
        return [graph.rows(number, sizes)]
    whole = graph.rows(number, (count * sizes[0], sizes[1]))
    return [graph.append(operator, Slice((index * sizes[0],), ((index + 1) * sizes[0],), (0,)), {"x": whole}, "matrix")
            for index in range(count)]


def stacked(operator: FileOperator, graph: Builder, names: list[str], target: Shape) -> None:
    """Give matrices, one behind the other, the name and shape of an operator's output."""
    if len(names) == 1:
        graph.finish(operator, names[0], target)
    else:
        graph.make(operator, Concat(0), {f"x{place}": name for place, name in enumerate(names)}, target)

