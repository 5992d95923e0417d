"""Runs TorchScript (.pt) as libtorch does."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exportkit.plugins import needs
from exportkit.spec import Artifact, Network, Session
from exportkit.ways import TF32

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from exportkit.calling import TorchSession


@dataclass(frozen=True, slots=True)
class TorchScript:
    """`torch.jit.load`, then forward.

    Attributes:
        optimise: False runs the graph as written; by default the executor rewrites it after it saw two runs, as it does in serving.
    """

    formats: tuple[str, ...] = ("torchscript",)
    optimise: bool = True

    def load(self, folder: Path, artifact: Artifact, network: Network, device: str) -> "TorchSession":
        """Loads a .pt; its digest must have been checked before, as loading runs code of the file.

        Raises:
            PluginError: torch is not installed.
            RunError: the file does not load, or the device is not there.
        """
        with needs("backend torchscript"):
            import torch

            from exportkit import calling
        facts = calling.prepare(device, folder / artifact.files[0])
        try:
            module: Any = torch.jit.load(folder / artifact.files[0], map_location=device)
        except Exception as error:
            raise calling.translate(error) from error

        def run(*args: Any, **kwargs: Any) -> Any:
            with torch.jit.optimized_execution(self.optimise):  # type: ignore[attr-defined]
                return module(*args, **kwargs)

        return calling.TorchSession(run, network, device, {**facts, "optimised": self.optimise})

    def ways(self, folder: Path, artifact: Artifact, network: Network, device: str) -> "Mapping[str, Callable[[], Session]]":
        """Lists how else deployments run it on CUDA: with TF32."""
        return {} if device == "cpu" else {TF32: lambda: replace(self.load(folder, artifact, network, device), tf32=True)}


PLUGIN = TorchScript()
