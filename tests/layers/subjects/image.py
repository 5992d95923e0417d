"""The layers over images; the oracles go through pixels one by one."""

import math

import numpy as np
import torch
from contract import Subject, swap

from layers.image import BlurPool2d, DeformConv2d, GlobalResponseNorm, Involution2d, LayerNorm2d, SpatialTransformer, SqueezeExcite

DYNAMIC = {"x": {0: "batch", 2: "height", 3: "width"}}
SIZES = ({"batch": 2, "height": 4, "width": 5}, {"batch": 3, "height": 7, "width": 2}, {"batch": 1, "height": 9, "width": 8})
PIXEL = {"batch": 2, "height": 1, "width": 1}
NO_IMAGE = {"batch": 0, "height": 3, "width": 2}
NO_PIXEL = {"batch": 2, "height": 0, "width": 3}
WRONG = (("x", swap(0, lambda x: x[:, :2])), ("x", swap(0, lambda x: x[0])))


def draw(batch, height, width):
    return (torch.randn(batch, 4, height, width),)


def numpy(*tensors):
    return [one.detach().numpy() for one in tensors]


def layer_norm(layer, x):
    x, weight, bias = numpy(x, layer.weight, layer.bias)
    out = np.zeros_like(x)
    for b, i, j in np.ndindex(x.shape[0], *x.shape[2:]):
        pixel = x[b, :, i, j]
        out[b, :, i, j] = (pixel - pixel.mean()) / np.sqrt(pixel.var() + 1e-6) * weight + bias
    return out


def response_norm(layer, x):
    x, weight, bias = numpy(x, layer.weight.flatten(), layer.bias.flatten())
    out = np.zeros_like(x)
    for b in range(len(x)):
        norms = [np.sqrt((channel**2).sum()) for channel in x[b]]
        for c, norm in enumerate(norms):
            out[b, c] = weight[c] * x[b, c] * norm / (np.mean(norms) + 1e-6) + bias[c] + x[b, c]
    return out


def squeeze_excite(layer, x):
    x, w, b, v, c = numpy(x, layer.reduce.weight, layer.reduce.bias, layer.expand.weight, layer.expand.bias)
    out = np.zeros_like(x)
    for image, result in zip(x, out, strict=True):
        if image.size:
            gates = v @ np.maximum(w @ [channel.mean() for channel in image] + b, 0) + c
            result[:] = image / (1 + np.exp(-gates))[:, None, None]
    return out


def blur_pool(layer, x, size=5, stride=2):
    (x,) = numpy(x)
    row = [math.comb(size - 1, k) / 2 ** (size - 1) for k in range(size)]
    batch, channels, height, width = x.shape
    out = np.zeros((batch, channels, -(-height // stride), -(-width // stride)))
    for b, c, i, j in np.ndindex(*out.shape):
        for p, q in np.ndindex(size, size):
            y = min(max(i * stride + p - size // 2, 0), height - 1)
            z = min(max(j * stride + q - size // 2, 0), width - 1)
            out[b, c, i, j] += row[p] * row[q] * x[b, c, y, z]
    return out


def involution(layer, x, size=3, groups=2):
    x, w, b, v, c = numpy(x, layer.reduce.weight[..., 0, 0], layer.reduce.bias, layer.span.weight[..., 0, 0], layer.span.bias)
    batch, channels, height, width = x.shape
    out = np.zeros_like(x)
    for n, i, j in np.ndindex(batch, height, width):
        kernels = (v @ np.maximum(w @ x[n, :, i, j] + b, 0) + c).reshape(groups, size, size)
        for channel, p, q in np.ndindex(channels, size, size):
            y, z = i + p - size // 2, j + q - size // 2
            if 0 <= y < height and 0 <= z < width:
                out[n, channel, i, j] += kernels[channel // (channels // groups), p, q] * x[n, channel, y, z]
    return out


def bilinear(image, y, z):
    """Reads all channels at a place between pixels; zero outside."""
    total = np.zeros(len(image))
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(z), math.floor(z) + 1):
            if 0 <= row < image.shape[1] and 0 <= column < image.shape[2]:
                total += image[:, row, column] * (1 - abs(y - row)) * (1 - abs(z - column))
    return total


def spatial_transformer(layer, x):
    seen = torch.relu(torch.nn.functional.conv2d(x, layer.look.weight, layer.look.bias, padding=1))
    x, seen, v, c = numpy(x, seen, layer.place.weight, layer.place.bias)
    batch, _, height, width = x.shape
    out = np.zeros_like(x)
    for b, i, j in np.ndindex(batch, height, width):
        (a, d, e), (f, g, h) = (v @ seen[b].mean((1, 2)) + c).reshape(2, 3)
        across, down = (2 * j + 1) / width - 1, (2 * i + 1) / height - 1  # pixel centres from -1 to 1
        z, y = a * across + d * down + e, f * across + g * down + h
        out[b, :, i, j] = bilinear(x[b], ((y + 1) * height - 1) / 2, ((z + 1) * width - 1) / 2)
    return out


def draw_deformed(batch, height, width):
    rows, columns = (height + 1) // 2, (width + 1) // 2
    return (
        torch.randn(batch, 4, height, width),
        torch.randn(batch, 18, rows, columns) * 1.5,
        torch.rand(batch, 9, rows, columns),
    )


def deform_conv(layer, x, offset, mask):
    x, offset, mask, weight, bias = numpy(x, offset, mask, layer.weight, layer.bias)
    batch, _, rows, columns = mask.shape
    out = np.zeros((batch, len(weight), rows, columns))
    for b, i, j in np.ndindex(batch, rows, columns):
        for k in range(9):
            y = 2 * i - 2 + 2 * (k // 3) + offset[b, 2 * k, i, j]
            z = 2 * j - 2 + 2 * (k % 3) + offset[b, 2 * k + 1, i, j]
            out[b, :, i, j] += weight[:, :, k] @ bilinear(x[b], y, z) * mask[b, k, i, j]
        out[b, :, i, j] += bias[:, 0, 0]
    return out


HALF = {0: "batch", 2: "rows", 3: "columns"}
SUBJECTS = (
    Subject("layer_norm_2d", lambda: LayerNorm2d(4), draw, layer_norm, SIZES, (PIXEL, NO_IMAGE, NO_PIXEL), DYNAMIC, WRONG),
    Subject("global_response_norm", lambda: GlobalResponseNorm(4), draw, response_norm, SIZES, (PIXEL, NO_IMAGE, NO_PIXEL), DYNAMIC, WRONG),
    Subject("squeeze_excite", lambda: SqueezeExcite(4, 3), draw, squeeze_excite, SIZES, (PIXEL, NO_IMAGE, NO_PIXEL), DYNAMIC, WRONG),
    Subject("blur_pool_2d", lambda: BlurPool2d(4, 5), draw, blur_pool, SIZES, (PIXEL, NO_IMAGE), DYNAMIC, WRONG),
    Subject("involution_2d", lambda: Involution2d(4, 3, 2, 5), draw, involution, SIZES, (PIXEL, NO_IMAGE), DYNAMIC, WRONG),
    Subject(
        "spatial_transformer",
        lambda: SpatialTransformer(4, 3),
        draw,
        spatial_transformer,
        SIZES,
        (PIXEL, NO_IMAGE),
        DYNAMIC,
        WRONG,
        slack=32,  # a rounding of the map is one of the place, in a width of 8 pixels
    ),
    Subject(
        "deform_conv_2d",
        lambda: DeformConv2d(4, 3, 3, stride=2, padding=2, dilation=2),
        draw_deformed,
        deform_conv,
        SIZES,
        (PIXEL, NO_IMAGE),
        {**DYNAMIC, "offset": HALF, "mask": HALF},
        (*WRONG, ("offset", swap(1, lambda one: one[:, :9])), ("mask", swap(2, lambda one: one[:, :8]))),
    ),
)
