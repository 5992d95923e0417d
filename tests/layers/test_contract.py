"""What every layer promises: one row a test, each over all layers."""

import io

import pytest
import torch
from contract import cast, flat
from subjects import SUBJECTS

ALL = pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
SMOOTH = pytest.mark.parametrize("subject", [one for one in SUBJECTS if one.differentiable], ids=lambda subject: subject.name)


def every_size(subject):
    return [subject.inputs(sizes, seed) for seed, sizes in enumerate([*subject.sizes, *subject.edges])]


@ALL
def test_equals_its_oracle_at_all_sizes_zero_and_one_among_them(subject):
    layer = subject.network()
    for inputs in every_size(subject):
        double, wide = cast(layer, inputs, torch.float64)
        with torch.no_grad():
            got, expected = subject.call(double, wide), flat(subject.oracle(double, *wide))
        torch.testing.assert_close(got, [torch.as_tensor(one) for one in expected], rtol=1e-9, atol=1e-11)


@ALL
def test_scripted_and_loaded_equal_eager(subject):
    layer, archive, weights = subject.network(), io.BytesIO(), io.BytesIO()
    scripted = torch.jit.script(layer)
    torch.jit.save(scripted, archive)
    torch.save(layer.state_dict(), weights)
    archive.seek(0)
    weights.seek(0)
    fresh = subject.build().eval()
    fresh.load_state_dict(torch.load(weights, weights_only=True))
    loaded = torch.jit.load(archive)
    for inputs in every_size(subject):
        eager = subject.call(layer, inputs)
        for other in (scripted, loaded, fresh):
            torch.testing.assert_close(subject.call(other, inputs), eager, rtol=0, atol=0)


@SMOOTH
def test_gradients_are_those_of_finite_differences(subject):
    layer, inputs = cast(subject.network(), subject.inputs(subject.sizes[0]), torch.float64)
    parameters = list(layer.parameters())
    floats = [one.requires_grad_() for one in inputs if one.is_floating_point()]

    def smooth(*_):
        return tuple(one[one.isfinite()] for one in subject.call(layer, inputs) if one.is_floating_point())

    assert torch.autograd.gradcheck(smooth, (*floats, *parameters), fast_mode=True)


@SMOOTH
def test_outputs_and_gradients_are_finite_at_extreme_values(subject):
    layer = subject.network()
    for seed, sizes in enumerate(subject.sizes):
        usual = subject.inputs(sizes, seed)
        inputs = tuple((one * subject.extreme).requires_grad_() if one.is_floating_point() else one for one in usual)
        outputs = [one for one in subject.call(layer, inputs) if one.is_floating_point()]
        finite = [one.isfinite() for one in subject.call(layer, usual) if one.is_floating_point()]  # there may be fewer than k sequences
        assert all(torch.equal(one.isfinite(), other) for one, other in zip(outputs, finite, strict=True))
        leaves = [one for one in (*inputs, *layer.parameters()) if one.requires_grad]
        total = torch.stack([one[one.isfinite()].mean() for one in outputs]).sum()
        gradients = torch.autograd.grad(total, leaves, allow_unused=True)
        assert all(one.isfinite().all() for one in gradients if one is not None)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@ALL
def test_16_bit_values_lose_no_more_than_their_dtype_does(subject, dtype):
    for seed, sizes in enumerate(subject.sizes):
        layer, inputs = cast(subject.network(), subject.inputs(sizes, seed), dtype)
        double, wide = cast(layer, inputs, torch.float64)
        with torch.no_grad():
            pairs = list(zip(subject.call(layer, inputs), subject.call(double, wide), strict=True))
        for got, expected in pairs:
            if not expected.is_floating_point():
                continue  # what is chosen may hang on a rounding
            assert got.dtype in {dtype, torch.float32}
            allowed = subject.slack * torch.finfo(dtype).eps * expected[expected.isfinite()].abs().max()
            torch.testing.assert_close(got.double(), expected, rtol=0, atol=float(allowed))


@ALL
def test_wrong_shapes_raise_a_value_error_that_names_the_argument(subject):
    layer, inputs = subject.network(), subject.inputs(subject.sizes[0])
    assert subject.wrong or not inputs
    for argument, spoil in subject.wrong:
        with pytest.raises(ValueError, match=rf"^{argument} must"):
            subject.call(layer, spoil(inputs))
