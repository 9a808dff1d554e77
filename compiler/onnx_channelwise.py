"""ONNX operators that never mix channels: pooling, addition, activations by table."""

@handles("MaxPool")
def _max_pool(node: OnnxNode, graph: Builder) -> None:
    one_output(node)
    taken = node.take(auto_pad="NOTSET", ceil_mode=0, dilations=None, kernel_shape=None, pads=None,
                      storage_order=0, strides=None)
    size = image(graph, node.inputs[0])
    kernel, strides, dilations = (two(name, taken[name], (1, 1))
                                  for name in ("kernel_shape", "strides", "dilations"))
    top, left, bottom, right = spatial_padding(taken["auto_pad"], taken["pads"], size, kernel, strides,
                                               dilations)
    if taken["ceil_mode"] and taken["auto_pad"] == "NOTSET":
        # Padding never wins, so a window cut off by the end is a whole one over more padding.
        bottom, right = (_ceiling(size[axis], pads, kernel[axis], strides[axis], dilations[axis])
                         for axis, pads in enumerate(((top, bottom), (left, right))))
    padding = (top, left, bottom, right)
    graph.add(node, MaxPool2d(kernel=kernel, stride=strides, padding=padding, dilation=dilations),
              {"x": node.inputs[0]})


def _ceiling(size: int, pads: tuple[int, int], taps: int, stride: int, dilation: int) -> int:
    """Find the padding at the end with which the last, partial window becomes whole."""
    reach = dilation * (taps - 1) + 1
    count = -(-(size + sum(pads) - reach) // stride) + 1
    # A window must begin inside the input or the padding before it.
    if (count - 1) * stride >= size + pads[0]:
        count -= 1
    return max((count - 1) * stride + reach - size - pads[0], 0)


@handles("Relu")
def _relu(node: OnnxNode, graph: Builder) -> None:
    node.take()
    x = graph.tensor(node.inputs[0])
    if x.dtype.kind not in "iu":
        raise PearrayError(f"input {x.name!r} must be quantised, not {x.dtype}")
    graph.add(node, Relu(), {"x": x.name})
