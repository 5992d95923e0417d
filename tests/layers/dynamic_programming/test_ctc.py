import math

import torch
from torch.nn import functional

from layers.dynamic_programming import CTCLoss


def test_the_loss_and_its_gradient_are_torchs_own():
    torch.manual_seed(0)
    log_probs = torch.randn(3, 12, 5, dtype=torch.float64).log_softmax(2).requires_grad_()
    targets, steps, labels = torch.randint(1, 5, (3, 4)), torch.tensor([12, 9, 3]), torch.tensor([4, 2, 3])
    step_mask, target_mask = torch.arange(12) < steps.unsqueeze(1), torch.arange(4) < labels.unsqueeze(1)
    ours = CTCLoss()(log_probs, targets, step_mask, target_mask)
    theirs = functional.ctc_loss(log_probs.transpose(0, 1), targets, steps, labels, reduction="none")
    torch.testing.assert_close(ours, theirs)
    scores = torch.randn(3, 12, 5, dtype=torch.float64)
    gradients = []
    for loss in (
        lambda one: CTCLoss()(one, targets, step_mask, target_mask),
        lambda one: functional.ctc_loss(one.transpose(0, 1), targets, steps, labels, reduction="none"),
    ):
        leaf = scores.clone().requires_grad_()
        gradients.append(torch.autograd.grad(loss(leaf.log_softmax(2))[ours.isfinite()].sum(), leaf)[0])
    torch.testing.assert_close(*gradients)


def test_a_labelling_that_does_not_fit_costs_infinity_and_has_no_gradient():
    log_probs = torch.zeros(1, 2, 3).log_softmax(2).requires_grad_()
    loss = CTCLoss()(log_probs, torch.tensor([[1, 1]]), torch.ones(1, 2, dtype=torch.bool), torch.ones(1, 2, dtype=torch.bool))
    loss.sum().backward()
    assert loss.item() == math.inf
    assert log_probs.grad.abs().max() == 0
