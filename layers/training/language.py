"""The language model over the standard library's sources, in windows of 128 bytes."""

import torch
from torch import nn
from torch.nn import functional

from layers.networks.language_prefill import LanguageModel
from layers.training.fit import Figures, Run, fit
from layers.training.sources import sources, windows

NETWORKS = ("language_prefill", "language_step")
SIZE = 128


def train() -> nn.Module:
    network = LanguageModel()
    texts = windows(sources(held_back=False), SIZE)
    mask = torch.ones(16, SIZE, dtype=torch.bool)

    def loss() -> torch.Tensor:
        text = texts[torch.randint(texts.shape[0], (16,))]
        return functional.cross_entropy(network(text, mask)[0][:, :-1].flatten(0, 1), text[:, 1:].flatten())

    fit(network, loss, 1000, 4e-3)
    return network


def measure(prefill: Run, step: Run) -> Figures:
    """Takes the perplexity of 64 windows of held-back sources: all read at once; and the first half read, the second byte after byte."""
    texts = windows(sources(held_back=True), SIZE)
    texts = texts[torch.linspace(0, texts.shape[0] - 1, 64).long()]
    mask, half = torch.ones_like(texts, dtype=torch.bool), SIZE // 2
    at_once = prefill(texts, mask)[0]
    logits, keys, values, seen = prefill(texts[:, :half], mask[:, :half])
    stepped = [logits]
    for place in range(half, SIZE):
        logits, keys, values, seen = step(texts[:, place : place + 1], mask[:, :1], keys, values, seen)
        stepped.append(logits)
    found = torch.stack([at_once, torch.cat(stepped, 1)])
    return Figures(
        {"perplexity of a byte, at once": perplexity(found[0], texts), "perplexity of a byte, in steps": perplexity(found[1], texts)},
        found.argmax(3),
    )


def perplexity(logits: torch.Tensor, texts: torch.Tensor) -> float:
    losses = functional.cross_entropy(logits[:, :-1].flatten(0, 1).double(), texts[:, 1:].flatten())
    return float(losses.exp())
