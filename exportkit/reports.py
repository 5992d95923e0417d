"""Writes what a command found into files: each whole or not at all."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exportkit import plugins, store
from exportkit.errors import StoreError
from exportkit.files import write_whole


@dataclass(frozen=True, slots=True)
class Files:
    """Which reporter writes which file: the command line's options, by the same names; None for none."""

    junit: Path | None = None
    markdown: Path | None = None
    html: Path | None = None

    @property
    def wanted(self) -> dict[str, Path]:
        return {name: file for name in ("junit", "markdown", "html") if (file := getattr(self, name)) is not None}

    def prepare(self) -> None:
        """Makes the folders of the files, so that a command that cannot write its report says so before it begins.

        Raises:
            StoreError: a file cannot be written, or two options name one.
            PluginError: a package that a reporter needs is not installed.
        """
        for name, file in self.wanted.items():
            plugins.load("reporters", name)
            with store.in_words(file):
                file.parent.mkdir(parents=True, exist_ok=True)
            if file.exists() and not file.is_file():
                raise StoreError("is no regular file", where=str(file), todo=f"Name a file with --{name}.")
            if not os.access(file.parent, os.W_OK | os.X_OK):
                raise StoreError("cannot be written: writing is not permitted", where=str(file), todo=f"Name another file with --{name}.")
        if len({file.absolute() for file in self.wanted.values()}) < len(self.wanted):
            raise StoreError("two reports name one file", where=", ".join(map(str, self.wanted.values())))

    def write(self, summaries: Sequence[Mapping[str, Any]]) -> None:
        """Writes each report of all summaries.

        Raises:
            StoreError: a file cannot be written; what stood there stays as it was.
        """
        for name, file in self.wanted.items():
            text = plugins.load("reporters", name).render(summaries)
            with store.in_words(file):
                write_whole(file, text)
