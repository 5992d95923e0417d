"""Writes .pt2: torch.export's own archive."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from exportkit.capture import Captures, Options, refuse_other_beyond, refuse_other_side, signature_of, unguarded
from exportkit.reach import reach
from exportkit.spec import Artifact


def write_exported(captures: Captures, folder: Path, options: Options) -> Artifact:  # noqa: ARG001 - every strategy's signature
    return _save(captures.exported(), captures, folder, "exported")


def write_lifted(captures: Captures, folder: Path, options: Options) -> Artifact:  # noqa: ARG001
    """Keeps loops and branches."""
    return _save(captures.lifted(), captures, folder, "lifted")


def write_simplified(captures: Captures, folder: Path, options: Options) -> Artifact:  # noqa: ARG001
    """Spells operators out: one that a package of the network registers does not load where the package is not installed."""
    program = captures.simplified()
    refuse_other_beyond(captures, unguarded(program))
    return _save(program, captures, folder, "simplified")


def _save(program: ExportedProgram, captures: Captures, folder: Path, strategy: str) -> Artifact:
    """Saves the program; the signature is read back from the file."""
    refuse_other_side(captures, program)
    file = f"{captures.name}.pt2"
    torch.export.save(program, folder / file)
    loaded = torch.export.load(folder / file)
    facts = {
        "operators": _operators(loaded),
        "ranges": {str(symbol): str(bounds) for symbol, bounds in loaded.range_constraints.items()},
        "reach": reach(captures.live, captures.symbols, loaded),
    }
    return Artifact("pt2", (file,), strategy, signature_of(loaded, captures), (), facts)


def _operators(program: ExportedProgram) -> dict[str, int]:
    """Counts the operators, those in the bodies of loops and branches too."""
    bodies = [one for one in program.graph_module.modules() if isinstance(one, torch.fx.GraphModule)]
    counts = Counter(_name(node.target) for body in bodies for node in body.graph.nodes if node.op == "call_function")
    return dict(sorted(counts.items()))


def _name(target: Any) -> str:
    if isinstance(target, torch._ops.OperatorBase):  # noqa: SLF001 - the class of all operators; torch has no public name for it
        return str(target)
    return str(getattr(target, "__name__", type(target).__name__))  # a function's str holds its address


@dataclass(frozen=True, slots=True)
class Pt2:
    suffix: str = ".pt2"
    strategies: tuple[tuple[str, Any], ...] = (
        ("exported", write_exported),
        ("lifted", write_lifted),
        ("simplified", write_simplified),
    )


PLUGIN = Pt2()
