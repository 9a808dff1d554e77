"""Networks as tables of layer shapes, with the numbers that the lecture prints for them."""

from .cost import ConvLayer

__all__ = ["ALEXNET_CONV", "ALEXNET_FC", "MOBILENET_V2", "RESNET50_STAGES", "VGG16_CONV", "VGG16_FC", "totals"]

#: The five CONV layers of AlexNet for one 227 x 227 x 3 image, with groups as published (Krizhevsky 2012).
#: Pooling stands between layers 1 and 2, 2 and 3, and behind 5, so inputs shrink without a layer here.
ALEXNET_CONV = (
    ConvLayer(name="conv1", c=3, h=227, w=227, m=96, r=11, s=11, stride=4),
    ConvLayer(name="conv2", c=96, h=27, w=27, m=256, r=5, s=5, padding=2, groups=2),
    ConvLayer(name="conv3", c=256, h=13, w=13, m=384, r=3, s=3, padding=1),
    ConvLayer(name="conv4", c=384, h=13, w=13, m=384, r=3, s=3, padding=1, groups=2),
    ConvLayer(name="conv5", c=384, h=13, w=13, m=256, r=3, s=3, padding=1, groups=2),
)

#: Inputs and outputs of AlexNet's fully connected layers.
ALEXNET_FC = {"fc6": (9216, 4096), "fc7": (4096, 4096), "fc8": (4096, 1000)}

#: (channels in, channels out, height and width) of VGG-16's CONV layers, all 3 x 3 with padding 1.
_VGG16 = (
    (3, 64, 224), (64, 64, 224), (64, 128, 112), (128, 128, 112),
    (128, 256, 56), (256, 256, 56), (256, 256, 56),
    (256, 512, 28), (512, 512, 28), (512, 512, 28), (512, 512, 14), (512, 512, 14), (512, 512, 14),
)

#: The thirteen CONV layers of VGG-16 (Simonyan 2014). The lecture's table says 16, which counts
#: three FC layers.
VGG16_CONV = tuple(
    ConvLayer(name=f"conv{i}", c=c, h=size, w=size, m=m, r=3, s=3, padding=1)
    for i, (c, m, size) in enumerate(_VGG16, start=1)
)

#: Inputs and outputs of VGG-16's fully connected layers.
VGG16_FC = {"fc14": (25088, 4096), "fc15": (4096, 4096), "fc16": (4096, 1000)}

#: Blocks, width of their 3 x 3 convolutions, and stride of the four stages of ResNet-50 (He 2016, table 1).
RESNET50_STAGES = ((3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 512, 2))

#: Expansion, output channels, blocks and stride of the stages of MobileNetV2 (Sandler 2018, table 2).
MOBILENET_V2 = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)


def totals(layers: tuple[ConvLayer, ...], batch: int = 1) -> tuple[int, int]:
    """Return the weights and the multiply-accumulates of a table of layers."""
    return sum(layer.weights for layer in layers), sum(layer.macs(batch) for layer in layers)
