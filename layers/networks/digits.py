"""Recognises a handwritten digit: blocks of ConvNeXt V2 (Woo et al. 2023, section 3.3) in two stages.

Trained by `python -m layers.training digits` on four fifths of scikit-learn's `load_digits`.
"""

from pathlib import Path

import torch
from safetensors.torch import load_model
from torch import nn
from torch.nn import functional

from layers.image import GlobalResponseNorm, LayerNorm2d


class Block(nn.Module):
    """A depthwise convolution, then per pixel a wide layer with GELU and global response normalisation; added to its input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.norm = LayerNorm2d(channels)
        self.wide = nn.Conv2d(channels, 4 * channels, 1)
        self.respond = GlobalResponseNorm(4 * channels)
        self.narrow = nn.Conv2d(4 * channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.gelu(self.wide(self.norm(self.spatial(x))))
        added: torch.Tensor = self.narrow(self.respond(y))
        return x + added


class DigitClassifier(nn.Module):
    """Gives the logits of the ten digits.

    Shapes:
        images: (B, 8, 8), float, 0 is paper and 16 ink. Output: (B, 10).
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 24, 3, padding=1),
            LayerNorm2d(24),
            Block(24),
            Block(24),
            LayerNorm2d(24),
            nn.Conv2d(24, 48, 2, stride=2),
            Block(48),
            Block(48),
        )
        self.norm = nn.LayerNorm(48)
        self.classify = nn.Linear(48, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.layers(images.unsqueeze(1) / 16)
        logits: torch.Tensor = self.classify(self.norm(features.mean([2, 3])))
        return logits


def model() -> nn.Module:
    network = DigitClassifier()
    load_model(network, Path(__file__).with_suffix(".safetensors"))
    return network.eval()


torch.manual_seed(0)
example_inputs = 16 * torch.rand(4, 8, 8)
