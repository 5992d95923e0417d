"""What cannot be lifted is refused: the user's line, the construct, and how to write it instead. The rows are those of docs/loops.md."""

import importlib.util
import re
import warnings
from pathlib import Path

import pytest
import torch
from torch.export import Dim

from exportkit.control_flow import guardless, lift
from exportkit.errors import ExportError

ROOT = Path(__file__).parents[3]
SAMPLES = ROOT / "tests" / "samples" / "control_flow"


def load(name):
    spec = importlib.util.spec_from_file_location(name, SAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


REFUSED = load("refused").REFUSED


def rows(part):
    """Lists the rows of a table of docs/loops.md: construct, words, and the names in its last column."""
    text = (ROOT / "docs" / "loops.md").read_text().split(f"## {part}\n")[1].split("\n## ")[0]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if re.match(r"\| (?!construct)", line)]
    return [(*row[:-1], re.findall(r"`(\w+)`", row[-1])) for row in cells]


def line_of(name):
    """Returns the marked line of a network; "" where any of its lines may be named."""
    lines = (SAMPLES / "refused.py").read_text().splitlines()
    start = lines.index(f"class {name}(nn.Module):")
    end = next((at for at in range(start + 1, len(lines)) if re.match(r"class |REFUSED", lines[at])), len(lines))
    return next((at + 1 for at in range(start, end) if "# HERE" in lines[at]), "")


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of its exporters
        yield


@pytest.mark.parametrize(("words", "name"), [(words, name) for _, words, names in rows("What is refused") for name in names])
def test_what_cannot_be_lifted_is_refused_in_the_documents_words(words, name):
    with pytest.raises(ExportError) as caught:
        module = lift(REFUSED[name]().eval())
        with guardless(), torch.no_grad():
            torch.export.export(module, (torch.randn(20, 4),), dynamic_shapes=({0: Dim.AUTO},))
    assert re.fullmatch(rf"refused.py:{line_of(name) or '[0-9]+'}", caught.value.where)
    assert words in caught.value.what
    assert caught.value.todo


def test_the_document_lists_every_program_and_every_refusal():
    assert {name for _, names in rows("What is carried over") for name in names} == load("programs").PROGRAMS.keys()
    assert {name for _, _, names in rows("What is refused") for name in names} == REFUSED.keys()
