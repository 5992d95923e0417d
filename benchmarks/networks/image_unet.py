"""A small U-Net: group normalisation, strided and transposed convolutions, bilinear upsampling, a skip and two heads."""

import torch
from torch import nn
from torch.nn import functional

torch.manual_seed(2)


class Unet(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.GroupNorm(2, 8)
        self.down = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.middle = nn.Conv2d(16, 16, 3, padding=2, dilation=2)
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.mask = nn.Conv2d(24, 2, 1)

    def forward(self, image):
        one = functional.silu(self.norm(self.first(image)))
        two = functional.elu(self.down(one))
        two = two + functional.hardswish(self.middle(two))
        wide = functional.interpolate(two, scale_factor=2, mode="bilinear", align_corners=False)
        mask = self.mask(torch.cat([one * torch.sigmoid(self.up(two)), wide], 1))
        return mask.softmax(1), mask.argmax(1)


model = Unet()
example_inputs = torch.randn(2, 3, 16, 16)


def draw(rng):
    image = rng.standard_normal((rng.integers(1, 4), 3, 16, 16)) * rng.choice([1.0, 0.3, 0.03, 2.0])
    return (torch.from_numpy(image).float(),)
