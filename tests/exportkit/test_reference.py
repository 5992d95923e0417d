"""What counts as evidence: which draws of a case are taken, and which are drawn again."""

import copy
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from far_device import FAR, far_device
from torch import nn

from exportkit import golden, load, reference
from exportkit.errors import RunError
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


class Attends(nn.Module):
    """Layers, a buffer, something made on the input's device, a table kept for the next call, and equal values in order."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(8, 8)
        self.norm = nn.BatchNorm1d(8)
        self.register_buffer("scale", torch.full((8,), 1.5))
        self.kept = {}

    def forward(self, x):
        rows = x.shape[0]
        if rows not in self.kept:
            self.kept[rows] = torch.arange(rows, dtype=x.dtype, device=x.device)[:, None]
        h = torch.tanh(self.norm(self.inner(x))) * self.scale + self.kept[rows]
        values, places = h.topk(3, -1)
        return torch.nn.functional.softmax(values, -1), places


def build(module, folder, device):
    folder.mkdir()
    torch.manual_seed(0)
    network = load.hold_object(load.Given(module.eval(), torch.randn(4, 8)), None)[1]
    cases = (Case("example", {}, "example", "inside", 0), *(Case(f"like-{n}", {}, "like", "inside", n) for n in range(2)))
    told = reference.build(network, (), cases, folder, device)
    readers = map(golden.Reader, sorted(folder.iterdir()))
    return told, {key: one.read(key) for one in readers for key in one.names()}


def test_eager_and_its_oracle_run_on_the_device_that_was_asked_for_and_on_the_same_cases(tmp_path):
    torch.manual_seed(1)
    module = Attends()
    here, expected = build(copy.deepcopy(module), tmp_path / "here", "cpu")
    with far_device():
        there, found = build(module, tmp_path / "there", FAR)
    assert (here.device, there.device, there.findings) == ("cpu", FAR, here.findings)
    assert there.digest == here.digest  # of a run on the CPU, to compare with other copies of the network
    assert expected.keys() == found.keys()  # a device that computes as the CPU does gives what the CPU gives
    assert [key for key, value in expected.items() if not np.array_equal(value, found[key])] == []
    assert all(one.device.type == "cpu" for one in [*module.parameters(), *module.buffers()])


class StaysBehind(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(8, 8)
        self.table = torch.ones(8)  # no buffer: no .to() moves it

    def forward(self, x):
        return self.inner(x) + self.table


def test_a_network_that_eager_cannot_run_there_is_told_with_its_line_and_left_as_it_was(tmp_path):
    network = StaysBehind()
    with far_device(), pytest.raises(RunError, match="Expected all tensors to be on the same device") as told:
        build(network, tmp_path / "there", FAR)
    line = next(n for n, text in enumerate(Path(__file__).read_text().splitlines(), 1) if "return self.inner(x) + self.table" in text)
    assert told.value.where == f"test_reference.py:{line}"
    assert network.inner.weight.device.type == "cpu"


class Watches(nn.Module):
    seen: ClassVar = []

    def forward(self, x):
        Watches.seen.append((float(x.abs().sum()) == 0, x.device.type))
        return x * 2


def test_what_lies_outside_the_domain_runs_on_the_cpu_as_an_index_out_of_range_would_end_all_on_cuda(tmp_path):
    network = load.hold_object(load.Given(Watches().eval(), torch.ones(2, 3)), None)[1]
    cases = (Case("example", {}, "example", "inside", 0), Case("zeros", {}, "zeros", "outside", 1), Case("like", {}, "like", "inside", 2))
    Watches.seen.clear()
    with far_device():
        told = reference.build(network, (), cases, tmp_path, FAR)
    assert [case.name for case in told.trial.cases] == ["example", "zeros", "like"]
    assert {device for zeros, device in Watches.seen if zeros} == {"cpu"}
    assert FAR in {device for zeros, device in Watches.seen if not zeros}


class Elsewhere(nn.Module):
    def forward(self, x):
        return x if x.device.type == "cpu" else x + 1


def test_what_a_network_computes_elsewhere_is_what_counts_there(tmp_path):
    with far_device():
        _, arrays = build(Elsewhere(), tmp_path / "there", FAR)
    assert np.array_equal(arrays["example/eager/output"], arrays["example/input/x"] + 1)
