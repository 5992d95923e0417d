"""Runs the command line: as a user does, or from a process that is warm already, which costs a third."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from exportkit import cli, inspection, pipeline
from exportkit.worker import Host

sys.path.insert(0, str(Path(__file__).parent))


@dataclass
class Done:
    """How a command ended, as `subprocess.run` tells it."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture(scope="session")
def warm() -> Iterator[Host]:
    """The fork server of `exportkit export a.py b.py ...`: torch, the exporters and the runtimes are imported once."""
    with Host.start((*pipeline.PRELOAD, *pipeline.EXPORTING, *pipeline.JUDGING)) as server:
        yield server


def _forking(server: Host) -> Callable[..., Done]:
    """Runs `exportkit ...` in a folder; every command forks from one server."""

    def run(folder: Path, *words: object) -> Done:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.setattr(cli.Host, "start", lambda *_: nullcontext(server))
            done = CliRunner().invoke(cli.app, list(map(str, words)), catch_exceptions=False)
        return Done(done.exit_code, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def exportkit_in(warm: Host) -> Callable[..., Done]:
    """Runs `exportkit ...` in a folder, forked from the warm server."""
    return _forking(warm)


@pytest.fixture(scope="session")
def exportkit_light_in() -> Iterator[Callable[..., Done]]:
    """Runs `exportkit check FILE` in a folder: its server holds no torch, which built for CUDA takes more than a small file may use."""
    with Host.start((*inspection.RUNNING, *inspection.READING)) as server:
        yield _forking(server)


@pytest.fixture
def exportkit(tmp_path: Path, exportkit_in: Callable[..., Done]) -> Callable[..., Done]:
    """Runs `exportkit ...` in an empty folder."""
    return lambda *words: exportkit_in(tmp_path, *words)


@pytest.fixture
def exportkit_alone(tmp_path: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Runs `exportkit ...` in an empty folder and in a process of its own."""

    def run(*words: object, **options: Any) -> "subprocess.CompletedProcess[str]":
        command = [str(Path(sys.executable).with_name("exportkit")), *map(str, words)]
        return subprocess.run(
            command, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=280, check=False, **options
        )

    return run
