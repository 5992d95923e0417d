"""The language model of `language_prefill`, step by step: takes what it remembers of the text before, and gives it back longer."""

import torch
from torch import nn
from torch.export import Dim

from layers.networks import language_prefill


class LanguageStep(nn.Module):
    """See `LanguageModel.step`; the text of a step is (B, T), as a rule one byte a row."""

    def __init__(self, network: language_prefill.LanguageModel) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, text: torch.Tensor, mask: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, past_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        return self.network.step(text, mask, keys, values, past_mask)


def model() -> nn.Module:
    return LanguageStep(language_prefill.model()).eval()


torch.manual_seed(0)
example_inputs = (
    torch.tensor([list(b"for "), list(b"if x"), list(b"a = ")]),
    torch.ones(3, 4, dtype=torch.bool),
    torch.randn(2, 3, 2, 7, 16),
    torch.randn(2, 3, 2, 7, 16),
    torch.arange(7) < torch.tensor([[7], [4], [5]]),
)
batch, time, past = Dim("batch"), Dim("time"), Dim("past")
dynamic_shapes = ({0: batch, 1: time}, {0: batch, 1: time}, {1: batch, 3: past}, {1: batch, 3: past}, {0: batch, 1: past})
