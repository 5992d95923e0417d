"""Embeddings of an open vocabulary in a table of fixed size."""

import torch
from torch import nn
from torch.nn import functional

PRIME = 2**31 - 1


class HashEmbedding(nn.Module):
    """Adds several rows of one small table, each chosen by a hash of the id and weighted by the id's own importance.

    Two ids that share a row by one hash hardly share all of them, so a table of far fewer rows than ids tells most ids apart.

    Source: Svenstrup et al. 2017, Hash Embeddings for Efficient Word Representations, section 3. The hashes are universal ones of Carter
    and Wegman, ((a * id + b) mod (2^31 - 1)) mod rows, with a and b drawn at construction and kept in the state dict.

    Args:
        rows: of the shared table, at least 1.
        width: E, at least 1.
        hashes: how many rows are added, at least 1.
        importances: rows of the table of importances, at least 1.

    Shapes:
        ids: (...), int64, from 0 to 2^31 - 2. Output: (..., E), the parameters' dtype.

    Raises:
        ValueError: an argument is less than 1, or `ids` are no int64.

    The importances are not appended to the vector (the paper's second variant).
    """

    factors: torch.Tensor
    terms: torch.Tensor

    def __init__(self, rows: int, width: int, hashes: int = 2, importances: int = 65536) -> None:
        super().__init__()
        for name, value in (("rows", rows), ("width", width), ("hashes", hashes), ("importances", importances)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.rows, self.importances = rows, importances
        self.table = nn.Parameter(torch.randn(rows, width))
        self.importance = nn.Parameter(torch.randn(importances, hashes))
        self.register_buffer("factors", torch.randint(1, PRIME, (hashes,)))
        self.register_buffer("terms", torch.randint(0, PRIME, (hashes,)))
        self.prime = PRIME  # TorchScript reads numbers from the module alone

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        if ids.dtype != torch.int64:
            raise ValueError(f"ids must be int64, got {ids.dtype}")
        chosen = (ids.unsqueeze(-1) * self.factors + self.terms) % self.prime % self.rows  # (..., hashes)
        weights = functional.embedding(ids % self.importances, self.importance)
        return (weights.unsqueeze(-2) @ functional.embedding(chosen, self.table)).squeeze(-2)
