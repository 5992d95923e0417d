"""The loss of connectionist temporal classification."""

import torch
from torch import nn
from torch.nn import functional

from layers.dynamic_programming.diagonals import check_mask


class CTCLoss(nn.Module):
    """The negative log-probability of a labelling, summed over all its alignments to the steps.

    Source: Graves et al. 2006, Connectionist Temporal Classification, section 4.1, the forward variables, in logarithms. Class 0 is blank.
    `nn.CTCLoss` computes the same; torch.export and ONNX have no operator for it.

    Shapes:
        log_probs: (B, T, C), float, logarithms of probabilities, such as log_softmax gives.
        targets: (B, L), int64, from 1 to C - 1; what stands in the padding is not read, but is from 0 to C - 1.
        step_mask, target_mask: (B, T) and (B, L), bool: true for the first steps and labels, false for the padding behind.
        Output: (B,), log_probs' dtype; computed in float32 at least. Infinite, with a gradient of zero, where the labelling does not fit
            into the steps.

    Raises:
        ValueError: a tensor has another shape.

    The losses are neither averaged nor divided by the targets' lengths.
    """

    def __init__(self) -> None:
        super().__init__()
        self.far = -1e30  # stands for the logarithm of zero, whose gradients are no numbers

    def forward(self, log_probs: torch.Tensor, targets: torch.Tensor, step_mask: torch.Tensor, target_mask: torch.Tensor) -> torch.Tensor:
        if log_probs.dim() != 3:
            raise ValueError(f"log_probs must be (B, T, C), got {list(log_probs.shape)}")
        if targets.dim() != 2 or targets.shape[0] != log_probs.shape[0]:
            raise ValueError(f"targets must be ({log_probs.shape[0]}, L), got {list(targets.shape)}")
        check_mask("step_mask", step_mask, log_probs.shape[0], log_probs.shape[1])
        check_mask("target_mask", target_mask, targets.shape[0], targets.shape[1])
        batch, time, states = log_probs.shape[0], log_probs.shape[1], 2 * targets.shape[1] + 1
        wide = log_probs.to(torch.promote_types(log_probs.dtype, torch.float32))
        # Labels with a blank before, between and behind them: (B, 2 * L + 1).
        labels = functional.pad(torch.stack([torch.zeros_like(targets), targets], 2).reshape(batch, states - 1), [0, 1])
        own = wide.gather(2, labels.unsqueeze(1).expand(batch, time, states))  # (B, T, 2 * L + 1)
        # A label may follow the one before without a blank between them if it is another.
        skips = (labels != 0) & (labels != functional.pad(labels, [2, 0])[:, :states])
        alpha = functional.pad(own.new_zeros(batch, 1), [0, states - 1], value=self.far)
        for t in range(time):
            one = functional.pad(alpha, [1, 0], value=self.far)[:, :states]
            two = functional.pad(alpha, [2, 0], value=self.far)[:, :states].masked_fill(~skips, self.far)
            new = torch.logsumexp(torch.stack([alpha, one, two]), 0) + own[:, t]
            alpha = torch.where(step_mask[:, t].unsqueeze(1), new, alpha)
        last = 2 * target_mask.sum(1, keepdim=True)  # the blank behind the last label
        ends = torch.cat([alpha.gather(1, last), alpha.gather(1, (last - 1).clamp(min=0)).masked_fill(last == 0, self.far)], 1)
        total = torch.logsumexp(ends, 1)
        return (-total).masked_fill(total < self.far / 2, float("inf")).to(log_probs.dtype)
