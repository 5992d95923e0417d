"""A decoder that attends, step by step, to what a recurrent layer of torch's encoded."""

import torch
from torch import nn


class AttendingDecoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.cell, self.out = nn.LSTM(4, 5, batch_first=True), nn.GRUCell(9, 5), nn.Linear(5, 4)

    def forward(self, x):
        memory, (h, _) = self.encoder(x)
        state, y = h[-1], torch.zeros_like(x[:, 0])
        outputs = []
        for _ in range(x.size(1)):
            weights = torch.softmax(torch.bmm(memory, state.unsqueeze(-1)).squeeze(-1), -1)
            context = torch.bmm(weights.unsqueeze(1), memory).squeeze(1)
            state = self.cell(torch.cat([y, context], -1), state)
            y = self.out(state)
            outputs.append(y)
        return torch.stack(outputs, 1)


torch.manual_seed(0)
model = AttendingDecoder().eval()
example_inputs = torch.randn(2, 5, 4)
