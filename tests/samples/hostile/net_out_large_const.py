# constant tensor output independent of the input
import torch
from torch import nn
import torch.nn.functional as F

torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        pass

    def forward(self, x):
        return torch.arange(6.0).reshape(2, 3) + 0 * x.sum()


model = Net().eval()
example_inputs = (torch.randn(2, 4),)
