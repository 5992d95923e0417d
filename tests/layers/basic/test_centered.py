import torch

from layers.basic import CenteredLayer


def test_subtracts_the_mean_over_all_elements():
    assert CenteredLayer()(torch.tensor([1.0, 2, 3, 4, 5])).tolist() == [-2, -1, 0, 1, 2]
    assert CenteredLayer()(torch.tensor([[0.0, 2], [4, 6]])).tolist() == [[-3, -1], [1, 3]]


def test_has_no_parameters_and_lets_gradients_flow():
    X = torch.rand(3, 4, requires_grad=True)
    (CenteredLayer()(X) * torch.arange(12.0).reshape(3, 4)).sum().backward()
    assert list(CenteredLayer().parameters()) == []
    assert X.grad.abs().sum() > 0


def test_scripts_to_the_same_function():
    X = torch.randn(5, 2)
    assert torch.equal(torch.jit.script(CenteredLayer())(X), CenteredLayer()(X))
