# floor division/remainder of negative floats and by tensor
import torch
from torch import nn
import torch.nn.functional as F

torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        pass

    def forward(self, x, y):
        return x // y, x % y, torch.fmod(x, y), torch.remainder(x, -2.5)


model = Net().eval()
example_inputs = (torch.tensor([-7.5, -3.0, 2.5, 7.25]), torch.tensor([2.0, -2.0, -2.0, 3.0]))
