"""Runs the command line as a user does."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SAMPLES = Path(__file__).parents[1] / "samples"


@pytest.fixture
def exportkit(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `exportkit ...` in an empty folder; stdout and stderr are captured apart."""

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("exportkit")), *map(str, words)]
        return subprocess.run(command, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=280, check=False)

    return run
