"""TorchScript, torch.export and ONNX artifacts, proven to compute what eager PyTorch computes.

import exportkit
verdict = exportkit.export("net.py")
verdict.outcome          # "passed"
"""

from pathlib import Path
from typing import Any

from exportkit.errors import ExportError, ExportKitError, LoadError, PluginError, RunError, StoreError
from exportkit.manifest import Made
from exportkit.pipeline import Request, Verdict
from exportkit.spec import Accept, Finding, Measurement, Report

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


def export(net: Any, **options: Any) -> Verdict:
    """Exports a network and proves its artifacts; see `exportkit export --help` for what each option means.

    Args:
        net: "net.py", "net.py:name", "net.py:model.method", "package.module:name" or "old.pt".
        **options: fields of `exportkit.pipeline.Request`: to, name, formats, inputs, weights, provider, opset, runtime, timeout, ...

    Returns:
        The verdict; `verdict.folder` is None where nothing was published.

    Raises:
        ExportKitError: the network, the options or the folder cannot be used; nothing was changed.
    """
    from exportkit import pipeline
    from exportkit.worker import Host

    with Host.start(pipeline.PRELOAD, pipeline.JUDGING) as server:
        return pipeline.export(Request(str(net), **options), server)


def check(folder: str | Path, *, provider: str = "cpu") -> Verdict:
    """Checks an artifact folder: digests, then parity of every artifact with its golden cases.

    Raises:
        StoreError: a file is missing, extra or changed.
    """
    from exportkit import pipeline
    from exportkit.worker import Host

    with Host.start(()) as server:
        return pipeline.check(Path(folder), server, provider)
