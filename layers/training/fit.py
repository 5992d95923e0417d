"""What the trainings share: one loop, and one form of a network and of its figures."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

# Takes a network's inputs and returns its outputs: eager or any artifact.
Run = Callable[..., tuple[torch.Tensor, ...]]


@dataclass(frozen=True, eq=False)
class Figures:
    """What a network's users care about, on held-back data.

    Attributes:
        values: each figure by its name, which ends in its unit.
        decisions: all that the network decided (classes, tags, labels, paths), int64, to compare element by element.
    """

    values: dict[str, float]
    decisions: torch.Tensor


def fit(network: nn.Module, loss: Callable[[], torch.Tensor], steps: int, rate: float) -> None:
    """Lowers `loss`, which draws a batch at each call, by AdamW; the rate rises over the first tenth and falls to nothing (one cycle)."""
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=0.1)
    for step in range(steps):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            print(f"{type(network).__name__}: step {step + 1} of {steps}, loss {value.item():.4f}", flush=True)
    network.eval()
