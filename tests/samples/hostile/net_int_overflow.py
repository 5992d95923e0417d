# int32 overflow wraps; int64 beyond 2**53
import torch
from torch import nn
import torch.nn.functional as F

torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        pass

    def forward(self, x, y):
        return x * 65537, y * 3 + 1


model = Net().eval()
example_inputs = (torch.tensor([2**30, 65537], dtype=torch.int32), torch.tensor([2**53 + 1, -(2**60)]))
