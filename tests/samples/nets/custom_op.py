import torch
from torch import nn


@torch.library.custom_op("shop::scale_add", mutates_args=())
def scale_add(x: torch.Tensor, y: torch.Tensor, factor: float) -> torch.Tensor:
    return x * factor + y.clamp(min=0)


@scale_add.register_fake
def _(x, y, factor):
    return torch.empty_like(x)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, x):
        return scale_add(x, self.linear(x), 1.5)


model = Net()
example_inputs = torch.randn(3, 6)
