"""The build context for Docker. There is no engine here: a linter reads it, and a virtual environment runs its very commands."""

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import pytest
import small_folder

from exportkit import bundle, deployment, requirements
from exportkit.errors import LoadError, PluginError

ROOT = Path(__file__).parents[3]
WHEEL = "exportkit-0.1.0-py3-none-any.whl"


def deploy(tmp_path, name="net", **settings):
    if not settings:
        (tmp_path / WHEEL).write_bytes(b"a wheel")
        settings = {"install": str(tmp_path / WHEEL)}
    plugin = deployment.configure("docker", [f"{key}={value}" for key, value in settings.items()])
    plugin.deploy(bundle.read(small_folder.write(tmp_path / "a", name), None), tmp_path / "docker")
    return tmp_path / "docker" / name


def steps(folder):
    """Yields (instruction, argument) of each line of a Dockerfile."""
    for line in (folder / "Dockerfile").read_text().splitlines():
        if line and not line.startswith("#"):
            yield tuple(line.split(" ", 1))


@pytest.mark.serve
@pytest.mark.parametrize(
    "settings", [{}, {"install": "https://example.org/exportkit.whl", "base": "registry.example.org/python:3.12@sha256:ab"}]
)
def test_a_linter_finds_nothing_and_it_is_not_root_that_serves(tmp_path, settings):
    folder = deploy(tmp_path, **settings)
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([linter, folder / "Dockerfile"], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    made = list(steps(folder))
    order = [one for one, _ in made]
    assert order.index("USER") < order.index("CMD")
    assert dict(made)["USER"].isdigit()
    assert int(dict(made)["USER"]) > 0
    assert ("RUN", "exportkit check artifacts/net") in made[order.index("USER") :]
    assert json.loads(dict(made)["CMD"])[:3] == ["exportkit", "serve", "artifacts/net"]


@pytest.mark.serve
def test_the_linter_does_find_something(tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM python\nRUN pip install numpy\n")
    linter = Path(sys.executable).with_name("hadolint")
    assert subprocess.run([linter, tmp_path / "Dockerfile"], capture_output=True, timeout=60, check=False).returncode == 1


def test_every_file_that_is_copied_is_there_and_every_requirement_is_exact(tmp_path):
    folder = deploy(tmp_path)
    for kind, argument in steps(folder):
        if kind == "COPY":
            assert all((folder / one).exists() for one in argument.split()[:-1])
    *lines, last = (folder / "requirements.txt").read_text().splitlines()
    assert last == f"./{WHEEL}"
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.+!-]+", line) for line in lines)
    pins = dict(line.split("==") for line in lines)
    assert pins["numpy"] == metadata.version("numpy")
    assert {"numpy", "onnx", "safetensors", "typer", "protobuf"} <= pins.keys()
    assert not {"torch", "onnxscript", "pytest"} & pins.keys()
    assert any(one.startswith("onnxruntime") for one in pins)


def test_an_address_stands_in_the_requirements(tmp_path):
    folder = deploy(tmp_path, install="https://example.org/exportkit.whl")
    assert (folder / "requirements.txt").read_text().splitlines()[-1] == "exportkit @ https://example.org/exportkit.whl"


def test_a_package_that_is_not_installed_here_has_no_version(monkeypatch):
    required = {"exportkit": ["numpy", "unheard-of>=1; extra == 'serve'", "unseen; extra == 'other'"]}
    monkeypatch.setattr(requirements.metadata, "requires", required.get)
    assert requirements.pinned("other-than-these") == [f"numpy=={metadata.version('numpy')}"]
    with pytest.raises(PluginError, match="needs unheard-of, which is not installed here"):
        requirements.pinned("serve")


@pytest.mark.parametrize(
    "settings",
    [
        {"install": ""},
        {"install": "exportkit"},
        {"install": "nowhere.whl"},
        {"install": "https://a b"},
        {"install": "https://a/b.whl", "base": "a\nRUN b"},
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path, settings):
    with pytest.raises(LoadError):
        deploy(tmp_path, **settings)
    assert not (tmp_path / "docker").exists()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_its_very_commands_run_in_a_fresh_virtual_environment(tmp_path):
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path, ROOT], check=True, timeout=300)
    wheel = next(tmp_path.glob("exportkit-*.whl"))
    folder = deploy(tmp_path, install=str(wheel))
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True, timeout=120)
    settings = {"PATH": f"{tmp_path / 'venv' / 'bin'}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path)}
    settings |= {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    ran = []
    for kind, argument in steps(folder):
        if kind == "RUN" and not argument.startswith("useradd"):
            done = subprocess.run(shlex.split(argument), cwd=folder, env=settings, capture_output=True, text=True, timeout=900, check=False)
            assert done.returncode == 0, f"{argument}\n{done.stdout}\n{done.stderr}"
            ran.append(argument)
    assert ran[-1] == "exportkit check artifacts/net"
    assert not list(tmp_path.glob("venv/lib/*/site-packages/torch"))
    told = serve_and_check(dict(steps(folder)), folder, settings)
    assert re.search(r"^passed in .* holds model\.onnx$", told, re.MULTILINE), told


def serve_and_check(image, folder, settings):
    """Starts what the image starts, on loopback and free ports; waits until the image's own question finds it well, and checks it."""
    with socket.socket() as one, socket.socket() as other:
        ports = []
        for sock in (one, other):
            sock.bind(("127.0.0.1", 0))
            ports.append(str(sock.getsockname()[1]))
    command = json.loads(image["CMD"])
    for option, value in zip(("--host", "--http-port", "--grpc-port"), ("127.0.0.1", *ports), strict=True):
        command[command.index(option) + 1] = value
    asked = [part.replace(":8080", f":{ports[0]}") for part in json.loads(image["HEALTHCHECK"].removeprefix("CMD "))]
    how = {"cwd": folder, "env": settings, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    server = subprocess.Popen(command, **how)
    try:
        for _ in range(120):
            if subprocess.run(asked, **how, check=False).returncode == 0:
                break
            assert server.poll() is None, server.communicate()[0]
            time.sleep(0.5)
        url = f"http://127.0.0.1:{ports[0]}"
        return subprocess.run(["exportkit", "check", "--url", url, "artifacts/net"], **how, timeout=120, check=True).stdout
    finally:
        server.terminate()
        assert "Traceback" not in server.communicate(timeout=60)[0]
