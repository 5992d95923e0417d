"""onnxruntime's real CUDA provider on a machine without a GPU: libraries by the names of CUDA's, whose kernels compute nothing.

A session opens, says where it puts each node and why, copies values to and fro, and captures graphs; only the numbers are wrong.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest

HOLLOW = Path(__file__).parent / "hollow"
PROVIDER = Path(onnxruntime.__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"
_SYMBOL = re.compile(r"U ((?:__cuda|cu)\w+)(?:@(\S+))?")
_PLACE = """
import json
from pathlib import Path
import onnx
from exportkit.backends.onnxruntime import OnnxRuntime
from exportkit.spec import Artifact, Network, Source, TensorSpec

graph = onnx.load({name!r}, load_external_data=False).graph
sides = [tuple(TensorSpec(one.name, "float32", ()) for one in side) for side in (graph.input, graph.output)]
network = Network("net", sides[0], {{}}, Source("net.py", "model", "", ""), outputs=sides[1])
session = OnnxRuntime().load(Path(), Artifact("onnx", ({name!r},), "plain"), network, "cuda")
print(json.dumps(session.facts))
"""
_HANDLES = re.compile(r"^(?:cublas|cudnn)\w*Create\w*$")  # they give a handle out


def missing():
    """Says why it cannot be built here; "" where it can."""
    if not PROVIDER.exists():
        return "this onnxruntime has no CUDA provider"
    if not shutil.which("cc") or not shutil.which("nm"):
        return "there is no C compiler"
    if b"libcudart.so.13" not in PROVIDER.read_bytes():
        return "the hollow CUDA is one of 13"
    return ""


def build(folder):
    """Compiles the libraries that the provider asks for into a folder."""
    listed = subprocess.run(["nm", "-D", "--undefined-only", PROVIDER], capture_output=True, text=True, check=True).stdout
    wanted = {"libcudnn.so.9": sorted({one.decode() for one in re.findall(rb"\0(cudnn[A-Z]\w+)\0", PROVIDER.read_bytes())})}
    for name, library in _SYMBOL.findall(listed):
        wanted.setdefault(library or "libcuda.so.1", []).append(name)
    for needed in ("libcurand.so.10", "libcufft.so.12"):
        wanted.setdefault(needed, [])
    for library, names in wanted.items():
        text = (HOLLOW / "cuda.c").read_text() if library.startswith("libcudart") else ""
        known = set(re.findall(r"(\w+)\(", text))
        lines = [_stub(name) for name in names if name not in known]
        source = folder / f"{library}.c"
        source.write_text("\n".join([text, *lines]))
        versions = folder / f"{library}.map"
        versions.write_text(f"{library} {{ global: *; }};")
        versioned = [f"-Wl,--version-script={versions}"] if library.startswith(("libcudart", "libcublas")) else []
        link = ["cc", "-shared", "-fPIC", "-w", "-o", folder / library, source, f"-Wl,-soname,{library}", *versioned]
        subprocess.run(link, check=True)


def _stub(name):
    if name == "cudnnGetVersion":
        return "unsigned long cudnnGetVersion() { return 91900; }"
    if _HANDLES.match(name):
        return f"int {name}(void **made) {{ static int one; if (made) *made = &one; return 0; }}"
    if "String" in name or "StatusName" in name or "ErrorName" in name:
        return f'const char *{name}() {{ return "hollow"; }}'
    return f"int {name}() {{ return 0; }}"


@pytest.fixture(scope="session")
def hollow_cuda(tmp_path_factory):
    """Runs a piece of Python in a process that has the hollow CUDA, and those that it starts have it, too; returns what it prints."""
    if why := missing():
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("hollow_cuda")
    build(folder)

    def run(code, cwd, status=0):
        environment = {**os.environ, "LD_LIBRARY_PATH": str(folder), "PYTHONPATH": str(HOLLOW)}
        done = subprocess.run([sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def placed_on_cuda(hollow_cuda):
    """Loads an .onnx on the hollow CUDA, and returns the facts of the session: where its nodes would run, and why."""
    return lambda file: json.loads(hollow_cuda(_PLACE.format(name=file.name), file.parent))
