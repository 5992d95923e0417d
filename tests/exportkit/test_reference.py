"""What eager's first runs tell of a network."""

import pytest
import torch
from fakes import live
from torch import nn

from exportkit import reference


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1)

    def forward(self, x, padding):
        return self.encoder(x, src_key_padding_mask=padding)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")  # the fused path makes one
@pytest.mark.parametrize(("lengths", "warned"), [((4, 2), True), ((4, 4), False)])
def test_eagers_fused_path_is_named_where_it_gives_other_values_than_the_plain_one(lengths, warned):
    torch.manual_seed(0)
    padding = torch.arange(4) >= torch.tensor(lengths).unsqueeze(1)
    net = live(Encoder().eval(), (torch.randn(2, 4, 8), padding))
    _, eager = reference._outputs(net, net.example, seed=1)
    codes = [finding.code for finding in reference._fast_path(net, eager)]
    assert codes == (["fast-path"] if warned else [])
    assert torch.backends.mha.get_fastpath_enabled()
