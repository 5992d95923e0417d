"""An operator whose translation is wrong for 41 to 129 rows: at none of the sizes that an export tries by itself."""

import numpy as np
import torch
from onnxscript import opset18 as op
from torch import nn


@torch.library.custom_op("shop::double", mutates_args=())
def double(x: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(np.multiply(x.numpy(), 2))


@double.register_fake
def _(x):
    return torch.empty_like(x)


def to_onnx(x):
    rows = op.Shape(x, start=0, end=1)
    between = op.And(op.Greater(rows, op.Constant(value_ints=[40])), op.Less(rows, op.Constant(value_ints=[130])))
    return op.Where(between, x, op.Add(x, x))


class Net(nn.Module):
    def forward(self, x):
        return double(x)


model = Net()
example_inputs = torch.randn(4, 3)
onnx_translations = {torch.ops.shop.double.default: to_onnx}
dynamic_shapes = {"x": {0: "rows", 1: "columns"}}
