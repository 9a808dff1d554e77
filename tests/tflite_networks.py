"""Whole TensorFlow Lite networks with drawn weights, as the converter writes such: batches are free, images NHWC."""

import numpy as np
from tflite_draw import stored, weights
from tflite_models import Tflite

__all__ = ["NETWORKS", "Network"]


class Network(Tflite):
    """A model whose layers follow one another; `at` is the tensor that the last one has made."""

    def __init__(self, rng, shape, dtype="float32", **form):
        super().__init__()
        self.rng = rng
        self.input = self.at = self.tensor(shape, dtype=dtype, name="serving_default_input:0", free=(0,), **form)

    def form(self, number=None):
        """How a tensor is stored."""
        tensor = self.tensors[self.at if number is None else number]
        return {"scale": tensor.scale, "zero_point": tensor.zero_point, "dtype": tensor.dtype}

    @property
    def shape(self):
        """Shape of the last tensor."""
        return self.tensors[self.at].shape

    def layer(self, kind, shape, options=None, form=None, inputs=None, **fields):
        """Add an operator of the last tensor, or of `inputs`."""
        made = self.tensor(shape, name=f"model/{kind.lower()}_{len(self.nodes)}", free=(0,),
                           **(form or stored(self.rng, low=-4, high=-2)))
        self.at = self.node(kind, [self.at] if inputs is None else inputs, [made], options, **fields)
        return self.at

    def conv(self, m, taps=3, stride=1, activation=0, kind="CONV_2D", padding=0):
        """Add a convolution; a depthwise one has `m` outputs for each channel."""
        (n, h, w, c), depthwise = self.shape, kind == "DEPTHWISE_CONV_2D"
        shape, axis = ((1, taps, taps, c * m), 3) if depthwise else ((m, taps, taps, c), 0)
        weight, bias, form = weights(self, self.rng, shape, axis, self.form(), taps * taps * (1 if depthwise else c),
                                     biased=True)
        high, wide = ((size - taps) // stride + 1 if padding else -(-size // stride) for size in (h, w))
        more = {"depthMultiplier": m} if depthwise else {}
        options = "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions"
        return self.layer(kind, (n, high, wide, shape[axis]), options, form, [self.at, weight, *bias], strideH=stride,
                          strideW=stride, dilationHFactor=1, dilationWFactor=1, padding=padding,
                          fusedActivationFunction=activation, **more)

    def transposed_conv(self, m, taps=3, stride=2):
        """Add a transposed convolution that makes an image as many times as large.

        Its shape is computed from that of its operand, as converters write it where batches are free.
        """
        n, h, w, c = self.shape
        weight, bias, form = weights(self, self.rng, (m, taps, taps, c), 0, self.form(), c * taps * taps / stride ** 2)
        shape = (n, h * stride, w * stride, m)
        return self.layer("TRANSPOSE_CONV", shape, "TransposeConvOptions", form,
                          [self.sizes(shape), weight, self.at, *bias], padding=0, strideH=stride, strideW=stride)

    def sizes(self, shape):
        """Add what makes a shape with the batch of the last tensor."""
        first, second, third = (self.constant(np.array([value], np.int32)) for value in (0, 1, 1))
        whole, batch, made = (self.tensor(size, dtype="int32") for size in ((4,), (), (4,)))
        self.node("SHAPE", [self.at], [whole], "ShapeOptions", outType=2)
        self.node("STRIDED_SLICE", [whole, first, second, third], [batch], "StridedSliceOptions", shrinkAxisMask=1)
        rest = [self.constant(np.int32(size)) for size in shape[1:]]
        return self.node("PACK", [batch, *rest], [made], "PackOptions", valuesCount=4)

    def linear(self, m, activation=0):
        """Add a product with weights."""
        n, depth = self.shape
        weight, bias, form = weights(self, self.rng, (m, depth), 0, self.form(), depth)
        return self.layer("FULLY_CONNECTED", (n, m), "FullyConnectedOptions", form, [self.at, weight, *(bias or [-1])],
                          fusedActivationFunction=activation)

    def mean(self, keep):
        """Add the mean of whole images."""
        n, _, _, c = self.shape
        return self.layer("MEAN", (n, 1, 1, c) if keep else (n, c), "ReducerOptions", None,
                          [self.at, self.constant(np.array([1, 2], np.int32))], keepDims=keep)

    def reshape(self, *shape):
        """Add another shape behind the batch."""
        return self.layer("RESHAPE", (1, *shape), "ReshapeOptions", self.form(),
                          [self.at, self.constant(np.array([-1, *shape], np.int32))], newShape=[-1, *shape])

    def file(self):
        """Bytes of the file."""
        return self.content([self.input], [self.at])


def residual(rng):
    """Float at both ends; blocks of two convolutions whose result is added to what they read."""
    net = Network(rng, (1, 9, 8, 3))
    net.layer("QUANTIZE", net.shape, "QuantizeOptions", {"scale": 0.5, "zero_point": -3})
    net.conv(6, activation=1)
    for channels, stride in ((6, 1), (8, 2)):
        skip = net.at if stride == 1 else net.conv(channels, 1, stride)
        if stride > 1:
            net.at = net.nodes[-1][1][0]
        net.conv(channels, stride=stride, activation=1)
        net.conv(channels)
        net.layer("ADD", net.shape, "AddOptions", None, [skip, net.at], fusedActivationFunction=1)
    net.layer("AVERAGE_POOL_2D", (1, 2, 2, 8), "Pool2DOptions", net.form(), padding=1, strideH=2, strideW=2,
              filterHeight=3, filterWidth=2)
    net.reshape(32)
    net.linear(10)
    net.layer("SOFTMAX", net.shape, "SoftmaxOptions", {"scale": 1 / 256, "zero_point": -128}, beta=1.0)
    net.layer("DEQUANTIZE", net.shape, "DequantizeOptions", {"dtype": "float32"})
    return net


def separable(rng):
    """Bytes as input; depthwise and pointwise convolutions, and a gate for each channel."""
    net = Network(rng, (1, 11, 10, 3), "uint8", scale=1 / 64, zero_point=128)
    net.layer("QUANTIZE", net.shape, "QuantizeOptions", {"scale": 1 / 64, "zero_point": 0})
    sides = np.array([[0, 0], [0, 1], [0, 1], [0, 0]], np.int32)
    net.layer("PAD", (1, 12, 11, 3), "PadOptions", net.form(), [net.at, net.constant(sides)])
    net.conv(8, stride=2, padding=1)
    net.layer("HARD_SWISH", net.shape)
    for multiplier, m, stride in ((1, 8, 1), (2, 12, 2)):
        net.conv(multiplier, stride=stride, activation=3, kind="DEPTHWISE_CONV_2D")
        net.conv(m, 1)
    image = net.at
    net.mean(keep=True)
    net.conv(4, 1, activation=1)
    net.conv(12, 1)
    net.layer("LOGISTIC", net.shape, None, {"scale": 1 / 256, "zero_point": -128})
    net.layer("MUL", net.tensors[image].shape, "MulOptions", None, [image, net.at])
    net.mean(keep=False)
    net.linear(5)
    return net


def autoencoder(rng):
    """Strided convolutions to a few numbers, and transposed ones back."""
    net = Network(rng, (1, 8, 8, 2), "int8", scale=1 / 64, zero_point=5)
    net.conv(6, stride=2)
    net.layer("LEAKY_RELU", net.shape, "LeakyReluOptions", None, alpha=0.25)
    net.conv(8, stride=2)
    net.layer("MAX_POOL_2D", (1, 2, 2, 8), "Pool2DOptions", net.form(), padding=0, strideH=1, strideW=1,
              filterHeight=2, filterWidth=2)
    net.reshape(32)
    net.linear(5, activation=2)
    net.linear(32)
    net.reshape(2, 2, 8)
    net.transposed_conv(6)
    alpha = net.constant(rng.integers(-128, 128, (1, 1, 6)).astype(np.int8), 0.01, 3)
    net.layer("PRELU", net.shape, None, None, [net.at, alpha])
    net.transposed_conv(2, taps=2)
    net.layer("TANH", net.shape, None, {"scale": 1 / 128, "zero_point": 0})
    return net


NETWORKS = {make.__name__: make for make in (residual, separable, autoencoder)}
