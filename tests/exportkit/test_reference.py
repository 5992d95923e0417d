"""What counts as evidence: which draws of a case are taken or drawn again; and what forward does beside its result."""

import numpy as np
import pytest
import torch
from torch import nn

from exportkit import load, reference
from exportkit.errors import ExportError
from exportkit.evidence import Sample
from exportkit.spec import Case
from tests.exportkit.fakes import live


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


class EveryTenth(nn.Module):
    calls = 0

    def forward(self, x):
        EveryTenth.calls += 1
        return x * (2 if EveryTenth.calls % 10 == 0 else 1)


def test_a_counter_that_takes_effect_later_is_waited_for():
    with pytest.raises(ExportError, match=r"its result depends on it: EveryTenth\.calls"):
        reference.survey(live(EveryTenth(), torch.ones(2, 3)))


class ByStrides(nn.Module):
    def forward(self, x):
        return x * 2 if x.is_contiguous() else x * 3


class WantsContiguous(nn.Module):
    def forward(self, x):
        return x.view(-1) * 2


def test_a_result_that_hangs_on_strides_is_refused():
    with pytest.raises(ExportError, match="memory layout"):
        reference.survey(live(ByStrides(), torch.ones(2, 3)))
    reference.survey(live(WantsContiguous(), torch.ones(2, 3)))


class Seldom(nn.Module):
    draws = 0

    def forward(self, x):
        Seldom.draws += 1  # the test's stand-in for a generator that no seed reaches
        return x * (2 if Seldom.draws % 5 == 0 else 1)


def test_what_is_random_only_now_and_then_is_refused(tmp_path):
    network = live(Seldom(), torch.ones(2, 3))
    cases = tuple(Case(f"like-{number}", {}, "like", "inside", number) for number in range(8))
    with pytest.raises(ExportError, match="two runs on the inputs of case like-"):
        reference.build(network, (), cases, tmp_path)


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
