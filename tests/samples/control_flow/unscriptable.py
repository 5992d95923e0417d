"""Networks of which TorchScript takes none as a whole, though their loops are plain: each is a model and its inputs at a length."""

import torch
from torch import nn


class Settings:
    """A configuration, as libraries have them: no class of TorchScript's."""

    def __init__(self, **values):
        self.__dict__.update(values)

    def at(self, step):
        return 1 / (step + 1)


def scan(x, decay, *, reverse=False, **options):
    """A selective scan, as Mamba-like networks write it."""
    batch, time, width = x.shape
    if reverse:
        out = x.flip(1)
    else:
        state = torch.zeros(batch, width, dtype=x.dtype, device=x.device)
        outs = []
        for t in range(time):
            state = decay[:, t] * state + x[:, t]
            out = state * options["scale"]
            outs.append(out)
        out = torch.stack(outs, dim=1)
    if options.get("last") is not None:
        return out, state
    return out


class Mixer(nn.Module):
    def __init__(self, settings):
        super().__init__()
        self.settings, self.decay = settings, nn.Linear(settings.width, settings.width)

    def forward(self, x, cache=None, **options):
        out, state = scan(x, self.decay(x).sigmoid(), scale=self.settings.scale, last=object())
        if cache is not None:
            cache.update(state)
        return out + state.unsqueeze(1), options


class Scans(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(Mixer(Settings(width=3, scale=0.5)) for _ in range(2))

    def forward(self, x):
        for layer in self.layers:
            x, _ = layer(x, note=self.layers)
        return x


class Returned(nn.Module):
    """Returns from where its list is stacked."""

    settings = Settings(rate=0.3)

    def forward(self, x, *nothing):
        steps, total = [], x[:, 0]
        rate, length = self.settings.rate, x.shape[1]
        for t in range(1, length):
            total = (1 - rate) * total + rate * x[:, t]
            steps.append(total)
        return torch.stack(steps, 1), total


class Filled(nn.Module):
    """Fills a table that it makes just before."""

    settings = Settings(rate=0.3)

    def forward(self, x, *nothing):
        rate = float(self.settings.rate)
        held = torch.zeros_like(x[:, 0])
        table = torch.zeros_like(x)
        for t in range(x.size(1)):
            held = torch.tanh(x[:, t] + rate * held)
            table[:, t] = held
        return table.sum(2), held


class Twice(nn.Module):
    """A loop over lengths in a loop over settings: each round goes on from the last."""

    settings = Settings(rates=(0.3, 0.6))

    def forward(self, x, *nothing):
        held, length = torch.zeros_like(x[:, 0]), x.shape[1]
        for rate in self.settings.rates:
            for t in range(length - 1, -1, -1):
                held = rate * held + x[:, t]
        return held


NETWORKS = (Scans, Returned, Filled, Twice)


class Reads(nn.Module):
    """Reads in its loop what TorchScript does not take."""

    settings = Settings(rate=0.3)

    def forward(self, x, *nothing):
        held, settings = torch.zeros_like(x[:, 0]), self.settings
        for t in range(x.shape[1]):
            held = settings.at(t) * held + x[:, t]
        return held
