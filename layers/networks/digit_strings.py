"""Reads a string of handwritten digits from a line of pixels: convolutions, and a search for the best labelling (CTC).

Trained by `python -m layers.training digit_strings` on strings of the images of scikit-learn's `load_digits`.
"""

from pathlib import Path

import torch
from safetensors.torch import load_model
from torch import nn
from torch.nn import functional

from layers.dynamic_programming import CTCPrefixBeamSearch
from layers.image import LayerNorm2d
from layers.sequence import CausalConvBlock


class StringReader(nn.Module):
    """Gives the most probable string of digits and its log-probability.

    Shapes:
        images: (B, 8, W), float, 0 is paper and 16 ink. mask: (B, W), bool: false for the padding on the right.
        Output: log-probabilities, (B,), and digits, (B, ceil(W / 2)), int64, -1 behind the last.
    """

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(1, 24, 3, padding=1)
        self.norm = LayerNorm2d(24)
        self.halve = nn.Conv2d(24, 24, 3, stride=2, padding=1)
        self.columns = nn.Linear(4 * 24, 64)
        self.context = nn.ModuleList([CausalConvBlock(64, 64), CausalConvBlock(64, 64)])
        self.classify = nn.Linear(64, 11)
        self.search = CTCPrefixBeamSearch(8)

    def forward(self, images: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scores, labels = self.search(self.log_probs(images, mask), mask[:, ::2])
        best = labels[:, 0]
        return scores[:, 0], torch.where(best > 0, best - 1, -1)

    def log_probs(self, images: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Returns the logarithms of the classes' probabilities, (B, ceil(W / 2), 11); class 0 is blank."""
        on = mask.view(mask.shape[0], 1, 1, mask.shape[1])  # beyond its end a line is paper, whatever the padding holds
        x = functional.gelu(self.norm(self.enter(images.unsqueeze(1) / 16 * on)))
        x = functional.gelu(self.halve(x * on))  # (B, 24, 4, ceil(W / 2))
        x = self.columns(x.flatten(1, 2).transpose(1, 2))
        for block in self.context:
            x = block(x)
        return functional.log_softmax(self.classify(x), 2)


def model() -> nn.Module:
    network = StringReader()
    load_model(network, Path(__file__).with_suffix(".safetensors"))
    return network.eval()


torch.manual_seed(0)
example_inputs = (16 * torch.rand(2, 8, 13), torch.arange(13) < torch.tensor([[13], [8]]))
