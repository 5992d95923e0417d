"""The network that tags Python source: whole lines of at most 96 bytes in all, each piece from the beginning of a statement on."""

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from layers.networks.source_tagger import SourceTagger
from layers.training.fit import Figures, Run, fit
from layers.training.sources import classify, sources

NETWORKS = ("source_tagger",)
SIZE = 96


def train() -> nn.Module:
    network = SourceTagger()
    texts, tags, mask, _ = pieces(held_back=False)

    def loss() -> torch.Tensor:
        chosen = torch.randint(mask.shape[0], (64,))
        on = mask[chosen]
        likelihoods: torch.Tensor = network.crf(network.emissions(texts[chosen], on), tags[chosen], on)
        return -likelihoods.sum() / on.sum()

    fit(network, loss, 250, 1e-2)
    return network


def measure(run: Run) -> Figures:
    """Counts tokens all of whose bytes are tagged right, over every eighth of the held-back pieces."""
    texts, tags, mask, owners = (part[::8] for part in pieces(held_back=True))
    parts = zip(texts.split(64), mask.split(64), strict=True)
    found = torch.cat([run(*part)[1] for part in parts])
    wrong = torch.zeros(int(owners.max()) + 1, dtype=torch.bool)
    wrong[owners[(found != tags) & mask]] = True
    counted = torch.unique(owners[(owners > 0) & mask])
    return Figures({"token accuracy, %": 100 * float((~wrong[counted]).double().mean())}, found[mask])


def pieces(held_back: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns bytes, their tags, a mask, and the number of the token that a byte belongs to (0: to none), (N, 96) each."""
    texts, tags, owners = [], [], []
    count = 0
    for source in sources(held_back):
        classes, begins, spans = classify(source)
        owner = torch.zeros_like(classes)
        for begin, end in spans:
            count += 1
            owner[begin:end] = count
        end = 0
        for begin in begins:
            if begin < end:
                continue  # in the piece before
            end = source.rfind(b"\n", begin, begin + SIZE) + 1
            if end > begin:
                texts.append(torch.tensor(list(source[begin:end])))
                tags.append(classes[begin:end])
                owners.append(owner[begin:end])
    mask = torch.arange(SIZE) < torch.tensor([len(one) for one in texts]).unsqueeze(1)
    text, tag, owner = (
        nn.functional.pad(one, [0, SIZE - one.shape[1]])
        for one in (pad_sequence(texts, batch_first=True), pad_sequence(tags, batch_first=True), pad_sequence(owners, batch_first=True))
    )
    return text, tag, mask, owner
