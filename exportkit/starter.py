"""What `exportkit init` writes into a project: a network file to start from, and a workflow that exports, proves and compares it."""

import shlex
from pathlib import Path

from exportkit.errors import StoreError
from exportkit.files import write_whole

_FILES = {"net.py": "net.py.txt", ".github/workflows/exportkit.yml": "workflow.yml.txt"}  # where it goes -> our template


def write(folder: Path, package: str) -> tuple[list[Path], list[Path]]:
    """Writes the files that are not there yet.

    Args:
        package: what pip installs in the workflow: "exportkit", or "git+https://...".

    Returns:
        The files that were written, and those that stay as they are.

    Raises:
        StoreError: a file cannot be written.
    """
    written, kept = [], []
    for name, template in _FILES.items():
        file = folder / name
        if file.exists():
            kept.append(file)
            continue
        text = (Path(__file__).with_name("templates") / template).read_text(encoding="utf-8")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(file, text.replace("@INSTALL@", shlex.quote(package)))
        except OSError as error:
            raise StoreError(f"cannot be written: {error.strerror or error}", where=str(file), todo="Name another folder.") from error
        written.append(file)
    return written, kept
