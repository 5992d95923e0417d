"""What depends on weights alone is computed once."""

import torch
from torch import nn

from exportkit import simplify


class Parametrised(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.utils.parametrizations.orthogonal(nn.Linear(4, 4))

    def forward(self, x):
        return self.linear(x) + torch.rand_like(x) * 0


def test_what_depends_on_weights_alone_is_computed_once_and_randomness_is_not():
    net, x = Parametrised().eval(), torch.randn(3, 4)
    with torch.no_grad():
        program = torch.export.export(net, (x,))
        plain = simplify.simplified(program, (x,), {}, None)
        operators = [str(node.target) for node in plain.graph.nodes if node.op == "call_function"]
        assert not any("householder" in name for name in operators)
        assert any("rand" in name for name in operators)
        assert torch.allclose(plain.module()(x), net(x), atol=1e-6)
