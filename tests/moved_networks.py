"""Small quantised networks of the kinds whose tensors are put together, taken apart and put in another order."""

import numpy as np
from onnx_models import MICROSOFT, draw, make_model

__all__ = ["NETWORKS"]


class _Network:
    """A network under construction, of operators on integers; tensors are known by name."""

    def __init__(self, rng, shape):
        self.rng, self.nodes, self.shapes, self._count = rng, [], {"x": shape}, 0
        self.constants, self.stored = {}, {}
        self.x = draw(rng, shape, np.int8)
        self._store("x")

    def _name(self, kind):
        self._count += 1
        return f"{kind}{self._count}"

    def _store(self, name, scale=None, zero=None):
        """Give a tensor a scale, a power of two, and a zero point."""
        scale = 2.0 ** -int(self.rng.integers(4, 6)) if scale is None else scale
        zero = int(self.rng.integers(-20, 20)) if zero is None else zero
        self.constants |= {f"{name}_s": np.float32(scale), f"{name}_z": np.int8(zero)}
        self.stored[name] = [f"{name}_s", f"{name}_z"]

    def _add(self, kind, sources, name, shape, **attributes):
        self.nodes.append((kind, sources, [name], attributes))
        self.shapes[name] = shape
        return name

    def constant(self, values):
        """Add a constant."""
        name = self._name("c")
        self.constants[name] = values
        return name

    def conv(self, x, channels, kernel=1, stride=1, groups=1, relu=True):
        """Convolution of the same size, or every other pixel, with Relu as a zero point at the least value."""
        n, c, h, w = self.shapes[x]
        name, filters = self._name("conv"), (channels, c // groups, kernel, kernel)
        self._store(name, zero=-128 if relu else None)
        weights = self.constant(draw(self.rng, filters, np.int8))
        scale = np.float32(self.constants[f"{name}_s"] / self.constants[self.stored[x][0]] / np.sqrt(
            c // groups * kernel**2) / 100)
        sources = [x, *self.stored[x], weights, self.constant(scale), self.constant(np.int8(0)), *self.stored[name],
                   self.constant(self.rng.integers(-500, 500, channels).astype(np.int32))]
        pad = kernel // 2
        return self._add("QLinearConv", sources, name, (n, channels, -(-h // stride), -(-w // stride)),
                         kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4, group=groups)

    def pool(self, x, kernel=2, stride=2):
        """Greatest elements."""
        n, c, h, w = self.shapes[x]
        name, pad = self._name("pool"), (kernel - 1) // 2
        self.stored[name] = self.stored[x]
        shape = (n, c, (h + 2 * pad - kernel) // stride + 1, (w + 2 * pad - kernel) // stride + 1)
        return self._add("MaxPool", [x], name, shape, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4)

    def join(self, tensors, axis=1, scaled=True):
        """Tensors side by side; of one scale each other must have been stored like the first."""
        name, shape = self._name("join"), [*self.shapes[tensors[0]]]
        shape[axis] = sum(self.shapes[each][axis] for each in tensors)
        if not scaled:
            self.stored[name] = self.stored[tensors[0]]
            return self._add("Concat", tensors, name, tuple(shape), axis=axis)
        self._store(name)
        sources = [*self.stored[name], *(each for x in tensors for each in (x, *self.stored[x]))]
        return self._add(f"{MICROSOFT}:QLinearConcat", sources, name, tuple(shape), axis=axis)

    def move(self, kind, x, shape, *inputs, **attributes):
        """Operator that moves elements of a tensor."""
        name = self._name(kind.lower())
        self.stored[name] = self.stored[x]
        return self._add(kind, [x, *(self.constant(each) if isinstance(each, np.ndarray) else each for each in inputs)],
                         name, shape, **attributes)

    def reshape(self, x, shape):
        """Another shape."""
        return self.move("Reshape", x, tuple(shape), np.array(shape))

    def transpose(self, x, order):
        """Another order of axes."""
        return self.move("Transpose", x, tuple(self.shapes[x][axis] for axis in order), perm=list(order))

    def sigmoid(self, x):
        """A function of each element."""
        name = self._name("sigmoid")
        self._store(name, 2.0 ** -8, -128)
        return self._add(f"{MICROSOFT}:QLinearSigmoid", [x, *self.stored[x], *self.stored[name]], name, self.shapes[x])

    def model(self, *outputs):
        """The model, and its inputs."""
        return make_model(self.nodes, {"x": self.x}, list(outputs), self.constants), {"x": self.x}


def densenet(rng):
    """Each layer reads all before it."""
    net = _Network(rng, (1, 5, 8, 7))
    features = [net.conv("x", 6, 3)]
    for _ in range(3):
        joined = net.join(features) if len(features) > 1 else features[0]
        features.append(net.conv(net.conv(joined, 8), 4, 3))
    return net.model(net.pool(net.conv(net.join(features), 9)))


def inception(rng):
    """Four branches side by side."""
    net = _Network(rng, (2, 7, 6, 6))
    branches = [net.conv("x", 4), net.conv(net.conv("x", 5), 6, 3), net.conv(net.conv("x", 3), 3, 5),
                net.conv(net.pool("x", 3, 1), 2)]
    return net.model(net.conv(net.join(branches), 8))


def shufflenet(rng):
    """Half of the channels go through, and channels of groups are shuffled."""
    net = _Network(rng, (1, 12, 6, 5))
    x = "x"
    for _ in range(2):
        n, c, h, w = net.shapes[x]
        left, right = net._name("left"), net._name("right")
        net.nodes.append(("Split", [x, net.constant(np.array([c // 2, c // 2]))], [left, right], {"axis": 1}))
        for half in (left, right):
            net.shapes[half], net.stored[half] = (n, c // 2, h, w), net.stored[x]
        branch = net.conv(net.conv(net.conv(right, c // 2), c // 2, 3, groups=c // 2, relu=False), c // 2)
        joined = net.join([left, branch])
        groups = net.reshape(joined, (n, 2, c // 2, h, w))
        x = net.reshape(net.transpose(groups, (0, 2, 1, 3, 4)), (n, c, h, w))
    return net.model(net.conv(x, 5))


def unet(rng):
    """Down and up again, with what was there before beside it."""
    net = _Network(rng, (1, 3, 8, 12))
    top = net.conv("x", 5, 3)
    middle = net.conv(net.pool(top), 7, 3)
    x = net.conv(net.pool(middle), 9, 3)
    for skip in (middle, top):
        n, c, h, w = net.shapes[x]
        sizes = np.array([1, 1, 2, 2], np.float32)
        x = net.move("Resize", x, (n, c, 2 * h, 2 * w), "", sizes, mode="nearest",
                     coordinate_transformation_mode="asymmetric", nearest_mode="floor")
        x = net.conv(net.join([x, skip]), 6, 3)
    return net.model(net.conv(x, 2, relu=False))


def yolo(rng):
    """Boxes of two scales in one list, their elements last."""
    net = _Network(rng, (1, 4, 8, 8))
    fine = net.conv("x", 6, 3, 2)
    coarse = net.conv(fine, 8, 3, 2)
    heads = []
    for features in (fine, coarse):
        n, _, h, w = net.shapes[features]
        head = net.reshape(net.conv(features, 3 * 7, relu=False), (n, 3, 7, h, w))
        heads.append(net.reshape(net.transpose(head, (0, 1, 3, 4, 2)), (n, 3 * h * w, 7)))
    boxes = net.join(heads, 1)
    n, count, _ = net.shapes[boxes]
    centres = net.move("Slice", boxes, (n, count, 2), np.array([0]), np.array([2]), np.array([2]))
    scores = net.move("Slice", boxes, (n, count, 3), np.array([4]), np.array([7]), np.array([-1]))
    best = net.move("Gather", scores, (n, count), np.array(1), axis=2)
    return net.model(boxes, centres, best)


def superresolution(rng):
    """Channels become pixels, and pixels channels, behind padding that mirrors."""
    net = _Network(rng, (1, 3, 5, 6))
    n, c, h, w = net.shapes["x"]
    x = net.move("Pad", "x", (n, c, h + 2, w + 3), np.array([0, 0, 1, 2, 0, 0, 1, 1]), mode="reflect")
    x = net.conv(x, 12, 3)
    n, c, h, w = net.shapes[x]
    up = net.move("DepthToSpace", x, (n, 3, 2 * h, 2 * w), blocksize=2, mode="CRD")
    down = net.move("SpaceToDepth", net.conv(up, 2, 3), (n, 8, h, w), blocksize=2) if w % 1 == 0 else up
    return net.model(net.conv(down, 4), up)


def squeeze(rng):
    """Squeeze and excitation: each channel times a number that its mean and those of others give."""
    net = _Network(rng, (1, 6, 4, 4))
    x = net.conv("x", 8, 3)
    n, c, _, _ = net.shapes[x]
    mean = net._name("mean")
    net._store(mean)
    net._add(f"{MICROSOFT}:QLinearGlobalAveragePool", [x, *net.stored[x], *net.stored[mean]], mean, (n, c, 1, 1),
             channels_last=0)
    gate = net.conv(net.conv(mean, 3), c, relu=False)
    sigmoid, scaled = net.sigmoid(gate), net._name("scaled")
    net._store(scaled)
    net._add(f"{MICROSOFT}:QLinearMul", [x, *net.stored[x], sigmoid, *net.stored[sigmoid], *net.stored[scaled]], scaled,
             net.shapes[x])
    peak = net.move("ReduceMax", net.conv(scaled, 5), (n, 5), axes=[2, 3], keepdims=0)
    return net.model(peak)


def turned(rng):
    """What is made of each element of a turned tensor stands as that does, and is read as images and in views."""
    net = _Network(rng, (2, 6, 3, 4))
    x = net.conv("x", 6)
    groups = net.transpose(net.reshape(x, (2, 2, 3, 3, 4)), (0, 2, 1, 3, 4))
    shuffled = net.sigmoid(net.reshape(groups, (2, 6, 3, 4)))
    swapped = net.sigmoid(net.transpose(x, (1, 0, 2, 3)))
    view = net.sigmoid(net.transpose(swapped, (1, 0, 2, 3)))
    return net.model(net.conv(shuffled, 5), shuffled, net.pool(swapped), net.conv(swapped, 3, 3), net.conv(view, 4))


#: By name.
NETWORKS = {network.__name__: network for network in (
    densenet, inception, shufflenet, unet, yolo, superresolution, squeeze, turned)}
