"""Super-resolution: reflected padding, a leaky network, pixel shuffle, an 8-bit image beside the float one."""

import torch
from torch import nn
from torch.nn import functional

torch.manual_seed(4)


class Upscale(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3, padding=1, groups=2), nn.Conv2d(8, 4, 3, padding=1)
        self.slope = nn.PReLU(8)

    def forward(self, image):
        x = functional.leaky_relu(self.first(functional.pad(image, (1, 1, 1, 1), mode="reflect")), 0.1)
        x = functional.avg_pool2d(x + self.slope(self.second(x)), 3, stride=1, padding=1)
        sharp = functional.pixel_shuffle(self.last(x), 2) + functional.interpolate(image, scale_factor=2, mode="nearest")
        return sharp, torch.floor(sharp.clamp(0, 1) * 255).to(torch.uint8)


model = Upscale()
example_inputs = torch.rand(2, 1, 12, 10)
dynamic_shapes = {"image": {0: "batch", 2: "height", 3: "width"}}


def draw(rng):
    image = rng.random((rng.integers(1, 4), 1, rng.integers(2, 20), rng.integers(2, 20))) * rng.choice([1.0, 0.2])
    return (torch.from_numpy(image).float(),)
