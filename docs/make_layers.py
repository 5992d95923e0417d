"""Writes docs/layers.md, what users read of the layers, from their docstrings and measurements: `python docs/make_layers.py`."""

import importlib
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGES = ("basic", "image", "text", "sequence", "dynamic_programming")
SECTION = re.compile(r"(Args|Shapes|Raises|Example):")
RESULTS = ROOT / "benchmarks" / "results" / "layers.json"
PICTURES = {
    "AlibiBias": ("alibi.svg", "What the bias of four heads multiplies attention with, under a causal mask"),
    "LinearChainCRF": ("tagging.svg", "The best and the second best tagging of a sentence whose words alone say otherwise"),
    "SoftDTW": ("alignment.svg", "SoftDTW's gradient, and the path of DynamicTimeWarping, of two series of one shape"),
}
INTRODUCTION = """Made from docstrings and measurements by `python docs/make_layers.py`. To write your own: [tutorial](tutorial.md).

Below each layer stands what `python benchmarks/layer_speed.py` measured: the operators of its ONNX, by which
[strategy](architecture.md) it was made, its largest error as a multiple of eager PyTorch's own rounding error (at most 5 is proven), how
long a run takes in onnxruntime, and how many times longer eager, frozen TorchScript and `torch.compile` take. Measured on one thread of
{processor}, with {versions}. `torch.compile` had {limit:.0f} seconds for both sizes of a
layer, and 150 where that holds no loop: a loop it writes out step by step. Where it "breaks", it leaves a part to eager; "each size": it
compiles anew for each length. The machine was busy with other work: of the rounds, which go by turns, the fastest counts, and still the
ratios of layers that do little but move memory differed up to twofold between two runs."""


def page() -> str:
    """Returns the page as Markdown."""
    results = json.loads(RESULTS.read_text())
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    introduction = INTRODUCTION.format(processor=results["processor"], versions=versions, limit=results["compile_limit"])
    parts = ["# Layers", introduction]
    for name in PACKAGES:
        package = importlib.import_module(f"layers.{name}")
        parts += [f"## layers.{name}", str(package.__doc__).strip()]
        for layer in package.__all__:
            kind = getattr(package, layer)
            file = Path(inspect.getfile(kind)).relative_to(ROOT).as_posix()
            parts += [f"### [{layer}](../{file})", f"```python\n{layer}{arguments(kind)}\n```", *blocks(inspect.getdoc(kind) or "")]
            if layer in PICTURES:
                parts.append("![{1}](pictures/{0})".format(*PICTURES[layer]))
            parts += measured([row for row in results["rows"] if row["name"].partition(".")[0] == layer], results["reasons"])
    return "\n\n".join(parts) + "\n"


def arguments(kind: type) -> str:
    """Writes what the constructor takes."""
    if "__init__" not in vars(kind):
        return "()"
    given = inspect.signature(kind)
    return str(given.replace(return_annotation=inspect.Signature.empty))


def blocks(text: str) -> Iterator[str]:
    """Yields a docstring's paragraphs as they are, and its sections as lists."""
    for paragraph in text.split("\n\n"):
        first, *lines = paragraph.splitlines()
        if SECTION.fullmatch(first):
            yield f"**{first[:-1]}**\n\n" + "\n".join(items(lines))
        else:
            yield paragraph


def items(lines: list[str]) -> Iterator[str]:
    """Yields one list item for each entry of a section; what is indented deeper goes on with the entry before."""
    entry = ""
    for line in lines:
        if line.startswith("     ") and entry:
            entry += " " + line.strip()
            continue
        if entry:
            yield f"- {entry}"
        entry = line.strip()
    yield f"- {entry}"


def measured(rows: list[dict[str, Any]], reasons: dict[str, str]) -> Iterator[str]:
    """Writes what was measured of a layer: a list of operators for each method, and a table."""
    for name in dict.fromkeys(row["name"] for row in rows):
        first = next(row for row in rows if row["name"] == name)
        operators = ", ".join(f"{operator} {count}" if count > 1 else operator for operator, count in first["operators"].items())
        method = f" ({name.partition('.')[2]})" if "." in name else ""
        yield f"**ONNX{method}**, {first['strategy']}: {operators}"
    lines = ["| method | sizes | error | ONNX | eager | TorchScript | compile |", "|---|---|--:|--:|--:|--:|--:|"]
    for row in rows:
        ratios = [f"{ratio:.3g}x" if isinstance(ratio, float) else ratio for ratio in row["ratios"].values()]
        ratios[2] += f" ({row['notes']})" if row["notes"] else ""
        sizes = ", ".join(f"{name.replace('_', ' ')} {size}" for name, size in row["sizes"].items())
        method = row["name"].partition(".")[2] or "forward"
        lines.append(f"| {method} | {sizes} | {row['error']:.2f} | {row['onnx']:.3g} ms | {' | '.join(ratios)} |")
    yield "\n".join(lines)
    for name in dict.fromkeys(row["name"] for row in rows if any(isinstance(one, float) and one < 1 for one in row["ratios"].values())):
        yield f"Where {name} is not ahead: {reasons[name]}"


if __name__ == "__main__":
    (ROOT / "docs" / "layers.md").write_text(page())
