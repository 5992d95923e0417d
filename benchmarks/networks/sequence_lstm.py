"""A tagger: a bidirectional LSTM, a GRU over it, logits and tags."""

import torch
from torch import nn

torch.manual_seed(8)


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(6, 8, bidirectional=True, batch_first=True)
        self.gru = nn.GRU(16, 8, batch_first=True)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        mixed, _ = self.lstm(x)
        mixed, last = self.gru(torch.tanh(mixed))
        logits = self.head(mixed)
        return logits.log_softmax(-1), last[0], logits.argmax(-1)


model = Tagger()
example_inputs = torch.randn(2, 7, 6)
dynamic_shapes = {"x": {0: "batch", 1: "time"}}


def draw(rng):
    x = rng.standard_normal((rng.integers(1, 4), rng.integers(1, 9), 6)) * rng.choice([1.0, 0.3, 3.0])
    return (torch.from_numpy(x).float(),)
