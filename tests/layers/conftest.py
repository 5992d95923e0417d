import sys
from pathlib import Path

import pytest

from exportkit import pipeline
from exportkit.worker import Host

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "devices"))

from hollow_cuda import hollow_cuda, placed_on_cuda  # noqa: F401 - fixtures


@pytest.fixture(scope="session")
def server():
    with Host.start((*pipeline.PRELOAD, *pipeline.EXPORTING, *pipeline.JUDGING)) as server:
        yield server
