# LSTM bidirectional with packed sequence
import torch
from torch import nn
import torch.nn.functional as F

torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.r = nn.LSTM(4, 3, bidirectional=True, batch_first=True)

    def forward(self, x, l):
        p = nn.utils.rnn.pack_padded_sequence(x, l, batch_first=True, enforce_sorted=False)
        o, _ = self.r(p)
        return nn.utils.rnn.pad_packed_sequence(o, batch_first=True)[0]


model = Net().eval()
example_inputs = (torch.randn(2, 5, 4), torch.tensor([3, 5]))
check_inputs = [(torch.randn(2, 5, 4), torch.tensor([5, 2]))]
