"""Two custom linear layers: Sequential(MyLinear(64, 8), MyLinear(8, 1))."""

import torch
from torch import nn

from layers.basic import MyLinear

torch.manual_seed(0)
model = nn.Sequential(MyLinear(64, 8), MyLinear(8, 1))
example_inputs = torch.rand(2, 64)
