"""ONNX operators of windows over sequences (N, C, L), as those of images of one row; and over whole images of any rank.

A sequence is an image whose height is 1, and so are its windows.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ....hdl.errors import PearrayError
from ...operators import Reshape
from .builder import Builder, Handler, OnnxNode

__all__ = ["image_attributes", "of_images", "of_whole_images"]

#: Attributes of windows with what stands for the height of 1: before each half of the list.
_HEIGHTS = {"kernel_shape": 1, "strides": 1, "dilations": 1, "pads": 0, "output_padding": 0, "output_shape": 1}


def image_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes of a window over sequences as those of one over images of one row.

    Raises
    ------
    PearrayError
        If they are those of more dimensions.
    """
    made = dict(attributes)
    for name, height in _HEIGHTS.items():
        values = attributes.get(name)
        if not isinstance(values, list):
            continue
        wanted = 2 if name == "pads" else 1
        if len(values) != wanted:
            raise PearrayError(f"{name} must be {'two integers' if wanted == 2 else 'one integer'} for x of 3 "
                               f"dimensions, not {values}")
        made[name] = [each for value in values for each in (height, value)]
    return made


def of_images(weights: int | None = None) -> Callable[[Handler], Handler]:
    """Let a handler of images take sequences, too; `weights` is the input that has weights, if one has."""
    def wrap(handler: Handler) -> Handler:
        def handled(node: OnnxNode, graph: Builder) -> None:
            shape = graph.tensor(node.inputs[0]).shape
            if len(shape) != 3:
                handler(node, graph)
                return
            inputs = list(node.inputs)
            if weights is not None:
                value = graph.constant(node, weights, "w")
                if value.ndim != 3:
                    raise PearrayError(f"w must have 3 dimensions, as x has, not shape {value.shape}")
                inputs[weights] = graph.store(f"{inputs[weights]}:image", value.reshape(*value.shape[:2], 1, -1),
                                              graph.ranges.get(inputs[weights]))
            _reshaped(replace(node, inputs=inputs, attributes=image_attributes(node.attributes)), graph, handler,
                      (*shape[:2], 1, shape[2]), 3)

        return handled

    return wrap


def of_whole_images(handler: Handler) -> Handler:
    """Let a handler of whole images (N, C, H, W) take such of any other number of dimensions from 3 on."""
    def handled(node: OnnxNode, graph: Builder) -> None:
        shape = graph.tensor(node.inputs[0]).shape
        if len(shape) < 3 or len(shape) == 4:
            handler(node, graph)
            return
        _reshaped(node, graph, handler, (*shape[:2], 1, -1), len(shape))

    return handled


def _reshaped(node: OnnxNode, graph: Builder, handler: Handler, image: tuple[int, ...], rank: int) -> None:
    """Let a handler see x as images, and give its result so many dimensions."""
    x, y = graph.inner(node.inputs[0], "image"), graph.inner(node.outputs[0], "image")
    graph.add(node, Reshape(image), {"x": node.inputs[0]}, x, graph.ranges.get(node.inputs[0]))
    handler(replace(node, inputs=[x, *node.inputs[1:]], outputs=[y, *node.outputs[1:]]), graph)
    n, c, *sizes = graph.tensor(y).shape
    # A window over sequences has a width; one over whole images has one element of each.
    shape = (n, c, sizes[-1]) if rank == 3 else (n, c, *(1,) * (rank - 2))
    graph.add(node, Reshape(shape), {"x": y}, bounds=graph.ranges.get(y))
