"""A search for the case that the planned ones do not hold."""

import re
from pathlib import Path

import pytest
from safetensors.numpy import load_file

NET = Path(__file__).parents[1] / "samples" / "nets" / "wrong_in_between.py"


@pytest.mark.slow
def test_a_search_finds_a_failing_case_and_says_how_to_replay_it(exportkit, tmp_path):
    usual = exportkit("export", NET, "--format", "onnx")
    assert usual.returncode == 0, usual.stdout + usual.stderr
    found = exportkit("export", NET, "--format", "onnx", "--search", "15", "--name", "searched")
    told = " ".join(found.stdout.split())
    assert found.returncode == 1, told
    assert not (tmp_path / "artifacts" / "searched").exists()
    case = re.search(r"--case (\w+:\d+:rows=(\d+),columns=(\d+))", told)
    assert case, told
    rows, columns = int(case[2]), int(case[3])
    assert 41 <= rows <= 129
    kept = load_file(tmp_path / "artifacts" / "searched.onnx.failing.safetensors")
    assert kept["searched/input/x"].shape == (rows, columns)
    again = exportkit("export", NET, "--format", "onnx", "--case", case[1], "--name", "again")
    assert again.returncode == 1
    assert "replayed-0" in again.stdout


@pytest.mark.slow
def test_a_check_against_the_network_searches_too(exportkit, tmp_path):
    assert exportkit("export", NET, "--format", "onnx").returncode == 0
    folder = tmp_path / "artifacts" / "wrong_in_between"
    found = exportkit("check", folder, "--against", NET, "--search", "15")
    told = " ".join(found.stdout.split())
    assert found.returncode == 1, told
    case = re.search(r"--against \S+wrong_in_between.py --case (\w+:\d+:rows=\d+,columns=\d+)", told)
    assert case, told
    assert (tmp_path / "artifacts" / "wrong_in_between.onnx.failing.safetensors").is_file()
    assert exportkit("check", folder, "--against", NET, "--case", case[1]).returncode == 1


def test_a_check_without_a_network_cannot_search(exportkit, tmp_path):
    done = exportkit("check", tmp_path, "--search", "1")
    assert done.returncode == 2
    assert "a search needs the network" in done.stderr


def test_a_case_that_cannot_be_read_is_refused(exportkit):
    done = exportkit("export", NET, "--case", "like:1:height=3")
    assert done.returncode != 0
    assert "the dimensions are rows, columns" in done.stderr
