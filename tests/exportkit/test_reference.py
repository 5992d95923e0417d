"""What forward does beside its result is seen, wherever it keeps it."""

import pytest
import torch
from torch import nn

from exportkit import reference
from exportkit.errors import ExportError
from tests.exportkit.fakes import live


class EveryTenth(nn.Module):
    calls = 0

    def forward(self, x):
        EveryTenth.calls += 1
        return x * (2 if EveryTenth.calls % 10 == 0 else 1)


def test_a_counter_that_takes_effect_later_is_waited_for():
    with pytest.raises(ExportError, match=r"its result depends on it: EveryTenth\.calls"):
        reference.survey(live(EveryTenth(), torch.ones(2, 3)))
