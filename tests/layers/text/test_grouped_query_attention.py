import torch

from layers.text import GroupedQueryAttention


@torch.no_grad()
def test_steps_of_any_length_give_what_one_call_gives():
    torch.manual_seed(0)
    layer, x, mask = GroupedQueryAttention(8, 4, 2), torch.randn(2, 7, 8), torch.tensor([[False] * 2 + [True] * 5, [True] * 6 + [False]])
    memory = (torch.zeros(2, 2, 0, 2), torch.zeros(2, 2, 0, 2), mask[:, :0])
    outputs = []
    for part, on in zip(x.split([3, 1, 1, 2], 1), mask.split([3, 1, 1, 2], 1), strict=True):
        output, *memory = layer.step(part, on, *memory)
        outputs.append(output)
    torch.testing.assert_close(torch.cat(outputs, 1), layer(x, mask))


@torch.no_grad()
def test_a_query_that_sees_nothing_gives_zeros_and_nothing_looks_ahead():
    torch.manual_seed(0)
    layer, x = GroupedQueryAttention(8, 2, 1), torch.randn(2, 5, 8)
    mask = torch.tensor([[False] * 5, [False, True, True, True, True]])
    output = layer(x, mask)
    assert output[0].abs().max() == 0
    assert output[1, 0].abs().max() == 0
    changed = x.clone()
    changed[:, 3:] = 9
    assert torch.equal(layer(changed, mask)[:, :3], output[:, :3])
