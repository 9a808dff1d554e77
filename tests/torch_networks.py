"""Image networks as torch exports them: whole topologies of few channels, with seeded weights.

Each is the graph of its paper, with narrower and fewer stages, so that a run takes seconds.
"""

import io
import warnings

import torch
from torch import nn
from torch.nn import functional

__all__ = ["NETWORKS", "exported"]


def conv(inputs, outputs, kernel=3, stride=1, groups=1, act=nn.ReLU):
    """Convolution, BatchNorm and an activation."""
    layers = [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
              nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers, *([act()] if act else []))


class Excitation(nn.Module):
    """Squeeze-and-excitation."""

    def __init__(self, channels, inner, act, gate):
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, inner, 1), nn.Conv2d(inner, channels, 1)
        self.act, self.gate = act(), gate()

    def forward(self, x):
        return x * self.gate(self.up(self.act(self.down(functional.adaptive_avg_pool2d(x, 1)))))


class Inverted(nn.Module):
    """Inverted residual of MobileNetV3 and EfficientNet."""

    def __init__(self, inputs, wide, outputs, kernel, stride, act, gate):
        super().__init__()
        self.body = nn.Sequential(
            conv(inputs, wide, 1, act=act), conv(wide, wide, kernel, stride, wide, act),
            *([Excitation(wide, wide // 4, nn.ReLU if act is nn.ReLU else act, gate)] if gate else []),
            conv(wide, outputs, 1, act=None))
        self.is_residual = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.body(x) if self.is_residual else self.body(x)


def mobilenet_v3():
    """MobileNetV3, small."""
    return nn.Sequential(
        conv(3, 8, 3, 2, act=nn.Hardswish), Inverted(8, 8, 8, 3, 2, nn.ReLU, nn.Hardsigmoid),
        Inverted(8, 24, 12, 3, 2, nn.ReLU, None), Inverted(12, 36, 12, 3, 1, nn.ReLU, None),
        Inverted(12, 48, 20, 5, 2, nn.Hardswish, nn.Hardsigmoid),
        Inverted(20, 60, 20, 5, 1, nn.Hardswish, nn.Hardsigmoid), conv(20, 60, 1, act=nn.Hardswish),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(60, 80), nn.Hardswish(), nn.Dropout(), nn.Linear(80, 10))


def efficientnet():
    """EfficientNet-B0."""
    return nn.Sequential(
        conv(3, 8, 3, 2, act=nn.SiLU), Inverted(8, 8, 8, 3, 1, nn.SiLU, nn.Sigmoid),
        Inverted(8, 32, 12, 3, 2, nn.SiLU, nn.Sigmoid), Inverted(12, 48, 12, 3, 1, nn.SiLU, nn.Sigmoid),
        Inverted(12, 48, 20, 5, 2, nn.SiLU, nn.Sigmoid), Inverted(20, 80, 20, 5, 1, nn.SiLU, nn.Sigmoid),
        conv(20, 64, 1, act=nn.SiLU), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(64, 10))


class Fire(nn.Module):
    """Module of SqueezeNet."""

    def __init__(self, inputs, squeezed, outputs):
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeezed, 1)
        self.small, self.large = nn.Conv2d(squeezed, outputs, 1), nn.Conv2d(squeezed, outputs, 3, padding=1)

    def forward(self, x):
        x = functional.relu(self.squeeze(x))
        return torch.cat([functional.relu(self.small(x)), functional.relu(self.large(x))], 1)


def squeezenet():
    """SqueezeNet 1.1."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True), Fire(16, 4, 12), Fire(24, 4, 12),
        nn.MaxPool2d(3, 2, ceil_mode=True), Fire(24, 8, 16), Fire(32, 8, 16), nn.Dropout(), nn.Conv2d(32, 10, 1),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Shuffled(nn.Module):
    """Unit of ShuffleNetV2."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        half, self.stride = outputs // 2, stride
        taken = inputs if stride > 1 else half
        self.left = nn.Sequential(conv(inputs, inputs, 3, stride, inputs, None), conv(inputs, half, 1))
        self.right = nn.Sequential(conv(taken, half, 1), conv(half, half, 3, stride, half, None), conv(half, half, 1))

    def forward(self, x):
        if self.stride > 1:
            x = torch.cat([self.left(x), self.right(x)], 1)
        else:
            left, right = x.chunk(2, 1)
            x = torch.cat([left, self.right(right)], 1)
        n, c, h, w = x.shape
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def shufflenet():
    """ShuffleNetV2."""
    return nn.Sequential(
        conv(3, 8, 3, 2), nn.MaxPool2d(3, 2, 1), Shuffled(8, 24, 2), Shuffled(24, 24, 1), Shuffled(24, 48, 2),
        Shuffled(48, 48, 1), conv(48, 64, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


class Dense(nn.Module):
    """Layer of DenseNet, whose outputs join its inputs."""

    def __init__(self, inputs, growth):
        super().__init__()
        self.body = nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(), conv(inputs, 4 * growth, 1),
                                  nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False))

    def forward(self, x):
        return torch.cat([x, self.body(x)], 1)


def densenet():
    """DenseNet."""
    return nn.Sequential(
        conv(3, 16, 7, 2), nn.MaxPool2d(3, 2, 1), Dense(16, 8), Dense(24, 8), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 16, 1, bias=False), nn.AvgPool2d(2), Dense(16, 8), Dense(24, 8), nn.BatchNorm2d(32), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


class Inception(nn.Module):
    """Module of GoogLeNet."""

    def __init__(self, inputs, one, three, five, pooled):
        super().__init__()
        self.ways = nn.ModuleList([
            conv(inputs, one, 1), nn.Sequential(conv(inputs, three[0], 1), conv(*three)),
            nn.Sequential(conv(inputs, five[0], 1), conv(*five)),
            nn.Sequential(nn.MaxPool2d(3, 1, 1, ceil_mode=True), conv(inputs, pooled, 1))])

    def forward(self, x):
        return torch.cat([way(x) for way in self.ways], 1)


def googlenet():
    """GoogLeNet."""
    return nn.Sequential(
        conv(3, 16, 7, 2), nn.MaxPool2d(3, 2, ceil_mode=True), conv(16, 16, 1), conv(16, 24),
        Inception(24, 8, (12, 16), (4, 8), 8), Inception(40, 16, (16, 24), (4, 12), 8),
        nn.MaxPool2d(3, 2, ceil_mode=True), Inception(60, 16, (12, 20), (4, 8), 8), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Dropout(), nn.Linear(52, 10))


class ChannelsLast(nn.LayerNorm):
    """LayerNorm over channels of images."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    """Block of ConvNeXt."""

    def __init__(self, channels):
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.up, self.down = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)
        self.scale = nn.Parameter(torch.linspace(0.5, 1.5, channels).reshape(-1, 1, 1))

    def forward(self, x):
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        return x + self.scale * self.down(functional.gelu(self.up(y))).permute(0, 3, 1, 2)


def convnext():
    """ConvNeXt."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 4, 4), ChannelsLast(16, eps=1e-6), ConvNeXtBlock(16), ChannelsLast(16, eps=1e-6),
        nn.Conv2d(16, 24, 2, 2), ConvNeXtBlock(24), nn.AdaptiveAvgPool2d(1), ChannelsLast(24, eps=1e-6), nn.Flatten(),
        nn.Linear(24, 10))


class Encoder(nn.Module):
    """Layer of a vision transformer."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.first, self.second = heads, nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.body = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        n, tokens, width = x.shape
        each = width // self.heads
        q, k, v = self.qkv(self.first(x)).reshape(n, tokens, 3, self.heads, each).permute(2, 0, 3, 1, 4).unbind(0)
        scores = (q * each ** -0.5) @ k.transpose(-2, -1)
        x = x + self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(n, tokens, width))
        return x + self.body(self.second(x))


class ViT(nn.Module):
    """Vision transformer."""

    def __init__(self, width=32, patch=8, size=32, layers=2):
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.places = nn.Parameter(0.02 * torch.randn(1, 1 + (size // patch) ** 2, width))
        self.layers = nn.Sequential(*(Encoder(width, 4) for _ in range(layers)), nn.LayerNorm(width))
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.places
        return self.head(self.layers(x)[:, 0])


class UNet(nn.Module):
    """U-Net, whose ways up are a transposed convolution and a resized image."""

    def __init__(self, mode="bilinear"):
        super().__init__()
        self.one, self.two = nn.Sequential(conv(3, 8), conv(8, 8)), nn.Sequential(conv(8, 16), conv(16, 16))
        self.deep, self.mode = nn.Sequential(conv(16, 32), conv(32, 32)), mode
        self.up, self.side = nn.ConvTranspose2d(32, 16, 2, 2), conv(32, 16)
        self.last, self.out = nn.Sequential(conv(24, 8), conv(8, 8)), nn.Conv2d(8, 2, 1)

    def forward(self, x):
        one = self.one(x)
        two = self.two(functional.max_pool2d(one, 2))
        deep = self.deep(functional.max_pool2d(two, 2))
        x = self.side(torch.cat([two, self.up(deep)], 1))
        x = functional.interpolate(x, scale_factor=2.0, mode=self.mode)
        return self.out(self.last(torch.cat([one, x], 1)))


class YoloHead(nn.Module):
    """Backbone, pyramid and head of a YOLO, with the decoding of boxes."""

    def __init__(self, classes=4, bins=8):
        super().__init__()
        act = nn.SiLU
        self.stem, self.one = conv(3, 8, 3, 2, act=act), conv(8, 16, 3, 2, act=act)
        self.two = conv(16, 32, 3, 2, act=act)
        self.before, self.after = conv(32, 16, 1, act=act), conv(64, 32, 1, act=act)
        self.lateral, self.classes, self.bins = conv(48, 16, 1, act=act), classes, bins
        self.boxes = nn.ModuleList(nn.Sequential(conv(c, 16, act=act), nn.Conv2d(16, 4 * bins, 1)) for c in (16, 32))
        self.kinds = nn.ModuleList(nn.Sequential(conv(c, 16, act=act), nn.Conv2d(16, classes, 1)) for c in (16, 32))

    def forward(self, x):
        one = self.one(self.stem(x))
        two = self.before(self.two(one))
        pooled = [two]
        for _ in range(3):
            pooled.append(functional.max_pool2d(pooled[-1], 5, 1, 2))
        two = self.after(torch.cat(pooled, 1))
        one = self.lateral(torch.cat([functional.interpolate(two, scale_factor=2.0, mode="nearest"), one], 1))
        outputs = [torch.cat([box(x), kind(x)], 1).flatten(2)
                   for x, box, kind in zip((one, two), self.boxes, self.kinds, strict=True)]
        boxes, kinds = torch.cat(outputs, 2).split((4 * self.bins, self.classes), 1)
        n, _, places = boxes.shape
        boxes = boxes.view(n, 4, self.bins, places).transpose(1, 2).softmax(1)
        distances = (boxes * torch.arange(self.bins, dtype=torch.float32).reshape(1, -1, 1, 1)).sum(1)
        return torch.cat([distances, kinds.sigmoid()], 1)


#: Networks by name: their maker, and height and width of their image.
NETWORKS = {
    "mobilenet-v3": (mobilenet_v3, 64), "efficientnet": (efficientnet, 32), "squeezenet": (squeezenet, 48),
    "shufflenet": (shufflenet, 64), "densenet": (densenet, 32), "googlenet": (googlenet, 64),
    "convnext": (convnext, 32), "vit": (ViT, 32), "unet": (UNet, 32), "yolo": (YoloHead, 64),
}


def exported(name, seed=0):
    """ONNX file of a network as bytes, as torch's exporter writes it, with statistics of BatchNorm that are drawn."""
    maker, size = NETWORKS[name]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network, file = maker(), io.BytesIO()
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.normal_(0, 0.1)
                layer.running_var.uniform_(0.5, 1.5)
        with warnings.catch_warnings():
            # The exporter that needs no further package says that there is another one.
            warnings.simplefilter("ignore")
            torch.onnx.export(network.eval(), (torch.zeros(1, 3, size, size),), file, dynamo=False, opset_version=17,
                              input_names=["image"], output_names=["result"])
    return file.getvalue()
