"""Named, nested and missing outputs, an unused and an optional input."""

import torch
from torch import nn


class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x, unused, bias=None):
        logits = self.fc(x)
        if bias is not None:
            logits = logits + bias
        return {"logits": logits, "pair": (logits.softmax(-1), logits.argmax(-1)), "nothing": None}


torch.manual_seed(0)
model = Heads()
example_inputs = {"x": torch.randn(2, 4), "unused": torch.randn(5)}
