"""A linear layer whose output is centred: Sequential(Linear(8, 128), CenteredLayer())."""

import torch
from torch import nn

from layers.basic import CenteredLayer

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 128), CenteredLayer())
example_inputs = torch.rand(4, 8)
