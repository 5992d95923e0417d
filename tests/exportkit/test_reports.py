"""The files that reporters write."""

import json
from xml.etree import ElementTree as ET

import canned
import pytest
from typer.testing import CliRunner

from exportkit import cli, plugins, reports
from exportkit.errors import StoreError
from exportkit.reports import Files


def test_each_file_is_written_into_a_folder_that_is_made(tmp_path):
    files = Files(tmp_path / "new" / "r.xml", tmp_path / "r.md", tmp_path / "r.html")
    files.prepare()
    files.write([canned.summary()])
    assert ET.parse(files.junit).getroot().tag == "testsuites"
    assert "tagger" in files.markdown.read_text()
    assert "</html>" in files.html.read_text()
    assert sorted(one.name for one in tmp_path.rglob("*")) == ["new", "r.html", "r.md", "r.xml"]


def test_a_file_that_cannot_be_written_leaves_what_stood_there(tmp_path, monkeypatch):
    file = tmp_path / "r.md"
    file.write_text("old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(reports.os, "fsync", full)
    with pytest.raises(StoreError, match="the disk is full"):
        Files(markdown=file).write([canned.summary()])
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_place_that_is_no_file_is_refused_before_any_work(tmp_path):
    with pytest.raises(StoreError, match="no regular file"):
        Files(html=tmp_path).prepare()
    with pytest.raises(StoreError, match="two reports"):
        Files(tmp_path / "r", tmp_path / "r").prepare()
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="a file stands where|a part of the path is a file"):
        Files(junit=tmp_path / "file" / "r.xml").prepare()


def test_a_check_that_could_not_run_is_reported_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli.app, ["check", "nowhere.onnx", "--junit", "r.xml", "--json"])
    assert done.exit_code == 2
    assert json.loads(done.stdout)["outcome"] == "could not run"
    assert ET.parse("r.xml").getroot().get("errors") == "1"


def test_a_report_that_cannot_be_written_ends_the_command_before_it_begins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli.app, ["export", "nowhere.py", "--html", "."])
    assert done.exit_code == 2
    assert done.stderr == "error: .: is no regular file\n  Name a file with --html.\n"


@pytest.mark.parametrize("name", ["junit", "markdown", "html"])
def test_equal_summaries_give_equal_bytes(name):
    reporter = plugins.load("reporters", name)
    assert reporter.render([canned.summary()]) == reporter.render([canned.summary()])
