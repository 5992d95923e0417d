"""Tags each byte of a piece of Python source with the class of its token: a recurrence in both directions, and the best path through a CRF.

Trained by `python -m layers.training source_tagger` on the sources of the standard library of Python 3.11, labelled by its `tokenize`.
"""

from pathlib import Path

import torch
from safetensors.torch import load_model
from torch import nn

from layers.dynamic_programming import LinearChainCRF
from layers.sequence import MinimalGatedUnit


class SourceTagger(nn.Module):
    """Gives the best sequence of tags and its score.

    Shapes:
        source: (B, T), int64, bytes. mask: (B, T), bool: false for the padding behind.
        Output: the score, (B,), not normalised, and tags, (B, T), int64: 0 space, 1 name, 2 keyword, 3 number, 4 string, 5 operator,
            6 comment; -1 in the padding.
    """

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(256, 32)
        self.forward_unit = MinimalGatedUnit(32, 64)
        self.backward_unit = MinimalGatedUnit(32, 64)
        self.emit = nn.Linear(128, 7)
        self.crf = LinearChainCRF(7)

    def forward(self, source: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.crf.decode(self.emissions(source, mask), mask)

    def emissions(self, source: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Returns the score of each tag at each byte, (B, T, 7)."""
        x = self.embed(source)
        start = x.new_zeros(x.shape[0], 64)
        ahead, _ = self.forward_unit(x, mask, start)
        back, _ = self.backward_unit(x.flip(1), mask.flip(1), start)
        emissions: torch.Tensor = self.emit(torch.cat([ahead, back.flip(1)], 2))
        return emissions


def model() -> nn.Module:
    network = SourceTagger()
    load_model(network, Path(__file__).with_suffix(".safetensors"))
    return network.eval()


torch.manual_seed(0)
example_inputs = (
    torch.tensor([list(b"if x: # a\n"), list(b"y = 'b'\n  ")]),
    torch.arange(10) < torch.tensor([[10], [8]]),
)
