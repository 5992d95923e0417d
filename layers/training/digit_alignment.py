"""The network that aligns digits: columns from the first to the last that has ink, each once to three times, as if written unevenly."""

import torch
from torch import nn
from torch.nn import functional

from layers.networks.digit_alignment import PROTOTYPES, DigitAligner
from layers.training.digit_images import digits
from layers.training.fit import Figures, Run, fit

NETWORKS = ("digit_alignment",)
LENGTH = 24


def train() -> nn.Module:
    network = DigitAligner()
    images, labels = digits(held_back=False)
    with torch.no_grad():  # prototypes begin as digits
        first = torch.cat([(labels == digit).nonzero()[:PROTOTYPES, 0] for digit in range(10)])
        network.prototypes.copy_(torch.tanh(network.embed(images[first].transpose(1, 2) / 16)))

    def loss() -> torch.Tensor:
        chosen = torch.randint(labels.shape[0], (48,))
        series, mask = write(images[chosen])
        distances = network.distances(network.costs(series), mask)
        return functional.cross_entropy(-network.scale * distances.min(2)[0], labels[chosen])

    fit(network, loss, 200, 2e-2)
    return network


def measure(run: Run) -> Figures:
    torch.manual_seed(1)
    images, labels = digits(held_back=True)
    series, mask = write(images)
    parts = [run(*part) for part in zip(series.split(120), mask.split(120), strict=True)]
    found = torch.cat([logits.argmax(1) for logits, _ in parts])
    paths = torch.cat([path.flatten() for _, path in parts])
    return Figures({"accuracy, %": 100 * float((found == labels).double().mean())}, torch.cat([found, paths]))


def write(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the columns of images, (N, 8, 8), as series, (N, 24, 8), and their mask, (N, 24)."""
    columns = images.transpose(1, 2)
    ink = columns.sum(2) > 0
    shown = (ink.long().cumsum(1) > 0) & (ink.long().flip(1).cumsum(1).flip(1) > 0)  # not before the first, nor behind the last
    times = torch.randint(1, 4, ink.shape) * shown
    ends = times.cumsum(1)
    source = (torch.arange(LENGTH).view(1, -1, 1) >= ends.unsqueeze(1)).sum(2).clamp(max=7)  # (N, 24)
    mask = torch.arange(LENGTH) < ends[:, -1:]
    series = columns.gather(1, source.unsqueeze(2).expand(-1, -1, 8)) * mask.unsqueeze(2)
    return series, mask
