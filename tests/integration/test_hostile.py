"""Networks that try to fool, crash or outwait an exporter: each is exported right or refused by name."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "samples" / "hostile"
EXPECTATIONS = json.loads((FOLDER / "expectations.json").read_text())

# Judges artifacts in a process of its own, with code that shares nothing with exportkit.
JUDGE = """
import copy, importlib.util, json, pathlib, sys, warnings
warnings.simplefilter("ignore")
import numpy as np, onnxruntime, torch
from torch.utils import _pytree as pytree
net, folder = sys.argv[1:]
def load():
    spec = importlib.util.spec_from_file_location("net", net)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(False)
    return module
tensors = lambda tree: [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
bad = []
for file in sorted(pathlib.Path(folder).rglob("*")):
    if file.suffix not in (".pt", ".pt2", ".onnx"):
        continue
    for args in [load().example_inputs, *getattr(load(), "check_inputs", [])]:
        args = args if isinstance(args, tuple) else (args,)
        want = [t.detach() for t in tensors(load().model.eval()(*copy.deepcopy(args)))]
        if file.suffix == ".onnx":
            session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
            got = session.run(None, {i.name: t.detach().numpy() for i, t in zip(session.get_inputs(), tensors(args))})
        else:
            run = torch.jit.load(str(file)) if file.suffix == ".pt" else torch.export.load(str(file)).module()
            got = [t.detach() for t in tensors(run(*copy.deepcopy(args)))]
        for g, w in zip(got, want, strict=True):
            g, w = np.asarray(g), w.numpy()
            same = g.shape == w.shape and g.dtype == w.dtype
            if not same or not np.allclose(g, w, rtol=1e-4, atol=1e-5, equal_nan=True):
                bad.append(f"{file.name} differs")
sys.__stdout__.write("\\n" + json.dumps(bad) + "\\n")
"""


@pytest.mark.parametrize("name", sorted(EXPECTATIONS))
def test_hostile_network(exportkit, tmp_path, name):
    expected = EXPECTATIONS[name]
    done = exportkit("export", FOLDER / name, "--timeout", "40")
    text = done.stdout + done.stderr
    made = sorted(tmp_path.rglob("*.onnx")) + sorted(tmp_path.rglob("*.pt*"))
    assert done.returncode in (0, 1, 2), text
    assert "Traceback (most recent call last)" not in text
    if expected["expect"] == "ok":
        assert done.returncode == 0, text
    if expected["expect"] == "refuse":
        assert done.returncode != 0, text
    assert bool(made) == (done.returncode == 0), text
    if done.returncode or expected["expect"] == "warn":
        told = text.replace(name, "").replace(Path(name).stem, "").lower()
        assert not expected["names"] or any(word.lower() in told for word in expected["names"]), text
    if made:
        judged = subprocess.run(
            [sys.executable, "-c", JUDGE, FOLDER / name, tmp_path], capture_output=True, text=True, timeout=200, check=False
        )
        assert json.loads(judged.stdout.splitlines()[-1]) == [], judged.stderr
