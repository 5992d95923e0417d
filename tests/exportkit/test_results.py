"""Names of outputs, from where they stand in forward's result."""

from collections import OrderedDict
from typing import NamedTuple

import pytest
import torch

from exportkit.errors import ExportError
from exportkit.results import flatten, is_plain, plain

A, B, C = torch.ones(1), torch.ones(2), torch.ones(3)


class Pair(NamedTuple):
    mean: torch.Tensor
    spread: object


@pytest.mark.parametrize(
    ("result", "names"),
    [
        (A, ["output"]),
        ((A, B), ["output_0", "output_1"]),
        ({"logits": A, "loss": B}, ["logits", "loss"]),
        (Pair(A, B), ["mean", "spread"]),
        ({"logits": A, "pair": (B, C), "nothing": None}, ["logits", "pair_0", "pair_1"]),
        ((A, 3, True), ["output_0", "output_1", "output_2"]),
        (OrderedDict(x=A), ["x_out"]),
    ],
)
def test_names(result, names):
    assert list(flatten(result, frozenset({"x"}))[1]) == names


@pytest.mark.parametrize("result", ["text", None, (), {"a": None}, (A, "text"), object()])
def test_a_result_without_tensors_or_with_other_things_is_refused(result):
    with pytest.raises(ExportError):
        flatten(result, frozenset())


def test_named_containers_become_plain_ones():
    made = plain(Pair(A, {"x": B}))
    assert type(made) is dict
    assert made["spread"]["x"] is B
    assert not is_plain(Pair(A, B))
    assert is_plain((A, [B, {"c": C}], None, 3))
