import torch
from torch import nn
class Net(nn.Module):
    """keeps the last 64 steps of a long sequence, as a bounded context does"""
    def __init__(self):
        super().__init__(); self.fc = nn.Linear(8, 4); self.context = 64
    def forward(self, x):
        if x.shape[1] > self.context:
            x = x[:, -self.context:]
        return self.fc(x).mean(1)
torch.manual_seed(0)
model = Net()
example_inputs = torch.randn(2, 10, 8)
def extra(): return [torch.randn(2, 30, 8), torch.randn(2, 64, 8), torch.randn(2, 100, 8)]
