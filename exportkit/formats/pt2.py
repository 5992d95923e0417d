"""Writes .pt2: torch.export's own archive."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from exportkit.capture import Captures, Options, signature_of
from exportkit.spec import Artifact


def write(captures: Captures, folder: Path, options: Options) -> Artifact:  # noqa: ARG001 - every strategy's signature
    """Saves the exported program; the signature is read back from the file."""
    file = f"{captures.name}.pt2"
    torch.export.save(captures.exported(), folder / file)
    program = torch.export.load(folder / file)
    ranges = {str(symbol): str(bounds) for symbol, bounds in program.range_constraints.items()}
    return Artifact("pt2", (file,), "exported", signature_of(program, captures), (), {"ranges": ranges})


@dataclass(frozen=True, slots=True)
class Pt2:
    suffix: str = ".pt2"
    strategies: tuple[tuple[str, Any], ...] = (("exported", write),)


PLUGIN = Pt2()
