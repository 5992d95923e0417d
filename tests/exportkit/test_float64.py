"""The oracle: float64 whatever the network does to stay in float32."""

import pytest
import torch
from torch import nn

from exportkit import float64


def oracle(call, choices=None):
    return float64.compute(call, choices).value


def near(value, truth):
    return value.dtype == torch.float64 and (value - truth).abs().max() <= 1e-12 * truth.abs().max()


def test_a_plain_network_runs_in_float64():
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(8, 64), nn.GELU(), nn.LayerNorm(64), nn.Linear(64, 3)), torch.randn(5, 8)
    truth = oracle(lambda: net(x))
    assert near(truth, net.double()(x.double()))


@pytest.mark.parametrize(
    "trap",
    [
        lambda x: x.float().mul(1 / 3).sum(-1),
        lambda x: x.to(torch.float32) @ torch.full((8, 2), 1 / 3, dtype=torch.float32),
        lambda x: (x + torch.arange(8, dtype=torch.float32) / 7).sum(-1),
        lambda x: x.type_as(torch.zeros(1)).softmax(-1),
    ],
)
def test_casts_and_tables_inside_do_not_bring_float32_back(trap):
    x = torch.randn(4, 8)
    eager, value = trap(x), oracle(lambda: trap(x))
    assert value.dtype == torch.float64
    assert 0 < (value - eager).abs().max() < 1e-5


def test_code_that_asks_for_a_dtype_takes_eagers_branch():
    def net(x):
        assert x.dtype == torch.float32
        return x.masked_fill(x > 0, torch.finfo(x.dtype).min)

    x = torch.randn(6)
    assert (oracle(lambda: net(x)) == net(x)).sum() >= (x > 0).sum()


def test_what_the_network_writes_into_a_tensor_is_kept_in_float64_and_the_tensor_stays():
    table = torch.zeros(4)

    def net(x):
        table[:2] = x[:2] / 3
        return table * 3

    x = torch.randn(4)
    value = oracle(lambda: net(x))
    assert near(value[:2], x[:2].double())
    assert table.abs().max() == 0


def test_a_tie_that_falls_otherwise_follows_eagers_choice():
    a = torch.tensor([1.0, 1.0 + 2**-24 + 2**-40], dtype=torch.float64)

    def net():
        x = a.float() * torch.tensor([1.0, 1.0])
        return torch.stack([x[0], x[1]])[x.argmax()], x.argmax()

    _, choices = float64.record_choices(net)
    value, place = oracle(net, choices)
    assert place == net()[1]
    assert value.dtype == torch.float64


def test_lstm_attention_and_batch_norm_have_float64_results():
    torch.manual_seed(0)
    x = torch.randn(2, 5, 8)
    lstm, attention, norm = nn.LSTM(8, 8, batch_first=True), nn.MultiheadAttention(8, 2, batch_first=True), nn.BatchNorm1d(5)
    for part in (lstm, attention, norm):
        part.eval()

    def net(y):
        y = lstm(y)[0]
        return norm(attention(y, y, y)[0])

    value = oracle(lambda: net(x))
    for part in (lstm, attention, norm):
        part.double()
    with torch.no_grad():
        assert near(value, net(x.double()))


def test_a_large_weight_is_never_widened_whole():
    torch.manual_seed(0)
    net, x = nn.Linear(4096, 4096), torch.randn(2, 4096)  # 128 MiB in float64: two blocks
    value = oracle(lambda: net(x))
    with torch.no_grad():
        assert near(value, x.double() @ net.weight.double().T + net.bias.double())
