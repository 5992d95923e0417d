# inputs called input, output, _x, X
import torch
from torch import nn
import torch.nn.functional as F

torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        pass

    def forward(self, input, output, X, x):
        return input + 2 * output + 3 * X + 4 * x


model = Net().eval()
example_inputs = tuple(torch.randn(3) for _ in range(4))
