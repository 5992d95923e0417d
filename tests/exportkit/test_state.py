"""Inputs, weights and state come back exactly as they were."""

import pytest
import torch
from torch import nn

from exportkit import perturb, state


def test_perturbed_weights_come_back_bit_for_bit_and_moved_in_between():
    net = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Embedding(4, 4)).half()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with perturb.weights(net, seed=3, bit=0):
        moved = (net[0].weight.view(torch.int16) - before["0.weight"].view(torch.int16)).abs()
        assert moved.max() == 1
        assert 10 < (moved > 0).sum() < 54
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_whole_numbers_and_integers_do_not_move():
    values = {"ids": torch.arange(5), "counts": torch.arange(5.0), "x": torch.randn(100)}
    moved = perturb.inputs(values, 1, bit=1)
    assert torch.equal(moved["ids"], values["ids"])
    assert torch.equal(moved["counts"], values["counts"])
    assert not torch.equal(moved["x"], values["x"])
    assert torch.allclose(moved["x"], values["x"], rtol=2**-20)


class Caches(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = 0
        self.seen = []
        self.register_buffer("total", torch.zeros(2))

    def forward(self, x):
        self.calls += 1
        self.seen.append(x)
        self.total += 1
        self.fresh = x
        return x


def test_changes_of_plain_values_buffers_and_new_attributes_are_named():
    net = Caches()
    before = state.snapshot(net)
    net(torch.ones(2))
    named = state.changes(before, state.snapshot(net))
    assert {"calls", "total"} <= set(named)


CALLS = []


class Outside(nn.Module):
    calls = 0

    def forward(self, x):
        Outside.calls += 1
        CALLS.append(1)
        return x


def test_changes_of_class_attributes_and_globals_of_the_file_are_named():
    before = state.snapshot(nn.Sequential(Outside()))
    Outside()(torch.ones(2))
    assert state.changes(before, state.snapshot(nn.Sequential(Outside()))) == ["CALLS[0]", "Outside.calls", "len(CALLS)"]


def test_attributes_are_put_back():
    net = Caches()
    with state.preserved(net):
        net(torch.ones(2))
    assert net.calls == 0
    assert net.seen == []
    assert not hasattr(net, "fresh")


@pytest.mark.parametrize("other", [torch.ones(2, 3), torch.ones(3, 2), torch.zeros(6), torch.ones(6, dtype=torch.float64)])
def test_a_digest_tells_dtype_shape_and_values_apart(other):
    assert state.digest(other) != state.digest(torch.ones(6))
    assert state.digest(torch.ones(6, 2)[:, 0]) == state.digest(torch.ones(6))


def test_weights_that_share_one_storage_move_all_as_a_gpu_keeps_those_of_a_recurrent_layer():
    net = nn.LSTM(3, 4)
    flat = torch.cat([one.detach().flatten() for one in net.parameters()])
    place = 0
    for one in net.parameters():
        one.data = flat[place : place + one.numel()].view(one.shape)
        place += one.numel()
    before = {name: one.detach().clone() for name, one in net.named_parameters()}
    with perturb.weights(net, seed=3, bit=0):
        assert all(not torch.equal(one, before[name]) for name, one in net.named_parameters())
    assert all(torch.equal(one, before[name]) for name, one in net.named_parameters())
