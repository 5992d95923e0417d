"""Which modules of a network are lifted, and that the rest of it is left alone."""

import inspect
import math
import textwrap

import pytest
import torch
from torch import nn

from exportkit.control_flow import lifted, scripted
from exportkit.control_flow.select import _telling_place, has_control_flow, modules_to_lift
from exportkit.errors import ExportError
from tests.samples.control_flow.programs import Resumed


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(4, 4)

    def forward(self, x):
        h = torch.zeros_like(x[:, 0])
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
        return h


class Layers(nn.Module):
    """A loop over layers is none over data."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 4), Recurrent()])

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class Unscriptable(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Layers()

    def forward(self, *args, **kwargs):
        return {"result": self.inner(*args, **kwargs)}


class UnscriptableLoop(nn.Module):
    def forward(self, x, *rest):
        if textwrap.dedent("") == "x":  # a function of another file, with loops and branches of its own
            return x
        for t in range(x.shape[0]):
            x = x + rest[0] * t
        return x


class Field(nn.Module):
    def forward(self, x):
        for t in range(x.shape[0]):
            x = x - t
        return x

    @torch.jit.export
    def decode(self, x):
        for t in range(x.shape[0]):
            x = x + t
        return x


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.field = Field()

    def forward(self, x):
        return self.field.decode(x)


def test_a_module_that_calls_a_layers_other_method_is_lifted_with_that_methods_loop():
    network, x = Tagger().eval(), torch.zeros(5)
    assert list(modules_to_lift(network)) == [""]
    assert torch.equal(lifted(network)(x), network(x))


def test_a_loop_in_another_method_of_a_layer_is_control_flow():
    plain = type("Plain", (Field,), {"forward": lambda _, x: x})
    network = Tagger()
    network.field = plain()
    assert has_control_flow(network)
    assert not has_control_flow(plain())


def test_only_the_module_with_the_loop_is_lifted():
    network = Unscriptable().eval()
    assert list(modules_to_lift(network)) == ["inner.layers.1"]
    before = network.inner.layers[1]
    changed = lifted(network)
    assert hasattr(changed.inner.layers[1], "lifted_source")
    assert network.inner.layers[1] is before
    assert changed.inner.layers[0] is network.inner.layers[0]
    assert changed.state_dict().keys() == network.state_dict().keys()
    x = torch.randn(2, 5, 4)
    torch.testing.assert_close(changed(x)["result"], network(x)["result"])


def test_a_network_without_control_flow_has_nothing_to_lift():
    network = nn.Sequential(nn.Linear(4, 4), nn.LSTM(4, 4))
    assert not has_control_flow(network)
    with pytest.raises(ExportError, match="no loop or branch"):
        lifted(network)


def test_a_loop_that_torchscript_does_not_take_is_named():
    with pytest.raises(ExportError) as caught:
        lifted(UnscriptableLoop())
    assert caught.value.where.startswith("test_select.py:")
    assert "UnscriptableLoop" in caught.value.what
    assert "TorchScript" in caught.value.what


def test_the_line_named_is_the_loop_of_the_module_itself():
    assert _telling_place(UnscriptableLoop) == f"test_select.py:{inspect.getsourcelines(UnscriptableLoop)[1] + 4}"


@pytest.mark.parametrize("given", [{}, {"state": torch.ones(2, 4)}, {"scale": torch.tensor(2.0), "state": torch.ones(2, 4)}])
def test_an_input_that_may_be_none_needs_no_type(given):
    network, x = Resumed(), torch.randn(2, 5, 4)
    assert torch.equal(scripted(network)(x, **given), network(x, **given))
    torch.testing.assert_close(lifted(network)(x, **given), network(x, **given))


class Needed(nn.Module):
    """An input that is None by default, and that the source never does without."""

    def forward(self, x, key=None):
        for t in range(key.shape[0]):
            x = x + key[t]
        return x


def test_an_input_that_forward_never_does_without_stays_a_tensor():
    x, key = torch.randn(3), torch.randn(4, 3)
    torch.testing.assert_close(scripted(Needed())(x, key), Needed()(x, key))


class PowerOfFloat(nn.Module):
    """Of a rate below 1, the power is no int, and not 0."""

    def forward(self, x, rate: float):
        for _ in range(x.shape[1]):
            x = x * 2 ** math.ceil(math.log2(rate))
        return x


def test_a_power_of_two_is_taken_for_an_int_of_ints_alone():
    with pytest.raises(Exception, match="log2"):
        scripted(PowerOfFloat(), lifting=True)


class LogOfLength(nn.Module):
    def forward(self, x):
        for _ in range(int(math.log2(x.shape[0]))):
            x = x + 1
        return x


def test_a_logarithm_to_the_base_of_two_is_lifted_and_no_torchscript():
    with pytest.raises(Exception, match="log2"):  # the quotient of two logarithms, all that it has, is not exact
        scripted(LogOfLength())
    assert list(modules_to_lift(LogOfLength())) == [""]


class Unused(nn.Module):
    """`_` is a tensor, and then a number."""

    def __init__(self):
        super().__init__()
        self.encoder, self.cell = nn.GRU(4, 4, batch_first=True), nn.GRUCell(4, 4)

    def forward(self, x):
        memory, _ = self.encoder(x)
        h = memory[:, -1]
        for _ in range(x.shape[1]):
            h = self.cell(h, h)
        return h


def test_a_name_that_nobody_reads_may_be_of_two_types():
    network, x = Unused(), torch.randn(2, 5, 4)
    assert torch.equal(scripted(network)(x), network(x))
    torch.testing.assert_close(lifted(network)(x), network(x))


class Decoder(nn.Module):
    def forward(self, x):
        return x

    def decode(self, x):
        return x.flip(1) if x.sum() > 0 else x


class CallsItsLayer(nn.Module):
    """Its own source has no branch, that of the method which it calls has."""

    def __init__(self):
        super().__init__()
        self.decoder = Decoder()

    def forward(self, x, **unused):
        return self.decoder.decode(x)


def test_a_branch_that_torchscript_does_not_take_is_named_as_the_reason():
    with pytest.raises(ExportError, match="has a loop or branch, and TorchScript does not take it"):
        modules_to_lift(CallsItsLayer())
