"""The network that reads strings of digits: one to six images side by side, with up to three columns of paper between them."""

import torch
from torch import nn

from layers.dynamic_programming import CTCLoss, EditDistance
from layers.networks.digit_strings import StringReader
from layers.training.digit_images import digits, shift
from layers.training.fit import Figures, Run, fit

NETWORKS = ("digit_strings",)
WIDTH = 2 + 6 * (8 + 3)


def train() -> nn.Module:
    network, cost = StringReader(), CTCLoss()
    images, labels = digits(held_back=False)

    def loss() -> torch.Tensor:
        lines, mask, targets, target_mask = render(images, labels, 64)
        losses: torch.Tensor = cost(network.log_probs(lines, mask), targets + 1, mask[:, ::2], target_mask)
        return losses.sum() / target_mask.sum()

    fit(network, loss, 600, 5e-3)
    return network


def measure(run: Run) -> Figures:
    """Counts the insertions, deletions and replacements that make the truth of what was read, by digit of the truth: 500 strings."""
    torch.manual_seed(1)
    edits, total, decided = 0, 0, []
    for _ in range(5):
        lines, mask, targets, target_mask = render(*digits(held_back=True), 100)
        found = run(lines, mask)[1]
        edits += int(EditDistance()(found, targets, found >= 0, target_mask).sum())
        total += int(target_mask.sum())
        decided.append(found)
    return Figures({"error rate, %": 100 * edits / total}, torch.cat(decided))


def render(images: torch.Tensor, labels: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draws strings: lines of pixels, (N, 8, 68), their mask, (N, 68), the digits, (N, 6), and their mask, (N, 6)."""
    chosen = torch.randint(labels.shape[0], (count, 6))
    lengths, gaps = torch.randint(1, 7, (count, 1)), torch.randint(4, (count, 6))
    target_mask = torch.arange(6) < lengths
    parts = shift(images[chosen.flatten()]).view(count, 6, 8, 8)
    begins = 2 + (8 + gaps).cumsum(1) - (8 + gaps)
    columns = torch.arange(WIDTH) - begins.unsqueeze(2)  # (N, 6, W): of each digit's own
    inside = (columns >= 0) & (columns < 8) & target_mask.unsqueeze(2)
    pixels = parts.gather(3, columns.clamp(0, 7).unsqueeze(2).expand(count, 6, 8, WIDTH))
    lines = (pixels * inside.unsqueeze(2)).sum(1)
    ends = begins.gather(1, lengths - 1) + 8
    return lines, torch.arange(WIDTH) < ends, labels[chosen], target_mask
