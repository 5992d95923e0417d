"""What counts as evidence: which draws of a case are taken, and which are drawn again."""

import numpy as np
import pytest

from exportkit import reference
from exportkit.evidence import Sample


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
