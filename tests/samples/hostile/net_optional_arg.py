# optional second argument defaults to None and changes the maths
import torch
from torch import nn
import torch.nn.functional as F

torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        pass

    def forward(self, x, mask=None):
        return x * 2 if mask is None else x * mask


model = Net().eval()
example_inputs = (torch.randn(2, 4),)
