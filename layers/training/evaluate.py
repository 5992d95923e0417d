"""Measures the reference networks on held-back data, eager and as artifacts: `python -m layers.training.evaluate artifacts`.

One row a figure. The exit code is 1 where an artifact's figure differs from eager's, as it is printed: then the row says which.
"""

import argparse
import importlib
from pathlib import Path

import onnxruntime
import torch

from layers.training.fit import Figures, Run
from layers.training.weights import TRAININGS

KINDS = ("eager", ".pt", ".pt2", ".onnx")
ROW = "{:<52}" + 4 * "{:>10}" + "  {}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m layers.training.evaluate", description=__doc__)
    parser.add_argument("artifacts", type=Path, help="the folder that `exportkit export` wrote")
    folder = parser.parse_args().artifacts
    torch.set_num_threads(1)
    print(ROW.format("on held-back data", *KINDS, "decisions other than eager's"))
    same = True
    for name in TRAININGS:
        training = importlib.import_module(f"layers.training.{name}")
        with torch.no_grad():
            found = [training.measure(*(load(folder, network, kind) for network in training.NETWORKS)) for kind in KINDS]
        for figure in found[0].values:
            shown = [f"{one.values[figure]:.4f}" for one in found]
            print(ROW.format(f"{name}: {figure}", *shown, differences(found)), flush=True)
            same = same and len(set(shown)) == 1
    print("all figures are equal" if same else "figures differ")
    return 0 if same else 1


def differences(found: list[Figures]) -> str:
    """Says how many of its decisions each artifact makes otherwise than eager."""
    counts = {kind: int((one.decisions != found[0].decisions).sum()) for kind, one in zip(KINDS, found, strict=True)}
    other = ", ".join(f"{kind} {count}" for kind, count in counts.items() if count)
    return f"{other or 'none'} of {found[0].decisions.numel()}"


def load(folder: Path, network: str, kind: str) -> Run:
    """Makes a network callable: its file's model, or an artifact of it.

    Raises:
        FileNotFoundError: there is no such artifact.
    """
    file = folder / network / f"{network}{kind}"
    if kind == "eager":
        return calling(importlib.import_module(f"layers.networks.{network}").model())
    if not file.exists():
        raise FileNotFoundError(f"{file}: run exportkit export layers/networks/{network}.py first")
    if kind == ".pt":
        return calling(torch.jit.load(str(file)))
    if kind == ".pt2":
        return calling(torch.export.load(file).module())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]

    def run(*inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        feeds = {name: one.numpy() for name, one in zip(names, inputs, strict=True)}
        return tuple(torch.from_numpy(one) for one in session.run(None, feeds))

    return run


def calling(network: torch.nn.Module) -> Run:
    def run(*inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs = network(*inputs)
        return outputs if isinstance(outputs, tuple) else (outputs,)

    return run


if __name__ == "__main__":
    raise SystemExit(main())
