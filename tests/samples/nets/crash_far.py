"""An operator that crashes for very many rows, which no exporter sees."""

import os
import signal

import torch
from onnxscript import opset18 as op
from torch import nn


@torch.library.custom_op("shop::fragile", mutates_args=())
def fragile(x: torch.Tensor) -> torch.Tensor:
    if x.shape[0] > 100:
        os.kill(os.getpid(), signal.SIGSEGV)
    return torch.from_numpy(x.numpy() * 2)


@fragile.register_fake
def _(x):
    return torch.empty_like(x)


class Net(nn.Module):
    def forward(self, x):
        return fragile(x)


model = Net()
example_inputs = torch.randn(4, 3)
dynamic_shapes = {"x": {0: "rows"}}
onnx_translations = {torch.ops.shop.fragile.default: lambda x: op.Add(x, x)}
