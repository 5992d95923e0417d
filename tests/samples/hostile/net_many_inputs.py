# 60 inputs
import torch
from torch import nn
import torch.nn.functional as F

torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        pass

    def forward(self, *xs):
        return sum(xs)


model = Net().eval()
example_inputs = tuple(torch.randn(3) for _ in range(60))
