import collections
import math

import torch
from torch.nn import functional

from layers.dynamic_programming import CTCLoss, CTCPrefixBeamSearch


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


def plain_search(row, beam):
    """Hannun et al. 2014, algorithm 1, with plain probabilities and labellings as keys."""
    kept = {(): (1.0, 0.0)}  # of what ends in a blank, and of what ends in a label
    for step in row:
        new = collections.defaultdict(lambda: [0.0, 0.0])
        for labels, (blank, label) in kept.items():
            new[labels][0] += (blank + label) * step[0]
            for one in range(1, len(step)):
                repeats = labels[-1:] == (one,)
                new[(*labels, one)][1] += (blank if repeats else blank + label) * step[one]
                if repeats:
                    new[labels][1] += label * step[one]
        kept = dict(sorted(new.items(), key=lambda item: -sum(item[1]))[:beam])
    return {labels: math.log(sum(both)) for labels, both in kept.items()}


def test_a_narrow_beam_keeps_what_the_search_over_plain_prefixes_keeps():
    torch.manual_seed(0)
    log_probs = (3 * torch.randn(6, 20, 4, dtype=torch.float64)).log_softmax(2)
    lengths = torch.tensor([20, 20, 20, 20, 13, 1])
    for beam in (1, 2, 5, 12):
        scores, labels = CTCPrefixBeamSearch(beam)(log_probs, torch.arange(20) < lengths.unsqueeze(1))
        for row, length, own, found in zip(log_probs.exp().tolist(), lengths.tolist(), scores.tolist(), labels.tolist(), strict=True):
            expected = plain_search(row[:length], beam)
            got = {tuple(one for one in line if one > 0): score for line, score in zip(found, own, strict=True) if score > -math.inf}
            assert got.keys() == expected.keys()
            assert all(math.isclose(score, expected[key], rel_tol=1e-9) for key, score in got.items())


def test_a_beam_that_holds_all_gives_the_losses_own_probability():
    torch.manual_seed(1)
    log_probs, mask = torch.randn(2, 6, 3).log_softmax(2), torch.ones(2, 6, dtype=torch.bool)
    scores, labels = CTCPrefixBeamSearch(41)(log_probs, mask)
    for rank in range(41):
        losses = CTCLoss()(log_probs, labels[:, rank].clamp(min=0), mask, labels[:, rank] > 0)
        torch.testing.assert_close(-losses, scores[:, rank])
    torch.testing.assert_close(scores.logsumexp(1), torch.zeros(2), atol=1e-5, rtol=0)


def test_the_best_labelling_may_be_another_than_that_of_the_best_path():
    log_probs = torch.tensor([[[0.6, 0.4], [0.6, 0.4]]]).log()  # two blanks 0.36; one label 0.64, over three alignments
    scores, labels = CTCPrefixBeamSearch(2)(log_probs, torch.ones(1, 2, dtype=torch.bool))
    assert labels.tolist() == [[[1, -1], [-1, -1]]]
    torch.testing.assert_close(scores.exp(), torch.tensor([[0.64, 0.36]]))
