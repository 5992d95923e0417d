"""Good .pt and .pt2 files are read; hostile ones fall to the reading alone: nothing of them runs."""

import sys
from functools import cache
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

import good_torch
import hostile_torch

from exportkit.errors import RejectedError
from exportkit.screening.torchfiles import screen_pt2, screen_torchscript

content = cache(lambda name: good_torch.GOOD[name]())


def read(file):
    return (screen_torchscript if file.suffix == ".pt" else screen_pt2)(file)


@pytest.mark.parametrize("name", good_torch.GOOD)
def test_a_good_file_is_read(tmp_path, name):
    assert read(good_torch.write(name, tmp_path, content)).facts["records"] > 5


@pytest.mark.parametrize("name", hostile_torch.HOSTILE)
def test_a_hostile_file_is_rejected_in_one_line_and_nothing_of_it_runs(tmp_path, monkeypatch, name):
    file = hostile_torch.write(name, tmp_path, content)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RejectedError) as caught:
        read(file)
    assert caught.value.what.isprintable()
    assert hostile_torch.HOSTILE[name].word in caught.value.what
    assert list(tmp_path.iterdir()) == [file]


def test_a_string_that_looks_like_brackets_is_no_code(tmp_path):
    line = b"  def f(self) -> str:\n    return '((((" + b"(" * 300 + b"'\n"
    file = tmp_path / "m.pt"
    file.write_bytes(hostile_torch.replaced(content("scripted_pt"), ".py", lambda old: old + line))
    read(file)


def test_a_range_of_an_expression_is_read(tmp_path):
    ranges = {"7 - s47": {"min_val": 0, "max_val": 7}}
    file = tmp_path / "m.pt2"
    file.write_bytes(hostile_torch.edited(content("sized_pt2"), lambda told: told["range_constraints"].update(ranges)))
    read(file)
