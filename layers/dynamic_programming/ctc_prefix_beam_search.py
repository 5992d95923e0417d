"""Decoding of connectionist temporal classification."""

import torch
from torch import nn
from torch.nn import functional

from layers.dynamic_programming.diagonals import check_mask


class CTCPrefixBeamSearch(nn.Module):
    """Finds labellings of high probability, each summed over its alignments to the steps.

    The search keeps, after each step, the `beam` labellings of the highest probability so far. What ends in a blank and what ends in a
    label are summed apart: only behind a blank does the same label begin anew. The best path alone (the best class of each step) may miss
    a labelling whose probability is spread over many alignments.

    Source: Graves and Jaitly 2014, Towards End-to-End Speech Recognition with Recurrent Neural Networks, section 3.2; Hannun et al. 2014,
    First-Pass Large Vocabulary Continuous Speech Recognition using Bi-Directional Recurrent DNNs, algorithm 1, without its language model.
    Class 0 is blank.

    Args:
        beam: K, how many labellings are kept and given, at least 1.

    Shapes:
        log_probs: (B, T, C), float, logarithms of probabilities, such as log_softmax gives; finite.
        step_mask: (B, T), bool: true for the first steps, false for the padding behind.
        Output: the labellings' log-probabilities in falling order, (B, K), log_probs' dtype, computed in float32 at least, -infinity where
            there are fewer labellings; and the labels, (B, K, T), int64, from 1 to C - 1, -1 behind the last.

    Raises:
        ValueError: `beam` is less than 1, or a tensor has another shape.

    A probability misses the alignments whose beginning fell out of the beam: it is exact where the beam holds all labellings, and a lower
    bound elsewhere. Of two that score the same, the one that grew from the better labelling is kept. A step compares all pairs of the
    beam: memory for B * K * (K * T + C) numbers at a time.
    """

    def __init__(self, beam: int) -> None:
        super().__init__()
        if beam < 1:
            raise ValueError(f"beam must be at least 1, got {beam}")
        self.beam = beam
        self.far = -1e30  # stands for the logarithm of zero, whose gradients are no numbers

    def forward(self, log_probs: torch.Tensor, step_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if log_probs.dim() != 3:
            raise ValueError(f"log_probs must be (B, T, C), got {list(log_probs.shape)}")
        check_mask("step_mask", step_mask, log_probs.shape[0], log_probs.shape[1])
        batch, time, classes, beam = log_probs.shape[0], log_probs.shape[1], log_probs.shape[2], self.beam
        wide = log_probs.to(torch.promote_types(log_probs.dtype, torch.float32))
        labels = torch.zeros([batch, beam, time], dtype=torch.int64, device=wide.device)  # 0 behind the last label
        lengths = torch.zeros([batch, beam], dtype=torch.int64, device=wide.device)
        blank = functional.pad(wide.new_zeros([batch, 1]), [0, beam - 1], value=self.far)  # (B, K): of what ends in a blank
        label = torch.full_like(blank, self.far)  # of what ends in a label
        places = torch.arange(time, device=wide.device)
        for t in range(time):
            step, on = wide[:, t], step_mask[:, t].unsqueeze(1)
            total = self.add(blank, label)
            is_last = places == lengths.unsqueeze(2) - 1
            last = (labels * is_last).sum(2)  # (B, K), 0 of the empty labelling
            # What is kept as it is: a blank more, or the last label once more.
            kept_blank = total + step[:, :1]
            kept_label = (label + step.gather(1, last)).masked_fill(last == 0, self.far)
            # What grows by a label, (B, K, C): a label follows itself behind a blank alone.
            again = last.unsqueeze(2) == torch.arange(classes, device=wide.device)
            grown = torch.where(again, blank.unsqueeze(2), total.unsqueeze(2)) + step.unsqueeze(1)
            # Where the i-th labelling grows into the j-th one, which is kept: the j-th takes over its probability.
            alive = (total > self.far / 2) & (lengths > 0)
            same = (labels.unsqueeze(2) == labels.masked_fill(is_last, 0).unsqueeze(1)).all(3) & alive.unsqueeze(1)  # (B, K, K)
            into = last.unsqueeze(1) * same  # 0 where there is none
            moved = grown.gather(2, into).masked_fill(~same, self.far)
            kept_label = torch.logsumexp(torch.cat([kept_label.unsqueeze(1), moved], 1), 1)
            grown = grown.scatter(2, into, self.far)
            # The best of all; what is kept stands in the place of the blank.
            ways = torch.cat([self.add(kept_blank, kept_label).unsqueeze(2), grown[:, :, 1:]], 2)
            # Sorted, as topk leaves open which of equals it takes: every runtime would take another.
            best, chosen = ways.flatten(1).sort(stable=True, dim=1, descending=True)
            best, chosen = best[:, :beam], chosen[:, :beam]
            source = chosen // classes
            new = chosen - source * classes
            grows = new > 0
            new_lengths = lengths.gather(1, source)
            new_labels = labels.gather(1, source.unsqueeze(2).expand(batch, beam, time))
            new_labels = new_labels + new.unsqueeze(2) * (places == new_lengths.unsqueeze(2))
            new_blank = kept_blank.gather(1, source).masked_fill(grows, self.far)
            new_label = torch.where(grows, best, kept_label.gather(1, source))
            labels = torch.where(on.unsqueeze(2), new_labels, labels)
            lengths = torch.where(on, new_lengths + grows.long(), lengths)
            blank, label = torch.where(on, new_blank, blank), torch.where(on, new_label, label)
        total = self.add(blank, label)
        missing = total < self.far / 2
        labels = labels.masked_fill((labels == 0) | missing.unsqueeze(2), -1)
        return total.masked_fill(missing, -float("inf")).to(log_probs.dtype), labels

    def add(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """Adds probabilities that are given by their logarithms."""
        return torch.logsumexp(torch.stack([one, other]), 0)
