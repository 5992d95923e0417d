import subprocess
import sys
from pathlib import Path

import pytest
import torch

from layers.networks import centered_net, digit_strings, language_prefill, language_step, my_linear_net, source_tagger
from layers.training import digit_alignment, digits, language
from layers.training import digit_strings as digit_strings_training
from layers.training import source_tagger as source_tagger_training
from layers.training.evaluate import load

NETWORKS = Path(centered_net.__file__).parent
TRAINED = ("digits", "source_tagger", "language_prefill", "language_step", "digit_strings", "digit_alignment")


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


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # small steps: two threads wait for each other
    yield
    torch.set_num_threads(before)


@torch.no_grad()
def measured(training):
    """Returns the figures of a trained network in eager, in the order of its training's `measure`."""
    return list(training.measure(*(load(Path(), network, "eager") for network in training.NETWORKS)).values.values())


def test_digits_are_recognised():
    assert measured(digits)[0] > 98


def test_tokens_are_tagged():
    assert measured(source_tagger_training)[0] > 97


def test_source_is_predicted_as_well_in_steps_as_at_once():
    at_once, in_steps = measured(language)
    assert at_once < 6
    assert abs(at_once - in_steps) < 1e-4


def test_strings_are_read():
    assert measured(digit_strings_training)[0] < 4


def test_aligned_digits_are_recognised():
    assert measured(digit_alignment)[0] > 95


def test_weights_are_small_and_load_from_any_folder(tmp_path):
    assert all(file.stat().st_size < 1_500_000 for file in NETWORKS.glob("*.safetensors"))
    files = [str(NETWORKS / f"{name}.py") for name in TRAINED]
    code = f"import runpy; [runpy.run_path(file)['model']() for file in {files}]"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=100)


@torch.no_grad()
def test_prefill_and_step_agree_in_any_cut_of_a_padded_text():
    prefill, step = language_prefill.model(), language_step.model()
    text, mask = language_prefill.example_inputs
    logits, keys, values, _ = prefill(text, mask)
    for cut in (1, 7, 30):
        first, *cache = prefill(text[:, :cut], mask[:, :cut])
        then, *whole = step(text[:, cut:], mask[:, cut:], *cache)
        torch.testing.assert_close(torch.cat([first, then], 1)[mask], logits[mask], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(whole[:2], [keys, values], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_padding_changes_no_answer():
    network = source_tagger.model()
    source, mask = source_tagger.example_inputs
    alone = network(source[1:, :8], mask[1:, :8])[1]
    other = network(torch.where(mask, source, 7), mask)[1]
    assert other[1, :8].tolist() == alone[0].tolist()
    assert (other[1, 8:] == -1).all()
    reader = digit_strings.model()
    images, on = digit_strings.example_inputs
    alone = reader(images[1:, :, :8], on[1:, :8])
    other = reader(torch.where(on.unsqueeze(1), images, 9.0), on)
    assert other[1][1, :4].tolist() == alone[1][0].tolist()
    torch.testing.assert_close(other[0][1:], alone[0])
