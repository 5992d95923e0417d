"""What the tests of servers and deployments share."""

import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "devices"))

from hollow_cuda import hollow_cuda, placed_on_cuda  # noqa: F401 - fixtures

from exportkit import cli, inspection
from exportkit.worker import Host


@pytest.fixture(scope="session")
def host():
    """A fork server that has imported what checks and deploys ONNX."""
    with Host.start((*inspection.RUNNING, "exportkit.judge", "exportkit.replay", "exportkit.tritonconfig", "onnx")) as server:
        yield server


@pytest.fixture
def warm(host, monkeypatch):
    """Commands fork from it, too."""
    monkeypatch.setattr(cli.Host, "start", lambda *_: nullcontext(host))
