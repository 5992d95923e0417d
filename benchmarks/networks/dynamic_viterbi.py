"""Viterbi decoding: the best path's score and its tags, by a loop forth and a loop back."""

import torch
from torch import nn

torch.manual_seed(13)


class Viterbi(nn.Module):
    def __init__(self):
        super().__init__()
        self.emit = nn.Linear(6, 4)
        self.move = nn.Parameter(torch.randn(4, 4))

    def forward(self, x):
        emissions = self.emit(x)
        batch, time, tags = emissions.shape
        score = emissions[:, 0]
        history = torch.zeros(time, batch, tags, dtype=torch.long)
        for t in range(1, time):
            best, came = (score.unsqueeze(2) + self.move).max(1)
            score = best + emissions[:, t]
            history[t] = came
        total, tag = score.max(1)
        path = torch.zeros(time, batch, dtype=torch.long)
        path[time - 1] = tag
        for back in range(1, time):
            tag = history[time - back].gather(1, tag.unsqueeze(1)).squeeze(1)
            path[time - 1 - back] = tag
        return total, path.t()


model = Viterbi()
example_inputs = torch.randn(2, 6, 6)
dynamic_shapes = {"x": {0: "batch", 1: "time"}}


def draw(rng):
    x = rng.standard_normal((rng.integers(1, 5), rng.integers(1, 9), 6)) * rng.choice([1.0, 0.3, 2.0])
    return (torch.from_numpy(x).float(),)
