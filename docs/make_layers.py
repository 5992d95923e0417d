"""Writes docs/layers.md, what users read of the layers, from their docstrings: `python docs/make_layers.py`."""

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("basic", "image", "text", "sequence", "dynamic_programming")
SECTION = re.compile(r"(Args|Shapes|Raises|Example):")


def page() -> str:
    """Returns the page as Markdown."""
    parts = ["# Layers", "Made from the docstrings by `python docs/make_layers.py`. To write your own: [tutorial](tutorial.md)."]
    for name in PACKAGES:
        package = importlib.import_module(f"layers.{name}")
        parts += [f"## layers.{name}", str(package.__doc__).strip()]
        for layer in package.__all__:
            kind = getattr(package, layer)
            file = Path(inspect.getfile(kind)).relative_to(ROOT).as_posix()
            parts += [f"### [{layer}](../{file})", f"```python\n{layer}{arguments(kind)}\n```", *blocks(inspect.getdoc(kind) or "")]
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


if __name__ == "__main__":
    (ROOT / "docs" / "layers.md").write_text(page())
