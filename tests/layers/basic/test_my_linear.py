import io

import pytest
import torch
from torch import nn

from layers.basic import MyLinear


def test_computes_relu_of_the_affine_map():
    layer, X = MyLinear(5, 3), torch.randn(2, 5)
    assert torch.equal(layer(X), torch.relu(X @ layer.weight + layer.bias))


def test_parameters_have_names_shapes_and_a_standard_normal_draw():
    torch.manual_seed(0)
    layer = MyLinear(200, 100)
    assert {name: tuple(one.shape) for name, one in layer.named_parameters()} == {"weight": (200, 100), "bias": (100,)}
    assert abs(layer.weight.detach().mean()) < 0.05
    assert abs(layer.weight.detach().std() - 1) < 0.05


def test_trains():
    torch.manual_seed(0)
    layer, X = MyLinear(4, 2), torch.randn(64, 4)
    target = torch.relu(X @ torch.randn(4, 2))
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.1)
    losses = []
    for _ in range(50):
        loss = nn.functional.mse_loss(layer(X), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


def test_can_be_initialised_anew():
    net = nn.Sequential(MyLinear(4, 4), MyLinear(4, 1))

    def constant(module):
        if isinstance(module, MyLinear):
            nn.init.constant_(module.weight, 1.0)
            nn.init.zeros_(module.bias)

    net.apply(constant)
    assert net(torch.ones(1, 4)).item() == 16


def test_a_shared_layer_is_one_tensor_and_its_gradients_add_up():
    shared = MyLinear(3, 3)
    net = nn.Sequential(shared, nn.ReLU(), shared)
    assert len(list(net.parameters())) == 2
    assert net[0].weight is net[2].weight
    shared.weight.data[0, 0] = 100
    assert net[2].weight[0, 0] == 100


def test_saves_and_loads_without_a_serializer_of_its_own():
    saved, layer, copy = io.BytesIO(), MyLinear(5, 3), MyLinear(5, 3)
    torch.save(layer.state_dict(), saved)
    saved.seek(0)
    copy.load_state_dict(torch.load(saved, weights_only=True))
    X = torch.randn(2, 5)
    assert torch.equal(layer(X), copy(X))


def test_scripts_to_the_same_function():
    layer, X = MyLinear(5, 3), torch.randn(2, 5)
    assert torch.equal(torch.jit.script(layer)(X), layer(X))


@pytest.mark.parametrize(("in_units", "units", "word"), [(0, 3, "in_units"), (3, -1, "units")])
def test_refuses_a_size_below_one(in_units, units, word):
    with pytest.raises(ValueError, match=f"{word} must be at least 1"):
        MyLinear(in_units, units)
