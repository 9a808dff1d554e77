"""Networks that classify images, with the shapes that were published and drawn weights."""

from collections.abc import Callable

import numpy as np

from ..compiler.graph.graph import Graph
from ..golden.models import ALEXNET_CONV, ALEXNET_FC, MOBILENET_V2, RESNET50_STAGES, VGG16_CONV, VGG16_FC
from .drawn_network import DrawnNetwork

__all__ = ["IMAGE_NETWORKS"]

Made = tuple[Graph, dict[str, np.ndarray]]

#: Classes of ImageNet.
_CLASSES = 1000


def _alexnet(rng: np.random.Generator, batch: int) -> Made:
    """AlexNet (Krizhevsky 2012), without its normalisation of responses, which later networks dropped."""
    network = DrawnNetwork(rng, batch, (3, 227, 227))
    x = network.image
    for layer in ALEXNET_CONV:
        x = network.conv(layer.name, x, layer.m, layer.r, stride=layer.stride, padding=layer.padding,
                         groups=layer.groups)
        if layer.name in ("conv1", "conv2", "conv5"):
            x = network.max_pool(f"pool{layer.name[-1]}", x, 3, 2)
    return _classified(network, x, ALEXNET_FC)


def _vgg16(rng: np.random.Generator, batch: int) -> Made:
    """VGG-16 (Simonyan 2014): pooling stands wherever the next layer's images are smaller."""
    network = DrawnNetwork(rng, batch, (3, 224, 224))
    x, pools = network.image, 0
    for layer, following in zip(VGG16_CONV, (*VGG16_CONV[1:], None), strict=True):
        x = network.conv(layer.name, x, layer.m, layer.r, padding=layer.padding)
        if following is None or following.h < layer.h:
            pools += 1
            x = network.max_pool(f"pool{pools}", x, 2, 2)
    return _classified(network, x, VGG16_FC)


def _classified(network: DrawnNetwork, x: str, layers: dict[str, tuple[int, int]]) -> Made:
    """Fully connected layers behind images, all but the last rectified."""
    x = network.flatten("flat", x)
    *inner, last = layers
    for name in inner:
        x = network.linear(name, x, layers[name][1])
    return network.finished(network.linear(last, x, layers[last][1], activation=None))


def _resnet50(rng: np.random.Generator, batch: int) -> Made:
    """ResNet-50 (He 2016) as published: the first 1 x 1 convolution of a stage has its stride."""
    network = DrawnNetwork(rng, batch, (3, 224, 224))
    x = network.conv("conv1", network.image, 64, 7, stride=2, padding=3)
    x = network.max_pool("pool1", x, 3, 2, 1)
    for stage, (blocks, width, stride) in enumerate(RESNET50_STAGES, start=2):
        for block in range(blocks):
            name, step = f"conv{stage}_{block + 1}", stride if block == 0 else 1
            y = network.conv(f"{name}a", x, width, 1, stride=step)
            y = network.conv(f"{name}b", y, width, 3, padding=1)
            y = network.conv(f"{name}c", y, 4 * width, 1, activation=None)
            if block == 0:
                x = network.conv(f"{name}_shortcut", x, 4 * width, 1, stride=step, activation=None)
            x = network.add(f"{name}_sum", x, y, rectified=True)
    return network.finished(network.linear("fc", network.flatten("flat", network.mean("mean", x)), _CLASSES,
                                           activation=None))


def _mobilenet_v2(rng: np.random.Generator, batch: int) -> Made:
    """MobileNetV2 (Sandler 2018): inverted residuals, limited at 6, with linear bottlenecks."""
    network, limited = DrawnNetwork(rng, batch, (3, 224, 224)), ("clip", 0.0, 6.0)
    x = network.conv("conv1", network.image, 32, 3, stride=2, padding=1, activation=limited)
    number = 0
    for expansion, channels, blocks, stride in MOBILENET_V2:
        for block in range(blocks):
            number += 1
            name, step, before, y = f"block{number}", stride if block == 0 else 1, network.shape(x)[1], x
            if expansion > 1:
                y = network.conv(f"{name}_expand", y, expansion * before, 1, activation=limited)
            y = network.conv(f"{name}_depthwise", y, expansion * before, 3, stride=step, padding=1,
                             groups=expansion * before, activation=limited)
            y = network.conv(f"{name}_project", y, channels, 1, activation=None)
            x = network.add(f"{name}_sum", x, y, rectified=False) if (step, channels) == (1, before) else y
    x = network.conv("conv2", x, 1280, 1, activation=limited)
    return network.finished(network.linear("fc", network.flatten("flat", network.mean("mean", x)), _CLASSES,
                                           activation=None))


#: Networks by name: what makes one of a number of images, and its inputs.
IMAGE_NETWORKS: dict[str, Callable[[np.random.Generator, int], Made]] = {
    "alexnet": _alexnet,
    "vgg-16": _vgg16,
    "resnet-50": _resnet50,
    "mobilenet-v2": _mobilenet_v2,
}
