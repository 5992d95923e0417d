"""What docs promise is tested where they say."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TRUST = (ROOT / "docs" / "trust.md").read_text()


def test_each_promise_names_tests_that_exist():
    rows = [line for line in TRUST.splitlines() if line.startswith("|") and not re.match(r"\| promise|\|-", line)]
    assert len(rows) > 20
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
        assert named, f"no test: {row}"
        for file, name in named:
            tree = ast.parse((ROOT / file).read_text())
            assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{file}::{name}"


def test_each_part_says_what_is_not_promised():
    parts = re.split(r"^## ", TRUST, flags=re.MULTILINE)[1:]
    assert all("Not promised:" in part for part in parts if "| promise |" in part)


def test_links_of_the_documents_lead_somewhere():
    for document in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
