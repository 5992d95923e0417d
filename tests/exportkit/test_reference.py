"""What counts as evidence: which draws of a case are taken, and which are drawn again."""

import numpy as np
import pytest
import torch
from torch import nn

from exportkit import load, reference
from exportkit.evidence import Sample
from exportkit.spec import Case


def sample(errors, shape=(8, 4)):
    """A case whose runs under half an ulp are off by these shares of the result."""
    oracle = np.random.default_rng(0).standard_normal(shape)
    return Sample("case", oracle.astype(np.float32), oracle, tuple((oracle * (1 + error)).astype(np.float32) for error in errors))


@pytest.mark.parametrize("errors", [(1e-7, 1e-7, 2e-7, 0.3), (1e-7, 1e-7, 1e-7, 2e-3), (0.2, 0.3, 0.2, 0.1)])
def test_a_run_that_chose_otherwise_asks_for_another_draw(errors):
    assert reference._unstable(sample(errors), narrow=False)


@pytest.mark.parametrize("errors", [(1e-7, 2e-7, 1e-7, 1e-7), (2e-3, 1e-3, 4e-3, 5e-4)])
def test_an_ill_conditioned_network_is_not_drawn_until_it_is_lucky(errors):
    assert not reference._unstable(sample(errors), narrow=False)


def test_what_is_smaller_than_the_type_holds_is_no_choice():
    oracle = np.array([3e-46, -7e-46, 1e-46])
    nothing, something = np.zeros(3, np.float32), np.full(3, 1.4e-45, np.float32)
    assert not reference._unstable(Sample("case", nothing, oracle, (nothing, nothing, something)), narrow=False)


@pytest.mark.parametrize(("changed", "unstable"), [([True, True, True], True), ([True, False, True], False), ([], False)])
def test_a_result_of_integers_that_changes_as_a_whole_asks_for_another_draw(changed, unstable):
    value = np.arange(len(changed))
    assert reference._unstable(Sample("case", value, value, (), np.array(changed, bool)), narrow=False) == unstable


class Strict(nn.Module):
    def forward(self, x):
        if x.shape[1] != 3:
            raise ValueError("three columns")
        return x + 1


def test_a_check_on_which_eager_raises_is_told(tmp_path):
    network = load.hold_object(load.Given(Strict(), torch.ones(2, 3), check_inputs=[torch.ones(2, 4)]), None)[1]
    evidence = reference.build(
        network, (), (Case("example", {}, "example", "inside", 0), Case("check-0", {}, "check", "inside", 0)), tmp_path
    )
    assert [finding.text for finding in evidence.findings] == [
        "check-0 of check_inputs proves only that an artifact refuses it, too: eager raises ValueError: three columns"
    ]
