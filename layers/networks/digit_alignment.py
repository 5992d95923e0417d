"""Recognises a digit by aligning its columns of pixels with learned ones: nearest prototype by soft dynamic time warping.

Trained by `python -m layers.training digit_alignment` on scikit-learn's `load_digits`, which has no series of its own that needs no
download: a digit is read as the series of its columns, as in Rath and Manmatha 2003, Word Image Matching Using Dynamic Time Warping.
"""

from pathlib import Path

import torch
from safetensors.torch import load_model
from torch import nn

from layers.dynamic_programming import DynamicTimeWarping, SoftDTW

PROTOTYPES = 3  # of each digit


class DigitAligner(nn.Module):
    """Compares a series with 3 prototypes of each digit, and aligns it with the nearest one of them.

    The prototypes are series of 8 columns, soft-DTW barycentres that training moves (Cuturi and Blondel 2017, sections 4.1 and 4.2).

    Shapes:
        series: (B, T, 8), float: columns of 8 pixels from left to right, 0 is paper and 16 ink. mask: (B, T), bool: false for the padding
            behind; at least one column of a row is no padding.
        Output: logits of the digits, (B, 10); and the alignment with the nearest prototype of the best digit, (B, T + 8, 2), int64: pairs
            (column, column of the prototype) from the first to the last, -1 behind the last.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = PROTOTYPES
        self.embed = nn.Linear(8, 16)
        self.prototypes = nn.Parameter(torch.randn(10 * PROTOTYPES, 8, 16))
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.soft, self.warp = SoftDTW(), DynamicTimeWarping()

    def forward(self, series: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        costs = self.costs(series)
        distances = self.distances(costs, mask)
        logits = -self.scale * distances.min(2)[0]
        best = logits.argmax(1)
        rows = torch.arange(best.shape[0], device=best.device)
        nearest = best * self.count + distances.min(2)[1][rows, best]
        chosen = costs[rows, nearest]
        _, path = self.warp(chosen, mask, torch.ones_like(chosen[:, 0], dtype=torch.bool))
        return logits, path

    def costs(self, series: torch.Tensor) -> torch.Tensor:
        """Returns the squared distances of each column and each column of each prototype, (B, 30, T, 8)."""
        x = torch.tanh(self.embed(series / 16)).unsqueeze(1).unsqueeze(3)  # (B, 1, T, 1, 16)
        return (x - self.prototypes.unsqueeze(1)).square().sum(4)

    def distances(self, costs: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Returns the soft-DTW of each series and each prototype, (B, 10, 3)."""
        batch, prototypes, time = costs.shape[0], costs.shape[1], costs.shape[2]
        masks = mask.unsqueeze(1).expand(batch, prototypes, time).flatten(0, 1)
        table = costs.flatten(0, 1)
        totals: torch.Tensor = self.soft(table, masks, torch.ones_like(table[:, 0], dtype=torch.bool))
        return totals.view(batch, prototypes // self.count, self.count)


def model() -> nn.Module:
    network = DigitAligner()
    load_model(network, Path(__file__).with_suffix(".safetensors"))
    return network.eval()


torch.manual_seed(0)
example_inputs = (16 * torch.rand(2, 6, 8), torch.arange(6) < torch.tensor([[6], [4]]))
