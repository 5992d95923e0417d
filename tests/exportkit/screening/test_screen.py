"""Malformed .onnx files fall to the reading alone: no runtime sees them, and nothing outside of their folder is opened."""

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import good_onnx
import hostile_onnx

from exportkit.errors import RejectedError
from exportkit.screening.screen import screen_onnx


@pytest.mark.parametrize("name", hostile_onnx.READING)
def test_a_malformed_file_is_rejected_in_one_line(tmp_path, name):
    file = good_onnx.write(hostile_onnx.READING[name], tmp_path / name)
    with pytest.raises(RejectedError) as caught:
        screen_onnx(file)
    assert caught.value.what.isprintable()
    assert caught.value.what


@pytest.mark.parametrize("name", good_onnx.GOOD)
def test_a_good_file_is_read(tmp_path, name):
    screened = screen_onnx(good_onnx.write(good_onnx.GOOD[name], tmp_path / name))
    assert screened.outputs


def test_damaged_files_are_rejected_in_words_or_read(tmp_path):
    """Flips, drops and repeats bytes: whatever comes of it, nothing but a rejection is raised."""
    draw = random.Random(0)
    seeds = [
        good_onnx.write(good_onnx.GOOD[name], tmp_path / name).read_bytes()
        for name in ("convolution", "loop", "functions", "sparse_weights")
    ]
    rejected = 0
    for _ in range(400):
        data = bytearray(draw.choice(seeds))
        place = draw.randrange(len(data))
        if draw.random() < 0.6:
            data[place] ^= 1 << draw.randrange(8)
        else:
            data[place : place + draw.choice((0, 1, 4))] = data[place : place + draw.choice((0, 1, 4))]
        file = tmp_path / "damaged.onnx"
        file.write_bytes(data)
        try:
            screen_onnx(file)
        except RejectedError:
            rejected += 1
    assert rejected > 200


def test_the_signature_names_every_dimension(tmp_path):
    screened = screen_onnx(good_onnx.write(good_onnx.sum_of_sizes, tmp_path))
    assert [spec.shape for spec in screened.inputs] == [("batch", 1), ("batch", "past"), ("batch", "past + 1")]


def test_stored_tensors_are_no_inputs(tmp_path):
    screened = screen_onnx(good_onnx.write(good_onnx.initializers_are_inputs, tmp_path))
    assert [spec.name for spec in screened.inputs] == ["x"]
