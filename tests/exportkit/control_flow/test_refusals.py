"""What cannot be lifted is refused: the user's line, the construct, and how to write it instead."""

import re
import warnings

import pytest
import torch
from torch import nn
from torch.export import Dim

from exportkit.control_flow import guardless, lift
from exportkit.errors import ExportError


class SharedWrite(nn.Module):
    def forward(self, x):
        y = x * 1
        first = y[0]
        h = first
        for t in range(x.shape[0]):
            if t > 0:
                h = h * 0.5
            h += x[t]  # in the first step this is y[0]
        return h, y


class AppendedThenWritten(nn.Module):
    def forward(self, x):
        h = torch.zeros_like(x[0])
        out = []
        for t in range(x.shape[0]):
            out.append(h)
            h += x[t]
        return torch.stack(out)


class AttributeWrite(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(4))

    def forward(self, x):
        for t in range(x.shape[0]):
            self.seen += x[t]
        return self.seen * 1


class ShapeChanges(nn.Module):
    def forward(self, x):
        h = x
        for _ in range(x.shape[0]):
            h = torch.cat([h, h], 0)
        return h


class UnlikeBranches(nn.Module):
    def forward(self, x):
        h = x[0]
        for t in range(x.shape[0]):
            h = x[t] if x[t].sum() > 0 else x[: t + 1].sum()
        return h


def line_of(kind, text):
    import inspect

    lines, first = inspect.getsourcelines(kind)
    return next(first + number for number, line in enumerate(lines) if text in line)


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of its exporters
        yield


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        (SharedWrite, "h += x[t]", "in place"),
        (AppendedThenWritten, "h += x[t]", "lies in a list"),
        (AttributeWrite, "self.seen +=", "seen"),
    ],
)
def test_a_write_that_cannot_be_followed_is_refused_with_its_line(kind, text, words):
    with pytest.raises(ExportError) as caught:
        lift(kind().eval())
    assert caught.value.where == f"test_refusals.py:{line_of(kind, text)}"
    assert words in caught.value.what
    assert caught.value.todo


@pytest.mark.parametrize(("kind", "words"), [(ShapeChanges, "changes its"), (UnlikeBranches, "rank")])
def test_a_shape_that_no_runtime_can_carry_is_refused_by_name(kind, words):
    module = lift(kind().eval())
    with pytest.raises(ExportError) as caught, guardless(), torch.no_grad():
        torch.export.export(module, (torch.randn(20, 4),), dynamic_shapes=({0: Dim.AUTO},))
    assert re.fullmatch(r"test_refusals.py:\d+", caught.value.where)
    assert words in caught.value.what
