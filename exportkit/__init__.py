"""TorchScript, torch.export and ONNX artifacts, proven to compute what eager PyTorch computes.

import exportkit
verdict = exportkit.export("net.py")
verdict.outcome          # "passed"
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exportkit.errors import ExportError, ExportKitError, LoadError, PluginError, RunError, StoreError
from exportkit.manifest import Made
from exportkit.pipeline import FORMATS, Request, Verdict
from exportkit.spec import Accept, Finding, Measurement, Report, Runtime

if TYPE_CHECKING:
    import torch

__version__ = "0.1.0"
__all__ = [
    "Accept",
    "ExportError",
    "ExportKitError",
    "Finding",
    "LoadError",
    "Made",
    "Measurement",
    "PluginError",
    "Report",
    "RunError",
    "StoreError",
    "Verdict",
    "check",
    "export",
]


def export(  # noqa: PLR0913 - one argument an option
    net: "str | Path | torch.nn.Module",
    example_inputs: Any = None,
    *,
    dynamic_shapes: Any = None,
    check_inputs: Sequence[Any] = (),
    to: str | Path = "artifacts",
    name: str | None = None,
    formats: Sequence[str] = FORMATS,
    inputs: Sequence[str] = (),
    weights: str | None = None,
    provider: str = "cpu",
    opset: int | None = None,
    target: str | None = None,
    ort_library: str | None = None,
    allow_cpu_nodes: bool = False,
    timeout: float = 300.0,
    memory: int | None = None,
    strict: bool = False,
    keep_partial: bool = False,
    golden_from_user: bool = False,
    repro: str | None = None,
    search: float = 0.0,
    keep_lifted: bool = False,
) -> Verdict:
    """Exports a network and proves its artifacts equal to eager PyTorch.

    Args:
        net: "net.py", "net.py:name", "net.py:model.method", "package.module:name", "old.pt", or a module object. An object is left as
            it is: all work is done in forks of this process.
        example_inputs: for an object: a tensor, a tuple in the order of forward's parameters, or a dict by their names.
        dynamic_shapes: for an object: which dimensions vary, as `torch.export` takes it; None: found by running eager at other sizes.
        check_inputs: for an object: further inputs that must agree.
        to: the parent of the artifact folder.
        name: the artifact's name; by default the file's, or the class's of an object.
        formats: of "torchscript", "pt2", "onnx".
        inputs: for a file: example inputs such as "x: float32[batch, 64]".
        weights: for a file: weights to load strictly.
        provider: where artifacts run, and eager with them: "cpu", "cuda" or "auto".
        opset: the ONNX opset; None for the exporter's own.
        target: "onnxruntime==1.20": refuse what that runtime cannot load.
        ort_library: the library of the network's own onnxruntime operators.
        allow_cpu_nodes: on CUDA, nodes that it has no kernel for are told, and fail nothing.
        timeout: wall seconds that one step may take.
        memory: bytes that one process may allocate; None for what the machine has.
        strict: warnings fail.
        keep_partial: publish what is proven as NAME.partial where a format fails.
        golden_from_user: store the example, too.
        repro: a folder for the node that makes ONNX fail, alone and ready to run.
        search: wall seconds to search each proven artifact for a case on which it fails; needs hypothesis.
        keep_lifted: store the source that loops and branches became, too, as NAME.lifted.py, where an artifact was made of it.

    Returns:
        The verdict; `verdict.folder` is None where nothing was published.

    Raises:
        ExportKitError: the network, the options or the folder cannot be used; nothing was changed.
    """
    from exportkit import pipeline
    from exportkit.worker import Host

    as_file = isinstance(net, str | Path)
    if as_file and example_inputs is not None:
        raise LoadError(f"{net} holds its own example_inputs", todo="Leave the argument out, or replace them with inputs=.")
    if not as_file and example_inputs is None:
        raise LoadError(f"a {type(net).__name__} comes without example inputs", todo="Call exportkit.export(model, example_inputs).")
    request = Request(
        str(net) if as_file else type(net).__name__, str(to), name, tuple(formats), tuple(inputs), weights,
        Runtime(provider, ort_library, allow_cpu_nodes), opset, target, timeout, memory, strict, keep_partial, golden_from_user,
        repro, search, keep_lifted=keep_lifted,
    )  # fmt: skip
    with Host.start(pipeline.PRELOAD, pipeline.JUDGING) as server:
        if isinstance(net, str | Path):
            return pipeline.export(request, server)
        from exportkit.load import Given

        return pipeline.export(request, server, given=Given(net, example_inputs, dynamic_shapes, check_inputs))


def check(
    folder: str | Path,
    *,
    against: str | None = None,
    provider: str = "cpu",
    ort_library: str | None = None,
    allow_cpu_nodes: bool = False,
    repro: str | None = None,
) -> Verdict:
    """Checks an artifact folder: digests, then parity of every artifact with its golden cases.

    Args:
        against: "net.py", ...: judges the artifacts against this network as it is now, too.
        provider, ort_library, allow_cpu_nodes: as in `export`.
        repro: a folder for the node that makes ONNX fail, alone and ready to run.

    Raises:
        StoreError: a file is missing, extra or changed.
        ExportKitError: the network of `against` cannot be used.
    """
    from exportkit import pipeline, published
    from exportkit.against import Against, judge
    from exportkit.worker import Host, Limits

    with Host.start(pipeline.PRELOAD if against else ()) as server:
        runtime = Runtime(provider, ort_library, allow_cpu_nodes)
        found = published.check(Path(folder), server, runtime, repro=repro)
        return judge(found, Against(against), server, runtime, Limits(), lambda _: None) if against else found
