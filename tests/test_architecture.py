"""The walls of docs/architecture.md: a file imports only from floors below its own."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = {
    "errors": 0, "spec": 0, "messages": 1, "runtimes": 1,
    "plugins": 1, "wording": 1, "elements": 1, "exchange": 1,
    "diagnosis": 1, "golden": 1, "evidence": 2, "state": 2, "perturb": 1, "float64": 1, "decompositions": 1,
    "patches": 2,
    "simplify": 2, "translations": 2, "bodies": 2, "rounding": 2, "control_flow": 1, "screening": 5,
    "worker": 2, "files": 2, "results": 2, "signature": 2,
    "calling": 3, "starter": 3, "v2wire": 2, "v2client": 3, "casegroups": 4,
    "find": 3, "guards": 2,
    "load": 4,
    "draws": 1, "sample": 5,
    "dimensions": 6, "reach": 6, "runs": 5, "repeats": 6, "ties": 1, "decisions": 2, "baking": 1,
    "reference": 7, "capture": 7,
    "formats": 8, "backends": 8, "reporters": 8, "warm": 9,
    "graphs": 2, "placement": 3, "ways": 1, "gaps": 3, "cuts": 9, "blame": 9,
    "make": 9, "judge": 9, "manifest": 9, "store": 9,
    "attempts": 10, "doctor": 10, "intermediates": 10, "suspects": 10, "alone": 10, "repro": 10, "trial": 10, "timing": 10, "signing": 10,
    "rows": 10, "replay": 10, "bundle": 10, "requirements": 10, "tritonconfig": 11, "repository": 12, "targets": 13,
    "search": 11,
    "pipeline": 12, "published": 13, "against": 14, "remote": 14, "serving": 14, "baseline": 14, "inspection": 15,
    "summary": 16, "reports": 16, "deployment": 16, "__init__": 17, "cli": 18, "rayserve": 18, "pytest_plugin": 18,
}  # fmt: skip
LIGHT = (
    "errors",
    "runtimes",
    "spec",
    "messages",
    "plugins",
    "worker",
    "diagnosis",
    "golden",
    "store",
    "manifest",
    "attempts",
    "blame",
    "search",
    "signing",
    "pipeline",
    "published",
    "against",
    "baseline",
    "files",
    "starter",
    "casegroups",
    "inspection",
    "remote",
    "bundle",
    "requirements",
    "tritonconfig",
    "repository",
    "targets",
    "deployment",
    "exchange",
    "elements",
    "summary",
    "reports",
    "wording",
    "cli",
    "pytest_plugin",
    "__init__",
    "doctor",
)
HEAVY = {"torch", "onnx", "onnxruntime", "onnxscript", "onnx_ir", "numpy", "safetensors", "ml_dtypes"}


def imports(tree):
    """Yields (module, whether it stands at the top level) of each import, those inside functions included."""
    top = set(map(id, tree.body))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) in top
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "exportkit":
                for alias in node.names:
                    yield f"exportkit.{alias.name}", id(node) in top
            else:
                yield node.module, id(node) in top


def faults(root):
    """Lists what breaks a wall."""
    found = []
    for file in sorted([*root.glob("exportkit/**/*.py"), *root.glob("layers/**/*.py")]):
        place = file.relative_to(root)
        tree = ast.parse(file.read_text())
        if file.stem == "utils":
            found.append(f"{place}: utils names no idea")
        if place.parts[0] == "layers":
            found += [f"{place} imports {name}" for name, _ in imports(tree) if name.split(".")[0] == "exportkit"]
            continue
        part = place.parts[1].removesuffix(".py")
        if part not in FLOORS:
            found.append(f"{place} has no floor")
            continue
        for name, top in imports(tree):
            words = name.split(".")
            if words[0] == "layers":
                found.append(f"{place} imports layers")
            if top and words[0] in HEAVY and part in LIGHT:
                found.append(f"{place} imports {words[0]} at the top")
            inside = words[1:2] == [part] and part in (
                "control_flow",
                "decompositions",
                "patches",
                "screening",
                "serving",
            )  # one idea in several files
            if words[0] == "exportkit" and len(words) > 1 and words[1] in FLOORS and FLOORS[words[1]] >= FLOORS[part] and not inside:
                found.append(f"{place} (floor {FLOORS[part]}) imports {words[1]} (floor {FLOORS[words[1]]})")
    return found


def test_no_file_reaches_up():
    assert faults(ROOT) == []


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("exportkit/errors.py", "from exportkit import pipeline"),
        ("exportkit/store.py", "def f():\n    from exportkit.cli import main"),
        ("exportkit/cli.py", "import torch"),
        ("exportkit/formats/pt2.py", "from exportkit.formats import onnx"),
        ("exportkit/load.py", "import layers"),
        ("exportkit/utils.py", ""),
        ("exportkit/unheard_of.py", ""),
        ("layers/basic/one.py", "import exportkit"),
    ],
)
def test_the_walls_can_be_hit(tmp_path, file, text):
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(text)
    assert faults(tmp_path)


def test_the_command_line_imports_nothing_heavy():
    code = "import sys, exportkit.cli, exportkit; print(sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert not HEAVY & set(ast.literal_eval(done.stdout))


def test_an_export_imports_nothing_heavy_into_the_calling_process(tmp_path):
    net = ROOT / "layers" / "networks" / "my_linear_net.py"
    code = (
        f"import sys, exportkit; exportkit.export({str(net)!r}, to={str(tmp_path)!r}, formats=('torchscript',)); print(sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=200)
    assert not {"torch", "onnx", "onnxruntime", "onnxscript"} & set(ast.literal_eval(done.stdout))
