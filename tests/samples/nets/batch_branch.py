"""A branch on the batch size: one side is baked into whatever is traced."""

import torch
from torch import nn


class Branch(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        y = self.fc(x)
        if x.shape[0] > 6:
            return y * 2
        return y


torch.manual_seed(0)
model = Branch()
example_inputs = torch.randn(3, 4)
