"""A language model over bytes of Python source, as in Llama 3 but small: reads a text and remembers it for `language_step`.

Trained by `python -m layers.training language` on the sources of the standard library of Python 3.11.
"""

from pathlib import Path

import torch
from safetensors.torch import load_model
from torch import nn

from layers.text import GroupedQueryAttention, RMSNorm, SwiGLU


class Block(nn.Module):
    """Attention, then a feed-forward block, each over the normalised sum of what came before."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.before_attention = RMSNorm(width)
        self.attention = GroupedQueryAttention(width, 4, 2)
        self.before_feed_forward = RMSNorm(width)
        self.feed_forward = SwiGLU(width, 8 * width // 3)

    def forward(
        self, x: torch.Tensor, mask: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, past_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        y, keys, values, _ = self.attention.step(self.before_attention(x), mask, keys, values, past_mask)
        x = x + y
        return x + self.feed_forward(self.before_feed_forward(x)), keys, values


class LanguageModel(nn.Module):
    """Gives the logits of the byte behind each byte, and what a further step needs to remember.

    Shapes:
        text: (B, T), int64, bytes. mask: (B, T), bool: false where a position is padding.
        Output: logits, (B, T, 256); keys and values of the 2 blocks, (2, B, 2, T, 16) each; and the mask, (B, T).
    """

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(256, 64)
        self.blocks = nn.ModuleList([Block(64), Block(64)])
        self.norm = RMSNorm(64)
        self.predict = nn.Linear(64, 256, bias=False)

    def forward(self, text: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        nothing = self.embed.weight.new_zeros(2, text.shape[0], 2, 0, 16)
        return self.step(text, mask, nothing, nothing, mask[:, :0])

    @torch.jit.export
    def step(
        self, text: torch.Tensor, mask: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, past_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Goes on behind the S positions of `keys` and `values`, (2, B, 2, S, 16), and `past_mask`, (B, S); returns these of S + T."""
        x = self.embed(text)
        new_keys, new_values = [], []
        for number, block in enumerate(self.blocks):
            x, all_keys, all_values = block(x, mask, keys[number], values[number], past_mask)
            new_keys.append(all_keys)
            new_values.append(all_values)
        return self.predict(self.norm(x)), torch.stack(new_keys), torch.stack(new_values), torch.cat([past_mask, mask], 1)


def model() -> LanguageModel:
    network = LanguageModel()
    load_model(network, Path(__file__).with_name("language.safetensors"))
    network.eval()
    return network


example_inputs = (
    torch.tensor([list(b"def add(self, one):\n    return "), list(b"import torch\n" + bytes(18))]),
    torch.arange(31) < torch.tensor([[31], [13]]),
)
