# mutates its input in place
import torch
from torch import nn
import torch.nn.functional as F

torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        x.add_(1)
        return self.fc(x)


model = Net().eval()
example_inputs = (torch.randn(2, 4),)
