"""Judges artifacts against the network's own file, with code that shares nothing with exportkit's."""

import copy
import importlib.util
import warnings
from pathlib import Path


def judge(net, folder):
    """Lists the artifacts in a folder that differ from what eager gives for the example and `check_inputs`."""
    import numpy as np
    import onnxruntime
    import torch
    from torch.utils import _pytree as pytree

    warnings.simplefilter("ignore")

    def load():
        spec = importlib.util.spec_from_file_location("net", net)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        torch.set_default_dtype(torch.float32)
        torch.set_grad_enabled(False)
        return module

    def tensors(tree):
        return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]

    bad = []
    for file in sorted(path for path in Path(folder).rglob("*") if path.suffix in {".pt", ".pt2", ".onnx"}):
        for given in [load().example_inputs, *getattr(load(), "check_inputs", [])]:
            args = given if isinstance(given, tuple) else (given,)
            wanted = [t.detach() for t in tensors(load().model.eval()(*copy.deepcopy(args)))]
            if file.suffix == ".onnx":
                session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
                feeds = {one.name: t.detach().numpy() for one, t in zip(session.get_inputs(), tensors(args), strict=True)}
                found = session.run(None, feeds)
            else:
                run = torch.jit.load(str(file)) if file.suffix == ".pt" else torch.export.load(str(file)).module()
                found = [t.detach() for t in tensors(run(*copy.deepcopy(args)))]
            for got, want in zip(map(np.asarray, found), (t.numpy() for t in wanted), strict=True):
                same = got.shape == want.shape and got.dtype == want.dtype
                if not same or not np.allclose(got, want, rtol=1e-4, atol=1e-5, equal_nan=True):
                    bad.append(f"{file.name} differs")
    return bad
