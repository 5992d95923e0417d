"""Runs the command line as a user does."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def exportkit_in() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `exportkit ...` in a folder; stdout and stderr are captured apart."""

    def run(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("exportkit")), *map(str, words)]
        return subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=280, check=False)

    return run


@pytest.fixture
def exportkit(
    tmp_path: Path, exportkit_in: Callable[..., subprocess.CompletedProcess[str]]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `exportkit ...` in an empty folder."""
    return lambda *words: exportkit_in(tmp_path, *words)
