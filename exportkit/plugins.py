"""A plugin is a file `exportkit/KIND/NAME.py` that ends in `PLUGIN = ...`: listed without importing, loaded by name."""

import difflib
import importlib
from pathlib import Path
from typing import Any

from exportkit.errors import PluginError


def names(kind: str) -> tuple[str, ...]:
    """Lists the plugins of a kind ("formats", "backends", "reporters") by file name, importing none."""
    return tuple(sorted(file.stem for file in Path(__file__).with_name(kind).glob("*.py") if file.stem != "__init__"))


def load(kind: str, name: str) -> Any:
    """Imports one plugin.

    Raises:
        PluginError: there is no such plugin, or a package that it needs is missing.
    """
    known = names(kind)
    if name not in known:
        close = difflib.get_close_matches(name, known, 1)
        meant = f"Did you mean {close[0]}?" if close else f"There are {', '.join(known)}."
        raise PluginError(f"there is no {kind.removesuffix('s')} {name}", todo=meant)
    try:
        module = importlib.import_module(f"exportkit.{kind}.{name}")
    except ModuleNotFoundError as error:
        raise PluginError(
            f"the {kind.removesuffix('s')} {name} needs the package {error.name}", todo=f"pip install {error.name}"
        ) from error
    if not hasattr(module, "PLUGIN"):
        raise PluginError(f"exportkit/{kind}/{name}.py does not end in PLUGIN = ...")
    return module.PLUGIN
