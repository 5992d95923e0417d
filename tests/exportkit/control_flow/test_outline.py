"""Loops in functions that TorchScript does not take as a whole stay loops, at every length."""

import io

import pytest
import torch
from torch import nn
from torch.export import Dim

from exportkit.control_flow import arithmetic, guardless, outlined
from exportkit.errors import ExportError
from tests.exportkit.control_flow.running import Session, assert_same
from tests.samples.control_flow import unscriptable


def exported(network, *, length=5):
    with torch.no_grad(), guardless(), outlined(network) as functions:
        assert functions
        return torch.export.export(network, (torch.randn(2, length, 3),), dynamic_shapes={"x": {0: Dim.AUTO, 1: Dim.AUTO}}, strict=False)


@pytest.mark.parametrize("kind", unscriptable.NETWORKS)
def test_the_loop_alone_is_lifted(kind):
    torch.manual_seed(0)
    network = kind().eval()
    with pytest.raises(Exception, match=r"\S"):
        torch.jit.script(network)
    program = exported(network)
    for length in (5, 2, 9):
        x = torch.randn(3, length, 3)
        with torch.no_grad():
            for got, want in zip(program.module(check_guards=False)(x), network(x), strict=True):
                torch.testing.assert_close(got, want)


class Rotary(nn.Module):
    """Switches the gradient off for a part, as the embeddings of positions of many libraries do."""

    def __init__(self):
        super().__init__()
        self.before, self.after = unscriptable.Scans(), unscriptable.Scans()

    def forward(self, x):
        x = self.before(x)
        with torch.no_grad():
            places = torch.arange(x.shape[1]).unsqueeze(-1) * 0.1
        return self.after(x + places)


def test_a_layer_that_switches_the_gradient_off_loses_no_loop():
    network = Rotary().eval()
    with guardless(), outlined(network):
        program = torch.export.export(network, (torch.randn(2, 5, 3),), dynamic_shapes=({1: Dim.AUTO},), strict=False)
    x = torch.randn(2, 9, 3)
    torch.testing.assert_close(program.module(check_guards=False)(x), network(x))


def test_functions_are_left_as_they_were():
    network, code, names = unscriptable.Scans().eval(), unscriptable.scan.__code__, set(unscriptable.scan.__globals__)
    with pytest.raises(ZeroDivisionError), outlined(network):
        assert unscriptable.scan.__code__ is not code
        x = torch.randn(2, 4, 3)
        assert torch.equal(network(x), network(x))  # of a length that is a number, the loop is what it was
        _ = 1 / 0
    assert unscriptable.scan.__code__ is code
    assert set(unscriptable.scan.__globals__) == names


def test_a_tree_that_an_autograd_function_sweeps_in_place_is_right_at_every_length():
    network = unscriptable.OverTree().eval()
    program = exported(network, length=12)
    file = io.BytesIO()
    torch.export.save(arithmetic.plain(program), file)
    file.seek(0)
    loaded, session = torch.export.load(file).module(), Session(program)
    for length in (1, 2, 3, 4, 5, 8, 9, 12, 16, 17, 33):
        x = torch.randn(3, length, 3)
        want = network(x)
        assert_same(loaded(x), want)
        assert_same(session(x), want)


@pytest.mark.parametrize("kind", [unscriptable.WritesShared, unscriptable.ViewWrittenLater])
def test_a_loop_that_writes_where_another_name_reads_is_refused_with_its_line(kind):
    with pytest.raises(ExportError, match="writes in place") as caught:
        exported(kind())
    assert caught.value.where.startswith("unscriptable.py:")


def test_what_the_loop_reads_and_no_artifact_holds_is_named_with_its_line():
    with pytest.raises(ExportError, match="reads settings.at, a method") as caught:
        exported(unscriptable.Reads())
    assert caught.value.where.startswith("unscriptable.py:")
