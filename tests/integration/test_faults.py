"""Whole exports that are killed, or that meet a full disk: the published folder is whole, and the next command works."""

import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest

from exportkit import store

pytestmark = pytest.mark.slow

NET = """import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 600), nn.ReLU(), nn.Linear(600, 4))  # 160 KiB
example_inputs = torch.randn(2, 64)
"""


def start(folder, *words):
    code = f"import sys; sys.argv = ['exportkit', *{list(map(str, words))!r}]; from exportkit.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process):
    out, err = process.communicate(timeout=280)
    return process.returncode, out + err


def working_in(folder):
    """Lists the processes that work in a folder."""
    return [one.pid for one in psutil.process_iter(["cwd"]) if (one.info["cwd"] or "").startswith(str(folder))]


STEPS = (
    "loading",
    "running forward",
    "computing references",
    "exporting torchscript",
    "exporting pt2",
    "exporting onnx",
    "loading net.pt",
    "checking net.onnx",
)


def test_a_kill_at_any_step_leaves_the_old_set_and_no_process(tmp_path):
    (tmp_path / "net.py").write_text(NET)
    code, told = finish(start(tmp_path, "export", "net.py"))
    assert code == 0, told
    folder = tmp_path / "artifacts" / "net"
    before = (folder / "manifest.json").read_bytes()
    (tmp_path / "net.py").write_text(NET.replace("manual_seed(0)", "manual_seed(1)"))
    for step in STEPS:
        process = start(tmp_path, "export", "net.py")
        for line in process.stderr:
            if f": {step}" in line:
                break
        else:
            raise AssertionError(f"no step is called {step}")
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert store.verify(folder)
        assert (folder / "manifest.json").read_bytes() == before
        until = time.monotonic() + 20
        while working_in(tmp_path) and time.monotonic() < until:
            time.sleep(0.1)  # the kernel ends them one after another
        assert working_in(tmp_path) == []
    code, told = finish(start(tmp_path, "export", "net.py"))
    assert code == 0, told
    assert (folder / "manifest.json").read_bytes() != before
    assert [one.name for one in folder.parent.iterdir()] == ["net"]


@pytest.fixture
def disk(tmp_path):
    """Mounts file systems of a few KiB, where that is permitted."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(kib):
        subprocess.run(["umount", folder], capture_output=True, check=False)
        return (
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", folder], capture_output=True, check=False).returncode
            == 0
        )

    if not shutil.which("mount") or not mount(64):
        pytest.skip("no tmpfs can be mounted here; tests/exportkit/test_faults.py injects ENOSPC")
    yield folder, mount
    subprocess.run(["umount", folder], check=False)


@pytest.mark.parametrize("kib", [64, 256, 400, 600])  # it takes some 700
def test_a_disk_that_fills_up_in_any_writer_is_said_and_nothing_is_left(tmp_path, disk, kib):
    folder, mount = disk
    assert mount(kib)
    (tmp_path / "net.py").write_text(NET)
    code, told = finish(start(tmp_path, "export", "net.py", "--to", folder))
    assert "Traceback" not in told
    assert code == 2, told
    assert "the disk is full" in told
    assert list(folder.iterdir()) == []
