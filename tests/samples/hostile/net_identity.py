# returns its input unchanged (output aliases input)
import torch
from torch import nn
import torch.nn.functional as F

torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        pass

    def forward(self, x):
        return x


model = Net().eval()
example_inputs = (torch.randn(2, 4),)
