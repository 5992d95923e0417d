# left in train mode with Dropout
import torch
from torch import nn
import torch.nn.functional as F

torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)
        self.d = nn.Dropout(0.5)

    def forward(self, x):
        return self.d(self.fc(x))


model = Net()
example_inputs = (torch.randn(8, 4),)
