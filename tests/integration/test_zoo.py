"""Real networks, judged at sizes and on values that the export never saw, by code that shares nothing with exportkit.

Those of third-party packages run where the packages are installed, and skip with the package's name elsewhere.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.zoo
ZOO = Path(__file__).parents[1] / "samples" / "zoo"
JUDGE = """
import importlib.util, json, sys, warnings
warnings.simplefilter("ignore")
import numpy as np, onnxruntime, torch
from torch.utils import _pytree as pytree
spec = importlib.util.spec_from_file_location("net", sys.argv[1])
net = importlib.util.module_from_spec(spec)
spec.loader.exec_module(net)
session = onnxruntime.InferenceSession(sys.argv[2], providers=["CPUExecutionProvider"])
tensors = lambda tree: [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
bad = []
for seed, alt in ((0, False), (1, False), (2, True), (3, True)):
    example = net.make_inputs(seed, alt)
    args, kwargs = ((), example) if isinstance(example, dict) else (example if isinstance(example, tuple) else (example,), {})
    with torch.no_grad():
        want = tensors(net.model.eval()(*args, **kwargs))
    got = session.run(None, {i.name: t.numpy() for i, t in zip(session.get_inputs(), tensors((args, kwargs)), strict=True)})
    for place, (g, w) in enumerate(zip(got, want, strict=True)):
        if g.shape != tuple(w.shape) or not np.allclose(g, w.numpy(), rtol=1e-3, atol=1e-4, equal_nan=True):
            bad.append(f"output {place} at seed {seed}, alt {alt}")
print(json.dumps(bad))
"""


@pytest.mark.parametrize("name", sorted(file.stem for file in ZOO.glob("*.py")))
def test_real_network(exportkit, tmp_path, name):
    net = ZOO / f"{name}.py"
    done = exportkit("export", net, "--format", "onnx")
    if "cannot import" in done.stderr:
        pytest.skip(done.stderr.strip().splitlines()[-2])
    assert done.returncode == 0, done.stdout + done.stderr
    artifact = tmp_path / "artifacts" / name / f"{name}.onnx"
    judged = subprocess.run([sys.executable, "-c", JUDGE, net, artifact], capture_output=True, text=True, timeout=250, check=False)
    assert judged.returncode == 0, judged.stderr
    assert json.loads(judged.stdout.splitlines()[-1]) == []
