"""What forward does beside its result: randomness, state and the layout of its inputs are refused by name."""

import pytest
import torch
from torch import nn

from exportkit import reference
from exportkit.errors import ExportError
from exportkit.spec import Case
from tests.exportkit.fakes import live


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
