import torch

from layers.networks import centered_net, my_linear_net


def test_centered_net_puts_out_a_mean_of_zero_to_rounding():
    out = centered_net.model(torch.rand(4, 8))
    assert out.shape == (4, 128)
    assert abs(out.mean().item()) < 1e-6


def test_my_linear_net_gives_one_number_a_row_and_can_be_reached_by_name():
    assert my_linear_net.model(torch.rand(2, 64)).shape == (2, 1)
    assert set(my_linear_net.model.state_dict()) == {"0.weight", "0.bias", "1.weight", "1.bias"}


def test_examples_fit():
    for net in (centered_net, my_linear_net):
        assert net.model(net.example_inputs).shape[0] == net.example_inputs.shape[0]
