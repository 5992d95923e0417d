"""A torch operator that only a library of onnxruntime operators can run."""

import numpy as np
import onnx
import torch
from onnxscript import values
from torch import nn

Parameter = onnx.defs.OpSchema.FormalParameter
SCHEMA = onnx.defs.OpSchema(
    "Inverse", "ai.onnx.contrib", 1, inputs=[Parameter("x", "T")], outputs=[Parameter("y", "T")], type_constraints=[("T", ["tensor(float)"], "")]
)
to_onnx = values.Op(values.Opset("ai.onnx.contrib", 1), "Inverse", SCHEMA)


@torch.library.custom_op("shop::inverse", mutates_args=())
def inverse(x: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(np.linalg.inv(x.numpy()))


@inverse.register_fake
def _(x):
    return torch.empty_like(x)


class Net(nn.Module):
    def forward(self, x):
        return inverse(x @ x.T + torch.eye(4))


model = Net()
example_inputs = torch.randn(4, 6)
onnx_translations = {torch.ops.shop.inverse.default: lambda x: to_onnx(x)}
