"""As :mod:`tflite_draw`, models of operators that put elements in other places, or leave axes out."""

import numpy as np
from tflite_draw import FAMILIES, constant, draw, family, kind_of, same, stored, upto, weights, window

__all__ = ["FAMILIES", "draw", "reduction"]


@family
def reshape(model, rng):
    shape = tuple(int(rng.choice([1, 2, 3, 4])) for _ in range(upto(rng, 4)))
    count = int(np.prod(shape))
    target = [count] if rng.integers(2) else [next(size for size in (4, 3, 2, 1) if count % size == 0), 1, -1]
    whole = tuple(count // target[0] if size == -1 else size for size in target)
    x = model.tensor(shape, **stored(rng))
    middle, y = (model.tensor(size, **same(model, x)) for size in (whole, (1, *whole)))
    model.node("RESHAPE", [x, model.constant(np.array(target, np.int32))], [middle], "ReshapeOptions", newShape=target)
    model.node("EXPAND_DIMS", [middle, model.constant(np.int32(rng.choice([0, -len(whole) - 1])))], [y],
               "ExpandDimsOptions")
    return [x], [y]


@family
def squeeze(model, rng):
    shape = tuple(int(rng.choice([1, 1, 2, 3])) for _ in range(upto(rng, 4))) + (2,)
    ones = [axis for axis, size in enumerate(shape) if size == 1]
    axes = [axis if rng.integers(2) else axis - len(shape) for axis in ones[:int(rng.integers(len(ones) + 1))]]
    gone = {axis % len(shape) for axis in axes} or {*ones}
    x = model.tensor(shape, **stored(rng))
    y = model.tensor([size for axis, size in enumerate(shape) if axis not in gone], **same(model, x))
    model.node("SQUEEZE", [x], [y], "SqueezeOptions", squeezeDims=axes)
    return [x], [y]


@family
def pad(model, rng):
    """A padded tensor that convolutions read, or anything else."""
    if rng.integers(4) == 0:
        return padded_anywhere(model, rng)
    shape, kind = (upto(rng, 2), upto(rng, 5), upto(rng, 5), upto(rng, 4)), str(rng.choice(["PAD", "PAD", "PADV2"]))
    sides = np.zeros((4, 2), np.int32)
    sides[1:3] = rng.integers(0, 3, (2, 2))
    x = model.tensor(shape, **stored(rng))
    padded = model.tensor(tuple(np.array(shape) + sides.sum(axis=1)), **same(model, x))
    more = [constant(model, rng, (1,), same(model, x))]
    model.node(kind, [x, model.constant(sides), *more * (kind == "PADV2")], [padded],
               "PadOptions" if kind == "PAD" else "PadV2Options")
    if rng.integers(3) == 0:
        return [x], [padded]
    form = same(model, x)
    m, r, s = upto(rng, 4), *(min(2, size) for size in model.tensors[padded].shape[1:3])
    w, bias, output = weights(model, rng, (m, r, s, shape[3]), 0, form, r * s * shape[3], biased=True)
    same_size = int(rng.integers(2))
    y = model.tensor((shape[0], *window(rng, model.tensors[padded].shape[1:3], (r, s), (1, 1), (1, 1), same_size), m),
                     **output)
    model.node("CONV_2D", [padded, w, *bias], [y], "Conv2DOptions", padding=same_size, strideH=1, strideW=1,
               dilationHFactor=1, dilationWFactor=1)
    return [x], [y]


@family
def transpose(model, rng):
    """Any axes change places, some of one element."""
    shape = [int(rng.choice([1, upto(rng, 4)])) for _ in range(int(rng.integers(2, 5)))]
    order = [int(axis) for axis in rng.permutation(len(shape))]
    x = model.tensor(shape, **stored(rng))
    middle, y = (model.tensor([shape[axis] for axis in order], **same(model, x)) for _ in range(2))
    model.node("TRANSPOSE", [x, model.constant(np.array(order, np.int32))], [middle], "TransposeOptions")
    model.node("RELU", [middle], [y])
    return [x], [y]


def padded_anywhere(model, rng):
    """Add padding of any axes."""
    shape = tuple(upto(rng, 4) for _ in range(upto(rng, 4)))
    sides = rng.integers(0, 3, (len(shape), 2)).astype(np.int32)
    x = model.tensor(shape, **stored(rng, kind_of(rng)))
    y = model.tensor(tuple(np.array(shape) + sides.sum(axis=1)), **same(model, x))
    model.node("PAD", [x, model.constant(sides)], [y], "PadOptions")
    return [x], [y]


def moved(model, rng, ranks=(1, 5)):
    """Add a tensor that is moved, of any type of 8 bits; return its number and its shape."""
    shape = tuple(upto(rng, 5) for _ in range(int(rng.integers(*ranks))))
    return model.tensor(shape, **stored(rng, kind_of(rng))), shape


@family
def concatenation(model, rng):
    first, shape = moved(model, rng)
    axis = int(rng.integers(len(shape)))
    numbers, length = [first], shape[axis]
    for _ in range(upto(rng, 3)):
        size, form = (*shape[:axis], upto(rng, 4), *shape[axis + 1:]), same(model, first)
        if form["dtype"] == "uint8" and rng.integers(2):
            # The kernel brings these to the steps of the output.
            form = stored(rng, "uint8")
        numbers.append(constant(model, rng, size, form) if rng.integers(4) == 0 else model.tensor(size, **form))
        length += size[axis]
    y = model.tensor((*shape[:axis], length, *shape[axis + 1:]), **same(model, first))
    model.node("CONCATENATION", numbers, [y], "ConcatenationOptions",
               axis=axis - len(shape) * int(rng.integers(2)))
    return [number for number in numbers if model.tensors[number].values is None], [y]


@family
def split(model, rng):
    """Parts of one size, or of any."""
    count, rank = upto(rng, 3), upto(rng, 4)
    axis, even = int(rng.integers(rank)), bool(rng.integers(2))
    sizes = [upto(rng, 3)] * count if even else [upto(rng, 3) for _ in range(count)]
    shape = tuple(sum(sizes) if place == axis else upto(rng, 4) for place in range(rank))
    x = model.tensor(shape, **stored(rng))
    made = [model.tensor((*shape[:axis], size, *shape[axis + 1:]), **same(model, x)) for size in sizes]
    place = model.constant(np.int32(axis - rank * int(rng.integers(2))))
    if even:
        model.node("SPLIT", [place, x], made, "SplitOptions", numSplits=count)
    else:
        given = [-1 if index == 0 and rng.integers(2) else size for index, size in enumerate(sizes)]
        model.node("SPLIT_V", [x, model.constant(np.array(given, np.int32)), place], made, "SplitVOptions",
                   numSplits=count)
    return [x], made[:upto(rng, count)]


@family
def cut(model, rng):
    """SLICE."""
    x, shape = moved(model, rng)
    begin = np.array([rng.integers(size) for size in shape], np.int32)
    size = np.array([rng.choice([-1, upto(rng, most - first)]) for first, most in zip(begin, shape, strict=True)],
                    np.int32)
    whole = np.where(size < 0, np.array(shape) - begin, size)
    y = model.tensor(tuple(int(each) for each in whole), **same(model, x))
    model.node("SLICE", [x, model.constant(begin), model.constant(size)], [y], "SliceOptions")
    return [x], [y]


@family
def strided_slice(model, rng):
    """Slices of some axes, of which some go; an ellipsis between them, and axes that come."""
    x, shape = moved(model, rng)
    while True:
        cut = upto(rng, len(shape))
        kinds = ["cut"] * cut
        # An ellipsis of no axis makes LiteRT read what is not there.
        if cut < len(shape) and rng.integers(2):
            kinds.insert(int(rng.integers(cut + 1)), "dots")
        for _ in range(int(rng.integers(3)) * (len(shape) < 4)):
            kinds.insert(int(rng.integers(len(kinds) + 1)), "added")
        begin, end, step, masks, parts = _slices(rng, shape, kinds)
        made = np.zeros(shape)[tuple(parts)]
        if made.size:
            break
    y = model.tensor(made.shape, **same(model, x))
    given = (model.constant(np.array(each, np.int32)) for each in (begin, end, step))
    model.node("STRIDED_SLICE", [x, *given], [y], "StridedSliceOptions", **masks)
    return [x], [y]


def _slices(rng, shape, kinds):
    """Fields of a slice of kinds of entries, and the same as NumPy has it."""
    begin, end, step, parts = [], [], [], []
    masks = dict.fromkeys(("beginMask", "endMask", "ellipsisMask", "newAxisMask", "shrinkAxisMask"), 0)
    axis = 0
    for place, kind in enumerate(kinds):
        bit, size = 1 << place, shape[min(axis, len(shape) - 1)]
        begin.append(int(rng.integers(-size - 1, size + 2)))
        end.append(int(rng.integers(-size - 1, size + 2)))
        step.append(int(rng.choice([1, 1, 2, -1, -2])))
        open_begin, open_end = rng.integers(2, size=2)
        masks["beginMask"] |= bit * int(open_begin)
        masks["endMask"] |= bit * int(open_end)
        if kind == "dots":
            masks["ellipsisMask"] |= bit
            parts.append(Ellipsis)
            axis = len(shape) - kinds[place:].count("cut")
        elif kind == "added":
            masks["newAxisMask"] |= bit
            parts.append(None)
        elif rng.integers(4) == 0:
            masks["shrinkAxisMask"] |= bit
            masks["beginMask"] &= ~bit
            step[-1], begin[-1] = 1, int(rng.integers(-size, size))
            parts.append(begin[-1])
            axis += 1
        else:
            parts.append(slice(None if open_begin else begin[-1], None if open_end else end[-1], step[-1]))
            axis += 1
    return begin, end, step, masks, parts


@family
def batches(model, rng):
    """Blocks of pixels as images of a batch each, or these as blocks, with zeros put on or cut off around them."""
    blocks, (n, h, w, c) = rng.integers(1, 4, 2), (upto(rng, 3) for _ in range(4))
    sides = rng.integers(0, 2, (2, 2))
    many = np.array([h, w]) * blocks
    sides[many - sides.sum(axis=1) < 1] = 0
    one, apart = (n, *(many - sides.sum(axis=1)).tolist(), c), (n * int(blocks.prod()), h, w, c)
    form = stored(rng, kind_of(rng))
    more = [model.constant(blocks.astype(np.int32)), model.constant(sides.astype(np.int32))]
    if rng.integers(2):
        x, y = model.tensor(one, **form), model.tensor(apart, **form)
        model.node("SPACE_TO_BATCH_ND", [x, *more], [y], "SpaceToBatchNDOptions")
    else:
        x, y = model.tensor(apart, **form), model.tensor(one, **form)
        model.node("BATCH_TO_SPACE_ND", [x, *more], [y], "BatchToSpaceNDOptions")
    return [x], [y]


@family
def pack(model, rng):
    """Tensors put together along an axis of their own, and taken apart along another."""
    first, shape = moved(model, rng, (1, 4))
    count, axis, other = upto(rng, 3), int(rng.integers(len(shape) + 1)), int(rng.integers(len(shape) + 1))
    numbers = [first, *(model.tensor(shape, **same(model, first)) for _ in range(count - 1))]
    whole = (*shape[:axis], count, *shape[axis:])
    middle = model.tensor(whole, **same(model, first))
    made = [model.tensor(whole[:other] + whole[other + 1:], **same(model, first)) for _ in range(whole[other])]
    model.node("PACK", numbers, [middle], "PackOptions", axis=axis, valuesCount=count)
    model.node("UNPACK", [middle], made, "UnpackOptions", axis=other, num=len(made))
    return numbers, [middle, *made]


@family
def tile(model, rng):
    x, shape = moved(model, rng)
    counts = np.array([upto(rng, 3) for _ in shape], np.int32)
    y = model.tensor(tuple(np.array(shape) * counts), **same(model, x))
    model.node("TILE", [x, model.constant(counts)], [y], "TileOptions")
    return [x], [y]


@family
def gather(model, rng):
    x, shape = moved(model, rng)
    axis = int(rng.integers(len(shape)))
    indices = rng.integers(0, shape[axis], tuple(upto(rng, 3) for _ in range(int(rng.integers(3))))).astype(np.int32)
    y = model.tensor((*shape[:axis], *indices.shape, *shape[axis + 1:]), **same(model, x))
    model.node("GATHER", [x, model.constant(indices)], [y], "GatherOptions", axis=axis)
    return [x], [y]


@family
def mirror_pad(model, rng):
    x, shape = moved(model, rng)
    mode = int(rng.integers(2))
    sides = np.array([rng.integers(0, size + mode, 2) for size in shape], np.int32)
    y = model.tensor(tuple(np.array(shape) + sides.sum(axis=1)), **same(model, x))
    model.node("MIRROR_PAD", [x, model.constant(sides)], [y], "MirrorPadOptions", mode=mode)
    return [x], [y]


@family
def resize_nearest(model, rng):
    shape, size = tuple(upto(rng, 6) for _ in range(4)), rng.integers(1, 12, 2).astype(np.int32)
    x = model.tensor(shape, **stored(rng, kind_of(rng)))
    y = model.tensor((shape[0], *size.tolist(), shape[3]), **same(model, x))
    corners = bool(rng.integers(2))
    model.node("RESIZE_NEAREST_NEIGHBOR", [x, model.constant(size)], [y], "ResizeNearestNeighborOptions",
               alignCorners=corners, halfPixelCenters=not corners and bool(rng.integers(2)))
    return [x], [y]


@family
def resize_bilinear(model, rng):
    """Images that become so many times as large that shares of elements have few bits."""
    n, h, w, c = (upto(rng, 5) for _ in range(4))
    size = np.array([h * rng.choice([1, 2, 4, 8]), w * rng.choice([1, 2, 4])], np.int32)
    return bilinear(model, rng, (n, h, w, c), size, int(rng.integers(2)), kind_of(rng))


def bilinear(model, rng, shape, size, mode, dtype="int8"):
    """Add RESIZE_BILINEAR; the mode is 1 for half_pixel_centers and 2 for align_corners."""
    x = model.tensor(shape, **stored(rng, dtype))
    y = model.tensor((shape[0], *size.tolist(), shape[3]), **same(model, x))
    model.node("RESIZE_BILINEAR", [x, model.constant(size)], [y], "ResizeBilinearOptions", alignCorners=mode == 2,
               halfPixelCenters=mode == 1)
    return [x], [y]


@family
def resize_bilinear_any(model, rng):
    """Images of any size, and any other."""
    shape, size = tuple(upto(rng, 7) for _ in range(4)), rng.integers(1, 14, 2).astype(np.int32)
    return bilinear(model, rng, shape, size, int(rng.integers(3)))


@family
def blocks(model, rng):
    """Channels as blocks of pixels, or blocks as channels."""
    (n, h, w, c), block = (upto(rng, 4) for _ in range(4)), int(rng.integers(2, 4))
    deep, wide = (n, h, w, c * block * block), (n, h * block, w * block, c)
    form = stored(rng)
    if rng.integers(2):
        x, y = model.tensor(deep, **form), model.tensor(wide, **form)
        model.node("DEPTH_TO_SPACE", [x], [y], "DepthToSpaceOptions", blockSize=block)
    else:
        x, y = model.tensor(wide, **form), model.tensor(deep, **form)
        model.node("SPACE_TO_DEPTH", [x], [y], "SpaceToDepthOptions", blockSize=block)
    return [x], [y]


@family
def reverse(model, rng):
    x, shape = moved(model, rng)
    axes = rng.permutation(len(shape))[:1].astype(np.int32)
    y = model.tensor(shape, **same(model, x))
    model.node("REVERSE_V2", [x, model.constant(axes)], [y], "ReverseV2Options")
    return [x], [y]


@family
def broadcast_to(model, rng):
    target = tuple(upto(rng, 4) for _ in range(upto(rng, 4)))
    shape = tuple(size if rng.integers(2) else 1 for size in target)[int(rng.integers(len(target))):]
    x = model.tensor(shape, **stored(rng))
    y = model.tensor(target, **same(model, x))
    model.node("BROADCAST_TO", [x, model.constant(np.array(target, np.int32))], [y], "BroadcastToOptions")
    return [x], [y]


def reduction(model, rng, kind, dtype):
    shape = tuple(upto(rng, 6 - upto(rng, 3)) for _ in range(upto(rng, 5)))
    axes = rng.permutation(len(shape))[:upto(rng, len(shape))]
    keep = bool(rng.integers(2))
    x = stored(rng, dtype)
    y = x if rng.integers(3) == 0 or kind.startswith("REDUCE") else stored(rng, dtype)
    number = model.tensor(shape, **x)
    made = model.tensor(np.zeros(shape).sum(tuple(axes), keepdims=keep).shape, **y)
    given = np.where(rng.integers(2, size=axes.size), axes, axes - len(shape)).astype(np.int32)
    model.node(kind, [number, model.constant(given)], [made], "ReducerOptions", keepDims=keep)
    return [number], [made]


@family
def reduce_extreme(model, rng):
    return reduction(model, rng, str(rng.choice(["REDUCE_MAX", "REDUCE_MIN"])), kind_of(rng))


@family
def mean(model, rng):
    return reduction(model, rng, "MEAN", kind_of(rng))


@family
def total(model, rng):
    """SUM, of which the reference kernel takes int8 for uint8."""
    return reduction(model, rng, "SUM", "uint8")
