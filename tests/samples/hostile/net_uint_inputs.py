# uint16/uint32 inputs
import torch
from torch import nn
import torch.nn.functional as F

torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        pass

    def forward(self, x, y):
        return x.to(torch.float32) * 2, y.to(torch.int64) + 1


model = Net().eval()
example_inputs = (torch.tensor([1, 65535], dtype=torch.uint16), torch.tensor([1, 2**32 - 1], dtype=torch.uint32))
