"""docs/deploy.md is followed as a reader does: its commands run, and print what the page shows."""

import re
import shlex
from contextlib import nullcontext
from pathlib import Path

import pytest
import small_folder
import test_remote
from typer.testing import CliRunner

from exportkit import cli, inspection, plugins
from exportkit.worker import Host

PAGE = (Path(__file__).parents[2] / "docs" / "deploy.md").read_text()
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SERVER = "http://127.0.0.1:8000"


def plain(text):
    return re.sub(r"\d+\.\d+ s", "# s", text).strip()


def test_the_commands_of_the_page_print_what_it_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small_folder.write(Path("artifacts"))
    Path("exportkit-0.1.0-py3-none-any.whl").touch()
    with test_remote.serving() as (url, _), Host.start(inspection.RUNNING) as host:
        monkeypatch.setattr(cli.Host, "start", lambda *_: nullcontext(host))  # one for all commands
        for block in BLOCK.findall(PAGE):
            command, _, shown = block.removeprefix("$ ").partition("\n")
            name, *words = shlex.split(command.replace(SERVER, url))
            assert name == "exportkit"
            done = CliRunner().invoke(cli.app, words, catch_exceptions=False)
            assert done.exit_code == 0, done.stderr
            parts = [plain(part) for part in shown.split("...\n")]
            assert re.fullmatch(".*".join(map(re.escape, parts)), plain(done.stdout), re.DOTALL), done.stdout


@pytest.mark.parametrize("target", plugins.names("targets"))
def test_the_page_tells_of_each_target_and_how_to_roll_back(target):
    assert f"exportkit deploy {target} artifacts/net" in PAGE
    assert all(part.count("**Roll back.**") == 1 for part in PAGE.split("\n## ")[1:] if not part.startswith("How fast"))
