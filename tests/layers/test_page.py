"""The page of the layers says what the code, the measurements and the layers themselves say."""

import importlib.util
import json
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def script(name, folder=DOCS):
    spec = importlib.util.spec_from_file_location(f"page_{name}", folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_the_layers_is_up_to_date():
    assert (DOCS / "layers.md").read_text() == script("make_layers").page(), "run python docs/make_layers.py"


def test_the_pictures_are_those_that_the_layers_draw():
    for name, text in script("make_pictures").pictures().items():
        assert (DOCS / "pictures" / name).read_text() == text, f"{name}: run python docs/make_pictures.py"


def test_every_method_was_measured_at_both_sizes():
    rows = json.loads((ROOT / "benchmarks" / "results" / "layers.json").read_text())["rows"]
    measured = [(row["name"], row["sizes"]) for row in rows]
    assert measured == [
        (case.name, dict(sizes)) for case in script("layer_sizes", ROOT / "benchmarks").CASES for sizes in (case.small, case.large)
    ]
