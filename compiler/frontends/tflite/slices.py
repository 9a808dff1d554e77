"""Parts of tensors by Python's slices, with axes that go and axes that come."""

from ....hdl.errors import PearrayError
from .builder import Builder, handles
from .file import FileOperator
from .moves import taken

__all__: list[str] = []


@handles("STRIDED_SLICE")
def _strided_slice(operator: FileOperator, graph: Builder) -> None:
    """Part of a tensor, or of a shape that is computed, by Python's slices."""
    number = graph.of(operator, 0, "x")
    shape = graph.shape(number)
    parts: dict[int, slice] = {}
    target: list[int] = []
    for axis, place in _sliced_axes(operator, graph, len(shape)):
        if axis is None:
            target.append(1)
        elif place is None:
            target.append(shape[axis])
        else:
            parts[axis], size = _sliced(operator, graph, place, shape[axis])
            target += [] if size is None else [size]
    if number in graph.values:
        value = graph.values[number][tuple(parts.get(axis, slice(None)) for axis in range(len(shape)))]
        graph.values[operator.outputs[0]] = value.reshape(target)
        return
    graph.check_same(number, operator.outputs[0])
    taken(operator, graph, number, parts, tuple(target))


def _sliced_axes(operator: FileOperator, graph: Builder, rank: int) -> list[tuple[int | None, int | None]]:
    """Each axis of a tensor with the place of what cuts it, None for nothing, and where others of one are put."""
    count = len(graph.integers(operator, 1, "begin"))
    dots, added = graph.option(operator, "EllipsisMask"), graph.option(operator, "NewAxisMask")
    kinds = ["dots" if dots >> place & 1 else "added" if added >> place & 1 else "cut" for place in range(count)]
    spare = rank - kinds.count("cut")
    if kinds.count("dots") > 1 or spare < 0:
        raise PearrayError(f"begin must cut at most the {rank} axes of x, with one ellipsis, not {kinds.count('cut')} "
                           f"with {kinds.count('dots')}")
    found: list[tuple[int | None, int | None]] = []
    axis = 0
    for place, kind in enumerate(kinds if "dots" in kinds else [*kinds, "dots"]):
        taken = {"dots": spare, "added": 0, "cut": 1}[kind]
        found += [(None, None)] * (kind == "added")
        found += [(each, place if kind == "cut" else None) for each in range(axis, axis + taken)]
        axis += taken
    return found


def _sliced(operator: FileOperator, graph: Builder, place: int, size: int) -> tuple[slice, int | None]:
    """What is taken of an axis, and how many indices that is, None where the axis goes."""
    begin, end, step = (graph.integers(operator, each, role)[place]
                        for each, role in ((1, "begin"), (2, "end"), (3, "strides")))
    from_begin, to_end, shrunk = (graph.option(operator, f"{name}Mask") >> place & 1
                                  for name in ("Begin", "End", "ShrinkAxis"))
    if not step:
        raise PearrayError("strides must not be 0")
    if shrunk:
        # The kernel looks at the mask here, too.
        index = (0 if step > 0 else -1) if from_begin else begin
        return slice(index % size, index % size + 1), None
    end = begin + end if graph.option(operator, "Offset") else end
    start, stop, _ = slice(None if from_begin else begin, None if to_end else end, step).indices(size)
    # Behind the first index there is none to count to, but one from the end.
    return slice(start, stop if stop >= 0 else -size - 1, step), len(range(start, stop, step))
