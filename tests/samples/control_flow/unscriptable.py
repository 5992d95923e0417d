"""Networks of which TorchScript takes none as a whole, though their loops are plain: each is a model and its inputs at a length."""

import math

import torch
import torch.nn.functional as F
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


class FromTheEnd(nn.Module):
    """Loops over reversed ranges; a list that is filled from its end."""

    def __init__(self):
        super().__init__()
        self.settings = Settings(scale=0.5)

    def forward(self, x, **options):
        state, states = torch.zeros_like(x[:, 0]), []
        for t in reversed(range(x.shape[1])):
            state = torch.tanh(state * self.settings.scale + x[:, t])
            states.insert(0, state)
        y = torch.stack(states, 1)
        for t in reversed(range(1, x.shape[1])):
            state = torch.tanh(state + y[:, t] - y[:, t - 1])
        return y + state.unsqueeze(1)


class Twice(nn.Module):
    """A loop over lengths in a loop over settings: each round goes on from the last."""

    settings = Settings(rates=(0.3, 0.6))

    def forward(self, x, *nothing):
        held, length = torch.zeros_like(x[:, 0]), x.shape[1]
        for rate in self.settings.rates:
            for t in range(length - 1, -1, -1):
                held = rate * held + x[:, t]
        return held


def next_power(length):
    return 2 ** math.ceil(math.log2(length))


def padded(x, fill):
    return F.pad(x, (0, 0, 0, next_power(x.size(1)) - x.size(1)), "constant", fill)


class Latest(torch.autograd.Function):
    """h[t] = max(h[t - 1] - cost[t], x[t]), in place over a tree: each node's pair becomes its parent's, then each parent tells its next."""

    @staticmethod
    def sweep(cost, x):
        batch, length, _ = x.size()
        levels = int(math.log2(length))
        costs, best = cost, x
        for _ in range(levels):
            half = best.size(1) // 2
            costs = costs.view(batch, half, 2, -1)
            best = best.view(batch, half, 2, -1)
            best[:, :, 1].copy_(torch.maximum(best[:, :, 1], best[:, :, 0] - costs[:, :, 1]))
            costs[:, :, 1] += costs[:, :, 0]
            costs = costs[:, :, 1]
            best = best[:, :, 1]
        if length < 4:
            return
        for level in range(levels - 2, -1, -1):
            costs = cost[:, 2**level - 1 : length : 2**level]
            best = x[:, 2**level - 1 : length : 2**level]
            half = best.size(1) // 2
            costs = costs.view(batch, half, 2, -1)
            best = best.view(batch, half, 2, -1)
            best[:, 1:, 0].copy_(torch.maximum(best[:, 1:, 0], best[:, :-1, 1] - costs[:, 1:, 0]))
            costs[:, 1:, 0] += costs[:, :-1, 1]

    @staticmethod
    def forward(ctx, cost, x):
        length = x.size(1)
        if length == next_power(length):
            own, best = cost.clone(), x.clone()
        else:
            own, best = padded(cost, 0), padded(x, -1)
        Latest.sweep(own, best)
        ctx.save_for_backward(cost, best)
        ctx.length = length
        return best[:, :length]

    @staticmethod
    def backward(ctx, grad):
        raise RuntimeError("an artifact has no gradients")


latest = Latest.apply


class OverTree(nn.Module):
    """Calls a torch.autograd.Function that writes in place into views of what it pads, its helpers without annotations."""

    def forward(self, x, *nothing):
        best = latest(x.exp(), x)
        return best, best.sum(1)


def halve(x, steps):
    """Writes into its argument, through views."""
    part = x
    for _ in range(steps):
        part[:, ::2] *= 0.5
        part = part[:, ::2]


class WritesArgument(nn.Module):
    """Calls a function that writes into what it is given, which is read afterwards under another name."""

    settings = Settings(rate=0.3)

    def forward(self, x, *nothing):
        whole = x * self.settings.rate
        left = whole[:, :, :2]
        halve(left, x.shape[1])
        return whole, left


def add_before(table, same):
    for t in range(1, table.shape[1]):
        table[:, t] += same[:, t - 1]


class WritesThroughLoop(nn.Module):
    """Calls a function that TorchScript does not take, whose loop gives nothing and writes through a view."""

    settings = Settings(rate=0.3)

    def forward(self, x, *nothing):
        table = x * self.settings.rate
        accumulate(table, note=self.settings)
        return table, table.sum(1)


def accumulate(table, **options):
    for t in range(1, table.shape[1]):
        row = table[:, t]
        row += table[:, t - 1]


class GoesOnWriting(nn.Module):
    """Writes into a tensor in a loop and after it, while another name shows it."""

    settings = Settings(rate=0.3)

    def forward(self, x, *nothing):
        table = (x * self.settings.rate).abs()
        self.settings.table = table
        table = raised(table, note=self.settings)
        return table, self.settings.table


def raised(table, **options):
    if options:
        for t in range(1, table.shape[1]):
            table[:, t] += table[:, t - 1]
        table += 1
    return table


NETWORKS = (Scans, Returned, Filled, FromTheEnd, Twice, OverTree, WritesArgument, WritesThroughLoop, GoesOnWriting)


class ViewWrittenLater(nn.Module):
    """Writes after a loop into a view that the loop gives."""

    settings = Settings(rate=0.3)

    def forward(self, x, *nothing):
        return lowered(x * self.settings.rate, note=self.settings)


def lowered(table, **options):
    row = table[:, 0]
    for t in range(1, table.shape[1]):
        row += table[:, t]
    row -= 1
    return table


class WritesShared(nn.Module):
    """Calls a function that writes into one argument and reads another, and gives it the same memory as both."""

    settings = Settings(rate=0.3)

    def forward(self, x, *nothing):
        table = x * self.settings.rate
        add_before(table, table.view(table.shape))
        return table


class Reads(nn.Module):
    """Reads in its loop what TorchScript does not take."""

    settings = Settings(rate=0.3)

    def forward(self, x, *nothing):
        held, settings = torch.zeros_like(x[:, 0]), self.settings
        for t in range(x.shape[1]):
            held = settings.at(t) * held + x[:, t]
        return held
