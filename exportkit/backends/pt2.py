"""Runs an exported program in torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from exportkit.results import call_in_torch
from exportkit.spec import Artifact, Network


@dataclass(frozen=True, slots=True)
class Pt2:
    formats: tuple[str, ...] = ("pt2",)

    def load(self, folder: Path, artifact: Artifact, network: Network, device: str) -> Any:
        """Loads the file; the result runs one case, arrays by input name in, arrays in output order out."""
        module = torch.export.load(folder / artifact.files[0]).module().to(device)

        def run(inputs: Mapping[str, Any]) -> list[Any]:
            return call_in_torch(module, network, inputs, device)

        return run


PLUGIN = Pt2()
