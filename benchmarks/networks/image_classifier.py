"""A residual convolutional classifier with batch normalisation and pooling."""

import torch
from torch import nn

torch.manual_seed(1)


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x):
        return torch.relu(x + self.norm(self.conv(x)))


model = nn.Sequential(
    nn.Conv2d(3, 8, 3, stride=2, padding=1),
    nn.BatchNorm2d(8),
    nn.ReLU(),
    Block(8),
    nn.MaxPool2d(3, stride=2, padding=1),
    nn.Conv2d(8, 16, 1),
    nn.LeakyReLU(0.2),
    Block(16),
    nn.AdaptiveAvgPool2d(1),
    nn.Flatten(),
    nn.Linear(16, 10),
)
example_inputs = torch.rand(2, 3, 20, 20)


def draw(rng):
    image = rng.random((rng.integers(1, 5), 3, 20, 20)) * rng.choice([1.0, 0.3, 0.02]) + rng.choice([0.0, 0.2])
    return (torch.from_numpy(image).float(),)
