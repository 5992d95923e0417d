"""Prefix beam search over the output of connectionist temporal classification."""

import torch
from torch import nn
from torch.nn import functional

from layers.dynamic_programming.diagonals import check_mask


class CTCBeamSearch(nn.Module):
    """Finds probable labellings: keeps the best prefixes after each step, and sums over the alignments of each.

    Source: Graves et al. 2006, Connectionist Temporal Classification, section 3.2 (prefixes), as a beam search: Hannun et al. 2014,
    First-Pass Large Vocabulary Continuous Speech Recognition using Bi-Directional Recurrent DNNs, algorithm 1, without a language model.
    Class 0 is blank.

    Args:
        beams: W, the prefixes that are kept, at least 1.

    Shapes:
        log_probs: (B, T, C), float, logarithms of probabilities, such as log_softmax gives; C is at least 2.
        mask: (B, T), bool: true for the first steps, false for the padding behind.
        Output: the logarithms of the labellings' probabilities in falling order, (B, W), log_probs' dtype, -infinity where there are
            fewer; the labels, (B, W, T), int64, -1 behind the last; and their number, (B, W), int64.

    Raises:
        ValueError: `beams` is less than 1, or a tensor has another shape.

    A probability lacks the alignments whose prefixes fell out of the beam. Labels have no gradient.
    """

    def __init__(self, beams: int) -> None:
        super().__init__()
        if beams < 1:
            raise ValueError(f"beams must be at least 1, got {beams}")
        self.beams = beams
        self.far = -1e30  # stands for the logarithm of zero, whose differences are no numbers

    def forward(self, log_probs: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        if log_probs.dim() != 3:
            raise ValueError(f"log_probs must be (B, T, C), got {list(log_probs.shape)}")
        check_mask("mask", mask, log_probs.shape[0], log_probs.shape[1])
        batch, time = log_probs.shape[0], log_probs.shape[1]
        wide = log_probs.to(torch.promote_types(log_probs.dtype, torch.float32))
        # Of each prefix: the probability that its last step is a blank, and that it is the last label; its labels and their number.
        blank = functional.pad(wide.new_zeros(batch, 1), [0, self.beams - 1], value=self.far)  # (B, W)
        label = torch.full_like(blank, self.far)
        labels = torch.full([batch, self.beams, time], -1, device=wide.device)
        lengths = torch.zeros([batch, self.beams], dtype=torch.int64, device=wide.device)
        for t in range(time):
            new = self.step(wide[:, t], blank, label, labels, lengths)
            on = mask[:, t].unsqueeze(1)
            blank, label = torch.where(on, new[0], blank), torch.where(on, new[1], label)
            labels, lengths = torch.where(on.unsqueeze(2), new[2], labels), torch.where(on, new[3], lengths)
        total, order = self.add(blank, label).sort(1, descending=True)
        missing = total < self.far / 2
        lengths = lengths.gather(1, order).masked_fill(missing, 0)
        labels = labels.gather(1, order.unsqueeze(2).expand(-1, -1, time)).masked_fill(missing.unsqueeze(2), -1)
        return total.masked_fill(missing, -float("inf")).to(log_probs.dtype), labels, lengths

    def step(
        self, scores: torch.Tensor, blank: torch.Tensor, label: torch.Tensor, labels: torch.Tensor, lengths: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Takes one step, (B, C): each prefix stays as it is or grows by a label; the W best of all are kept."""
        classes, time = scores.shape[1], labels.shape[2]
        both = self.add(blank, label)
        last = labels.gather(2, (lengths - 1).clamp(min=0).unsqueeze(2)).squeeze(2).clamp(min=0)  # 0, a blank, for the empty prefix
        stay_blank = both + scores[:, :1]
        stay_label = (label + scores.gather(1, last)).masked_fill(last == 0, self.far)
        # Growing by the label that a prefix ends in takes a blank between the two.
        every = torch.arange(classes, device=scores.device)
        again = every == last.unsqueeze(2)  # (B, W, C)
        grown = torch.where(again, blank.unsqueeze(2), both.unsqueeze(2)) + scores.unsqueeze(1)
        grown = grown.masked_fill(every == 0, self.far)
        # A prefix that grows into another one of the beam adds to that one: [b, i, j] says whether i grows into j.
        places = torch.arange(time, device=scores.device)
        parents = labels.masked_fill(places >= (lengths - 1).unsqueeze(2), -1)  # (B, W, T)
        grows = (labels.unsqueeze(2) == parents.unsqueeze(1)).all(3) & (lengths > 0).unsqueeze(1) & (both > self.far / 2).unsqueeze(1)
        joined = grown.gather(2, last.unsqueeze(1).expand(-1, self.beams, -1)).masked_fill(~grows, self.far)  # (B, W, W)
        stay_label = torch.logsumexp(torch.cat([stay_label.unsqueeze(1), joined], 1), 1)
        gone = (grows.unsqueeze(3) & again.unsqueeze(1)).any(2)  # (B, W, C)
        grown = grown.masked_fill(gone, self.far)
        # Keep the best: first the W that stay, then the W * C that grew.
        ways = torch.cat([self.add(stay_blank, stay_label), grown.flatten(1)], 1)
        best, chosen = ways.topk(self.beams, 1)
        grew = chosen >= self.beams
        number = (chosen - self.beams).clamp(min=0)
        source = torch.where(grew, number // classes, chosen)
        new_blank = stay_blank.gather(1, source).masked_fill(grew, self.far)
        new_label = torch.where(grew, best, stay_label.gather(1, source))
        lengths = lengths.gather(1, source)
        labels = labels.gather(1, source.unsqueeze(2).expand(-1, -1, time))
        here = grew.unsqueeze(2) & (places == lengths.unsqueeze(2))
        labels = torch.where(here, (number % classes).unsqueeze(2), labels)
        return new_blank, new_label, labels, lengths + grew.long()

    def add(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Adds probabilities that are given as logarithms."""
        return torch.logsumexp(torch.stack([a, b]), 0)
