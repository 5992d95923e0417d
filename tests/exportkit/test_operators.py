"""Operators are counted in all bodies, and the same each time."""

import gc

import torch

from exportkit.formats import pt2, torchscript


class Looping(torch.nn.Module):
    def forward(self, x):
        for _ in range(x.shape[0]):
            x = x + 1 if bool(x.sum() > 0) else x * 2
        return x


class Plain(torch.nn.Module):
    def forward(self, x):
        return torch.relu(x) + torch.relu(x * 2), torch.unbind(x)[0]


def test_bodies_of_loops_and_branches_count():
    module = torch.jit.script(Looping())
    once = ("prim::Loop", "prim::If", "aten::add", "aten::mul")
    for _ in range(20):
        gc.collect()
        counts = torchscript._operators(module)
        assert {name: counts[name] for name in once} == dict.fromkeys(once, 1)


def test_a_program_counts_torchs_operators_and_plain_functions_by_name():
    counts = pt2._operators(torch.export.export(Plain(), (torch.randn(2, 3),)))
    assert counts["aten.relu.default"] == 2
    assert counts["getitem"] == 2  # one for each row that unbind gives
    assert not any("0x" in name for name in counts)
