# left in train mode with BatchNorm (batch stats; running stats mutate)
import torch
from torch import nn
import torch.nn.functional as F

torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)
        self.bn = nn.BatchNorm1d(3)

    def forward(self, x):
        return self.bn(self.fc(x))


model = Net()
example_inputs = (torch.randn(8, 4),)
check_inputs = [(torch.randn(8, 4),)]
