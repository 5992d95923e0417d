"""Runs torch.export's archive (.pt2)."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from exportkit.plugins import needs
from exportkit.spec import Artifact, Network, Session
from exportkit.ways import TF32

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from exportkit.calling import TorchSession


@dataclass(frozen=True, slots=True)
class Pt2:
    """`torch.export.load`, then the program's own module, which checks the guards that the export wrote."""

    formats: tuple[str, ...] = ("pt2",)

    def load(self, folder: Path, artifact: Artifact, network: Network, device: str) -> "TorchSession":
        """Loads a .pt2; its digest must have been checked before, as loading runs code of the file.

        Raises:
            PluginError: torch is not installed.
            RunError: the file does not load, or the device is not there.
        """
        with needs("backend pt2"):
            import torch
            from torch.export.passes import move_to_device_pass

            from exportkit import calling
        facts = calling.prepare(device, folder / artifact.files[0])
        try:
            program = torch.export.load(folder / artifact.files[0])
            if device != "cpu":
                program = move_to_device_pass(program, device)
            module = program.module()
        except Exception as error:
            raise calling.translate(error) from error
        return calling.TorchSession(module, network, device, facts)

    def ways(self, folder: Path, artifact: Artifact, network: Network, device: str) -> "Mapping[str, Callable[[], Session]]":
        """Lists how else deployments run it on CUDA: with TF32."""
        return {} if device == "cpu" else {TF32: lambda: replace(self.load(folder, artifact, network, device), tf32=True)}


PLUGIN = Pt2()
