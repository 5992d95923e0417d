"""A sequence that is cut gives what it gives in one piece."""

import pytest
import torch

from layers.sequence import MinGRU, Retention, SelectiveScan


@torch.no_grad()
@pytest.mark.parametrize(("layer", "state"), [(MinGRU(3, 4), (2, 4)), (SelectiveScan(3, 5), (2, 3, 5))])
def test_the_last_state_carries_on(layer, state):
    torch.manual_seed(0)
    x, state = torch.randn(2, 11, 3), torch.zeros(state)
    whole, last = layer(x, state)
    parts = []
    for part in x.split([1, 6, 4], 1):
        output, state = layer(part, state)
        parts.append(output)
    torch.testing.assert_close(torch.cat(parts, 1), whole)
    torch.testing.assert_close(state, last)


@torch.no_grad()
def test_retention_is_a_recurrence_of_steps_and_of_chunks():
    torch.manual_seed(0)
    layer, x = Retention(8, 2).double(), torch.randn(2, 9, 8, dtype=torch.float64)
    for sizes in ([1] * 9, [4, 1, 4]):
        state, parts, start = torch.zeros(2, 2, 4, 4, dtype=torch.float64), [], 0
        for part in x.split(sizes, 1):
            output, state = layer.step(part, state, torch.arange(start, start + part.shape[1]))
            parts.append(output)
            start += part.shape[1]
        torch.testing.assert_close(torch.cat(parts, 1), layer(x))
