"""The tutorial is followed as a reader does: its files are written, its commands run, and they print what the page shows."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "tutorial.md").read_text()
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What differs from machine to machine: a decimal fraction or a power of ten, such as 11.2, 8.9e-08 and 3e-08, a whole
# multiple ("1x of"), what pytest adds to a minute, and the rule that it draws as long as the terminal is wide.
VARIES = ((r"\d+\.\d+(e[-+]\d+)?|\d+e[-+]\d+|\b\d+(?=x of)", "#"), (r" \(\d+:\d\d:\d\d\)", ""), (r"={3,}", "==="))


def commands(block):
    """Yields (command, what the page shows that it prints); a command is a line that begins with `$ `."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        yield command, shown


def plain(text):
    """Takes out what varies, and how far columns stand apart."""
    for pattern, word in VARIES:
        text = re.sub(pattern, word, text)
    return "\n".join(" ".join(line.split()) for line in text.strip().splitlines())


def shows(shown, printed):
    """Compares what the page shows with what was printed; a line `...` of the page stands for any lines."""
    parts = re.split(r"^\.\.\.$", plain(shown), flags=re.MULTILINE)
    return re.fullmatch(".*".join(map(re.escape, parts)), plain(printed), re.DOTALL) is not None


def follow(page, folder):
    """Writes each file and runs each command of a page, in order.

    Raises:
        AssertionError: a command prints something else than the page shows, or ends well where the page shows a failure.
    """
    settings = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    settings |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "100"}
    for kind, text in BLOCK.findall(page):
        if kind != "console":
            name = re.match(r"# (\S+)\n", text)
            assert name, f"a block without a name:\n{text}"
            (folder / name[1]).write_text(text)
            continue
        for command, shown in commands(text):
            done = subprocess.run(command, shell=True, cwd=folder, env=settings, capture_output=True, text=True, timeout=280, check=False)
            assert shows(shown, done.stdout), f"$ {command}\n{done.stdout}\n{done.stderr}\n\nThe page shows:\n{shown}"
            fails = shown.rpartition("\n\n")[2].startswith("failed")
            assert (done.returncode != 0) == fails, f"$ {command}\nexit code {done.returncode}\n{done.stderr}"


def test_the_first_part_of_the_tutorial_prints_what_it_shows(tmp_path):
    follow(PAGE.partition("\n## 2.")[0], tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_tutorial_prints_what_it_shows(tmp_path):
    follow(PAGE, tmp_path)


def test_what_serves_imports_neither_torch_nor_exportkit():
    serve = next(text for _, text in BLOCK.findall(PAGE) if text.startswith("# serve.py"))
    names = {alias.name for node in ast.walk(ast.parse(serve)) if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names}
    assert names == {"numpy", "onnxruntime"}


SMALL = """
```python
# one.py
print("3 lines in 1.5 s\\nof  two\\nwords", 7)
```

```console
$ python one.py
3 lines in 2.25 s
...
words 7
$ printf 'it is bad\\n\\nfailed'; exit 1
it is bad

failed
```
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("words 7", "words 8"),  # a number without a fraction
        ("in 2.25 s", "after 2.25 s"),  # a word of what the page shows
        ("print(", "raise SystemExit("),  # a file
        ("'it is", "'all is"),  # a command
        ("exit 1", "exit 0"),
        ("...\n", ""),  # a line too few
    ],
)
def test_a_page_that_shows_something_else_fails(tmp_path, old, new):
    assert old in SMALL
    follow(SMALL, tmp_path)
    with pytest.raises(AssertionError):
        follow(SMALL.replace(old, new), tmp_path)
