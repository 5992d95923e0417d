"""What is captured of torch's own modules computes what eager does."""

import pytest
import torch
from torch import nn
from torch._decomp import decomposition_table
from torch.export import Dim

from exportkit.control_flow import lift
from exportkit.patches import as_eager_computes

pytestmark = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")  # eager's fused path makes one


class Encoder(nn.Module):
    def __init__(self, norm):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, nn.LayerNorm(8) if norm else None)

    def forward(self, x, padding):
        return self.encoder(x, src_key_padding_mask=padding)


def padding_of(*lengths, size):
    return torch.arange(size) >= torch.tensor(lengths).unsqueeze(1)


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("kind", ["bool", "float"])
def test_padded_places_of_a_transformer_encoder_are_zeroed_where_eager_does(norm, kind):
    torch.manual_seed(0)
    net = Encoder(norm).eval()
    masks = [
        padding_of(4, 2, 3, size=4),
        padding_of(1, 5, 7, size=7),
        torch.tensor([[True, False, False], [False, True, False]]),  # padding on the left: eager leaves it
        padding_of(1, size=1),
    ]
    masks = [mask if kind == "bool" else torch.zeros(mask.shape).masked_fill(mask, -torch.inf) for mask in masks]
    inputs = [(torch.randn(*mask.shape, 8), mask) for mask in masks]
    with torch.no_grad():
        with as_eager_computes():
            program = torch.export.export(net, inputs[0], dynamic_shapes=({0: Dim.AUTO, 1: Dim.AUTO},) * 2)
        for x, padding in inputs:
            assert torch.allclose(program.module(check_guards=False)(x, padding), net(x, padding), atol=1e-5)


def test_a_causal_mask_stays_a_mask():
    torch.manual_seed(0)
    net = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    causal = nn.Transformer.generate_square_subsequent_mask(5)
    x = torch.randn(2, 5, 8)
    with torch.no_grad():
        with as_eager_computes():
            program = torch.export.export(net, (x, causal))
        for mask in (causal, torch.zeros(5, 5)):
            assert torch.allclose(program.module()(x, mask), net(x, mask), atol=1e-5)


class Data(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(3.0))

    def forward(self, x):
        return x.data * self.scale.data


@pytest.mark.parametrize("traced", [False, True])
def test_the_data_of_an_input_is_no_constant(traced):
    with as_eager_computes(), torch.no_grad():
        net, x = Data(), torch.ones(2)
        captured = torch.jit.trace(net, x) if traced else torch.export.export(net, (x,), strict=False).module()
    assert captured(torch.full((2,), 5.0)).tolist() == [15.0, 15.0]


class Density(nn.Module):
    def forward(self, x):
        return torch.distributions.Normal(x.mean(1), x.std(1)).log_prob(x[:, 0])


def test_distributions_are_captured(monkeypatch):
    monkeypatch.setattr(torch.distributions.Distribution, "_validate_args", True)  # torch.compile turns it off for the whole process
    x = torch.randn(3, 4)
    with as_eager_computes():
        program = torch.export.export(Density(), (x,))
    torch.testing.assert_close(program.module()(x), Density()(x))
    with pytest.raises(ValueError, match="to satisfy the constraint"):
        torch.distributions.Normal(0.0, torch.tensor(-1.0))


def test_distances_of_symbolic_sizes_are_no_branch_on_them():
    class Net(nn.Module):
        def forward(self, x, y):
            return torch.cdist(x, y), torch.cdist(x, y, 1.0), torch.cdist(x, y, compute_mode="use_mm_for_euclid_dist")

    shapes = ({0: Dim.DYNAMIC}, {0: Dim.DYNAMIC})
    with as_eager_computes():
        program = torch.export.export(Net(), (torch.randn(5, 3), torch.randn(6, 3)), dynamic_shapes=shapes)
    for sizes in ((5, 6), (40, 3), (3, 40), (1, 90)):
        inputs = [torch.randn(size, 3) for size in sizes]
        for got, want in zip(program.module()(*inputs), Net()(*inputs), strict=True):
            assert torch.allclose(got, want, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("offset", [0, 1, -2])
def test_the_places_of_a_triangle_are_those_of_its_own_size(offset):
    class Net(nn.Module):
        def forward(self, x):
            rows, columns = torch.triu_indices(x.shape[1], x.shape[1], offset)
            return x[:, rows] * x[:, columns], torch.tril_indices(x.shape[1], 7, offset, dtype=torch.int32)

    with as_eager_computes():
        program = torch.export.export(Net(), (torch.randn(2, 5),), dynamic_shapes=({1: Dim.DYNAMIC},))
    for size in (5, 8, 3):
        x = torch.randn(2, size)
        for got, want in zip(program.module()(x), Net()(x), strict=True):
            assert got.dtype == want.dtype
            assert torch.equal(got, want)


@pytest.mark.filterwarnings("ignore:Since version 1.3.0, affine_grid behavior")
def test_steps_are_as_many_as_the_size():
    class Net(nn.Module):
        def forward(self, x):
            theta = torch.tensor([[[1.0, 0.1, 0.2], [0.0, 0.9, -0.1]]]).expand(x.shape[0], 2, 3)
            grids = [nn.functional.affine_grid(theta, [*x.shape], align_corners=corners) for corners in (True, False)]
            return torch.linspace(-1, 1, x.shape[2]), torch.linspace(3, 0.5, steps=x.shape[3] - 1, dtype=torch.float64), *grids

    with as_eager_computes():
        program = torch.export.export(
            Net(), (torch.randn(2, 1, 5, 6),), dynamic_shapes=({0: Dim.AUTO, 2: Dim.AUTO, 3: Dim.AUTO},), strict=False
        )
    for sizes in ((5, 6), (8, 9), (9, 4), (1, 3)):
        x = torch.randn(3, 1, *sizes)
        for got, want in zip(program.module(check_guards=False)(x), Net()(x), strict=True):
            torch.testing.assert_close(got, want)


@pytest.mark.filterwarnings("ignore:where received a uint8 condition")
@pytest.mark.parametrize("call", [lambda x, m: torch.where(m, x, -x), lambda x, m: x.where(m, 0.5), lambda _, m: torch.where(m)[0]])
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8])
def test_where_chooses_by_bytes_as_by_booleans(call, dtype):
    class Net(nn.Module):
        def forward(self, x, mask):
            return call(x, mask)

    x, mask = torch.randn(3, 4), torch.tensor([0, 1, 1, 0]).expand(3, 4).to(dtype)
    with as_eager_computes():
        program = torch.export.export(Net(), (x, mask))
    assert torch.equal(program.module()(x, mask), Net()(x, mask))


class Masked(nn.Module):
    def forward(self, x, mask):
        h = torch.zeros_like(x[:, 0])
        for t in range(x.shape[1]):
            h = torch.where(mask[:, t], h + x[:, t], h)
        return h


@pytest.mark.filterwarnings("ignore:where received a uint8 condition")
def test_a_lifted_loop_chooses_by_bytes():
    x, mask = torch.randn(2, 5), torch.randint(0, 2, (2, 5), dtype=torch.uint8)
    with as_eager_computes():
        program = torch.export.export(lift(Masked()), (x, mask), dynamic_shapes=({1: Dim.AUTO}, {1: Dim.AUTO}))
    for size in (5, 9):
        x, mask = torch.randn(2, size), torch.randint(0, 2, (2, size), dtype=torch.uint8)
        torch.testing.assert_close(program.module()(x, mask), Masked()(x, mask))


def test_torch_is_left_as_it_was():
    forward, data, lstm = nn.TransformerEncoder.forward, torch.Tensor.data, decomposition_table[torch.ops.aten.lstm.input]
    with pytest.raises(ZeroDivisionError), as_eager_computes():
        _ = 1 / 0
    assert nn.TransformerEncoder.forward is forward
    assert torch.Tensor.data is data
    assert decomposition_table[torch.ops.aten.lstm.input] is lstm
    assert torch.backends.mha.get_fastpath_enabled()


class Recurrent(nn.Module):
    def __init__(self, kind, **options):
        super().__init__()
        self.layer = kind(3, 4, 2, bidirectional=True, **options)

    def forward(self, x):
        return self.layer(x)


@pytest.mark.filterwarnings("ignore:The tensor attributes self.layer._flat_weights")
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (nn.LSTM, {"batch_first": True}),
        (nn.LSTM, {"proj_size": 2}),
        (nn.GRU, {"batch_first": True}),
        (nn.RNN, {}),
        (nn.RNN, {"nonlinearity": "relu"}),
    ],
)
def test_recurrent_layers_keep_their_length_free(kind, options):
    torch.manual_seed(0)
    net, x = Recurrent(kind, **options).eval(), torch.randn(2, 7, 3)
    with torch.no_grad():
        with as_eager_computes():
            program = torch.export.export(net, (torch.randn(3, 5, 3),), dynamic_shapes=({0: Dim.AUTO, 1: Dim.AUTO},))
        torch.testing.assert_close(program.module(check_guards=False)(x), net(x))
    given = program.graph.find_nodes(op="placeholder")[-1].meta["val"]
    assert [type(size) for size in given.shape] == [torch.SymInt, torch.SymInt, int]
