# calls self.train() inside forward
import torch
from torch import nn
import torch.nn.functional as F

torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.d = nn.Dropout(0.5)

    def forward(self, x):
        self.train()
        return self.d(x)


model = Net().eval()
example_inputs = (torch.randn(8, 4),)
