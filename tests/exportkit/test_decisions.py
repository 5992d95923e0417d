"""The lines at which forward decides by a tensor's value, as eager runs and as a trace holds them."""

import inspect

import pytest
import torch
from torch import nn

from exportkit.decisions import Decisions, one_sided, watched, ways


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("flag", torch.tensor(True))

    def forward(self, x):
        if x.shape[0] > 100:  # a size
            x = x + 1
        if self.flag:  # no input leads to it
            x = x * 2
        if (x > 1e6).any():
            raise ValueError("too large")
        assert (x < 1e6).all()
        if x.sum() > 0:
            x = x - 1
        return x * float(x.max())


FIRST = inspect.getsourcelines(Net)[1]
SIZES, DECIDES, READS = (f"test_decisions.py:{FIRST + line}" for line in (6, 13, 15))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_trace_names_the_lines_that_hang_on_values_alone():
    seen = Decisions()
    with watched(seen), torch.no_grad():
        torch.jit.trace(Net(), torch.ones(2, 3), check_trace=False)
    assert seen.answers == {DECIDES: [True]}
    assert seen.numbers == {READS}
    assert seen.sizes == {SIZES}


def test_a_tensor_as_text_decides_nothing():
    seen = Decisions()
    with watched(seen):
        text = f"{torch.tensor([1.0, 2.5])} {torch.tensor(3.0)!r}"
    assert "2.5" in text
    assert seen == Decisions()


def test_ways_tell_whether_runs_decided_otherwise():
    runs = []
    for x in (torch.ones(2, 3), torch.full((2, 3), 2.0), -torch.ones(2, 3)):
        runs.append(Decisions())
        with watched(runs[-1]):
            Net()(x)
    assert ways(runs[:2])[DECIDES] == 1
    assert ways(runs)[DECIDES] == 2


def test_torch_is_left_as_it_was():
    before = {name: getattr(torch.Tensor, name) for name in ("__bool__", "item", "numpy", "__array__")}
    with pytest.raises(ZeroDivisionError), watched(Decisions()):
        _ = 1 / 0
    assert {name: getattr(torch.Tensor, name) for name in before} == before


def test_a_line_that_had_one_answer_alone_is_one_sided():
    first = Decisions({"net.py:3": [True, True], "net.py:5": [True, False], "masks.py:7": [True]}, packages={"masks.py:7"})
    runs = [first, Decisions({"net.py:3": [True], "net.py:9": [False]})]
    assert one_sided(runs) == ("net.py:3", "net.py:9")
