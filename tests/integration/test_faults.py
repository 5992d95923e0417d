"""Whole exports that are killed, or that meet a full disk: the published folder is whole, and the next command works."""

import contextlib
import multiprocessing
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from exportkit import cli, pipeline, store
from exportkit.worker import Host

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
    found = []
    for one in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):  # it ends as it is looked at, or is another user's
            if one.cwd().startswith(str(folder)):
                found.append(one.pid)
    return found


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


def begin():
    """Gives a process of the pool a warm server of its own: an import of torch for each command would take ten times as long."""
    server = Host.start(pipeline.PRELOAD)
    cli.Host.start = lambda *_: nullcontext(server)


def command(job):
    """Runs a whole command in a process of the pool; returns its exit code and what it printed."""
    folder, words = job
    done = CliRunner().invoke(cli.app, [word.format(folder) for word in words])
    return done.exit_code, f"{words}: {done.output} {done.exception or ''}"


EXPORTS = [("export", f"{{}}/net{seed}.py", "--name", "net", "--to", "{}/artifacts", "--format", "torchscript") for seed in (0, 1)]
CHECK = ("check", "{}/artifacts/net")
COMMANDS = 200


@pytest.mark.timeout(1800)
def test_two_hundred_commands_on_one_folder_eight_at_a_time_tear_nothing(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2])  # the pool's processes import this file by its name
    for seed in (0, 1):
        (tmp_path / f"net{seed}.py").write_text(NET.replace("manual_seed(0)", f"manual_seed({seed})"))
    manifest = tmp_path / "artifacts" / "net" / "manifest.json"
    made = []
    with ProcessPoolExecutor(8, mp_context=multiprocessing.get_context("forkserver"), initializer=begin) as pool:
        for words in EXPORTS:
            code, told = pool.submit(command, (tmp_path, words)).result()
            assert code == 0, told
            made.append(manifest.read_bytes())
        jobs = [(tmp_path, CHECK if number % 2 else EXPORTS[number // 2 % 2]) for number in range(COMMANDS)]
        wrong = [told for code, told in pool.map(command, jobs, chunksize=1) if code != 0]
        assert wrong == []
        assert manifest.read_bytes() in made
        for words, expected in zip(EXPORTS, made, strict=True):
            assert pool.submit(command, (tmp_path, words)).result()[0] == 0
            assert manifest.read_bytes() == expected
    assert store.verify(manifest.parent)
    assert [one.name for one in manifest.parents[1].iterdir()] == ["net"]


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
