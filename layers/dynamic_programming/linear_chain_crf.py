"""A conditional random field over tag sequences."""

import torch
from torch import nn
from torch.nn import functional

from layers.dynamic_programming.diagonals import check_mask


class LinearChainCRF(nn.Module):
    """Scores tag sequences by emissions and transitions: their log-likelihood, the best one, the k best ones.

    Source: Lafferty et al. 2001, Conditional Random Fields, section 3; the sum over all sequences is the forward algorithm and the best
    one Viterbi's (Rabiner 1989, A Tutorial on Hidden Markov Models, sections III.A and III.B), the k best ones the list Viterbi algorithm
    (Seshadri and Sundberg 1994, section II).

    Args:
        tags: K, at least 1.
        k: how many sequences `k_best` gives, at least 1.

    Shapes:
        emissions: (B, T, K), float: the score of each tag at each step.
        tags: (B, T), int64, from 0 to K - 1, in the padding, too.
        mask: (B, T), bool: true for the first steps of each sequence, false for the padding behind. A row may be empty.
        forward: the log-likelihood of `tags`, (B,), at most 0; 0 for an empty sequence.
        decode: the best score, (B,), not normalised, and its tags, (B, T), int64, -1 in the padding.
        k_best: the k best scores in falling order, (B, k), -infinity where there are fewer sequences, and their tags, (B, k, T), -1 there
            and in the padding.
        Scores have emissions' dtype; they are computed in float32 at least.

    Raises:
        ValueError: `tags` or `k` of the constructor is less than 1, or a tensor has another shape.

    Where two sequences score the same, either may be given.
    """

    def __init__(self, tags: int, k: int = 1) -> None:
        super().__init__()
        for name, value in (("tags", tags), ("k", k)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.tags, self.k = tags, k
        self.far = -1e30  # the score of no sequence, whose gradient is a number
        self.start = nn.Parameter(torch.empty(tags).uniform_(-0.1, 0.1))
        self.end = nn.Parameter(torch.empty(tags).uniform_(-0.1, 0.1))
        self.transitions = nn.Parameter(torch.empty(tags, tags).uniform_(-0.1, 0.1))  # from row to column

    def forward(self, emissions: torch.Tensor, tags: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        scores, steps = self.prepare(emissions, mask)
        if tags.dtype != torch.int64 or tags.shape != mask.shape:
            raise ValueError(f"tags must be int64 {list(mask.shape)}, got {tags.dtype} {list(tags.shape)}")
        lengths = mask.sum(1)
        tags = functional.pad(tags, [0, 1])
        own = scores.gather(2, tags.unsqueeze(2)).squeeze(2)  # (B, T + 1)
        moves = self.transitions[tags[:, :-1], tags[:, 1:]] + own[:, 1:]  # (B, T)
        last = tags.gather(1, (lengths - 1).clamp(min=0).unsqueeze(1)).squeeze(1)
        path = self.start[tags[:, 0]] + own[:, 0] + (moves * steps[:, 1:]).sum(1) + self.end[last]
        alpha = self.start + scores[:, 0]
        for t in range(1, scores.shape[1]):
            new = torch.logsumexp(alpha.unsqueeze(2) + self.transitions, 1) + scores[:, t]
            alpha = torch.where(steps[:, t].unsqueeze(1), new, alpha)
        likelihood = path - torch.logsumexp(alpha + self.end, 1)
        return likelihood.masked_fill(lengths == 0, 0.0).to(emissions.dtype)

    @torch.jit.export
    def decode(self, emissions: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scores, steps = self.prepare(emissions, mask)
        best = self.start + scores[:, 0]  # (B, K): of the best sequence that ends in each tag
        sources = []
        for t in range(1, scores.shape[1]):
            top, source = (best.unsqueeze(2) + self.transitions).max(1)
            best = torch.where(steps[:, t].unsqueeze(1), top + scores[:, t], best)
            sources.append(source)
        total, tag = (best + self.end).max(1)
        path = [tag]
        for t in range(scores.shape[1] - 2, -1, -1):
            goes_on = steps[:, t + 1]
            tag = torch.where(goes_on, sources[t].gather(1, tag.unsqueeze(1)).squeeze(1), tag)
            path.append(tag)
        tags = torch.stack(path, 1).flip(1)[:, :-1].masked_fill(~mask, -1)
        return total.masked_fill(~steps[:, 0], 0.0).to(emissions.dtype), tags

    @torch.jit.export
    def k_best(self, emissions: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scores, steps = self.prepare(emissions, mask)
        k = self.k
        best = functional.pad((self.start + scores[:, 0]).unsqueeze(2), [0, k - 1], value=self.far)  # (B, K, k)
        sources = []
        for t in range(1, scores.shape[1]):
            ways = (best.unsqueeze(3) + self.transitions.unsqueeze(1)).flatten(1, 2)
            top, source = ways.topk(k, 1)  # (B, k, K); a source is tag * k + rank
            new = top.transpose(1, 2) + scores[:, t].unsqueeze(2)
            best = torch.where(steps[:, t].view(-1, 1, 1), new, best)
            sources.append(source.transpose(1, 2).flatten(1))
        total, place = (best + self.end.unsqueeze(1)).flatten(1).topk(k, 1)  # (B, k)
        path = [place]
        for t in range(scores.shape[1] - 2, -1, -1):
            goes_on = steps[:, t + 1].unsqueeze(1)
            place = torch.where(goes_on, sources[t].gather(1, place), place)
            path.append(place)
        only = functional.pad(torch.zeros_like(total[:, :1]), [0, k - 1], value=self.far)  # the one sequence of no steps
        total = torch.where(steps[:, :1], total, only)
        missing = total < self.far / 2
        tags = torch.stack(path, 2).flip(2)[:, :, :-1] // k
        tags = tags.masked_fill(missing.unsqueeze(2) | ~mask.unsqueeze(1), -1)
        return total.masked_fill(missing, -float("inf")).to(emissions.dtype), tags

    def prepare(self, emissions: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Checks the inputs; gives both a masked step more, so that an empty sequence has a first one."""
        if emissions.dim() != 3 or emissions.shape[2] != self.tags:
            raise ValueError(f"emissions must be (B, T, {self.tags}), got {list(emissions.shape)}")
        check_mask("mask", mask, emissions.shape[0], emissions.shape[1])
        wide = emissions.to(torch.promote_types(emissions.dtype, torch.float32))
        return functional.pad(wide, [0, 0, 0, 1]), functional.pad(mask, [0, 1])
