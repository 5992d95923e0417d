import importlib.util
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_of_the_layers_is_up_to_date():
    spec = importlib.util.spec_from_file_location("page_of_layers", DOCS / "make_layers.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (DOCS / "layers.md").read_text() == module.page(), "run python docs/make_layers.py"
