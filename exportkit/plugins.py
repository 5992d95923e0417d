"""A plugin is a file `exportkit/KIND/NAME.py` that ends in `PLUGIN = ...`: listed without importing, loaded by name."""

import contextlib
import difflib
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from exportkit.errors import PluginError

_PACKAGES = {
    "google": "protobuf",
    "ml_dtypes": "ml-dtypes",
    "model_signing": "model-signing",
    "OpenSSL": "pyopenssl",
    "grpc": "tritonclient[grpc]",
    "tritonclient": "tritonclient[grpc]",
    "yaml": "pyyaml",
}  # where the package's name is not the module's


def names(kind: str) -> tuple[str, ...]:
    """Lists the plugins of a kind ("formats", "backends", "reporters", "targets") by file name, importing none."""
    return tuple(sorted(file.stem for file in Path(__file__).with_name(kind).glob("*.py") if not file.stem.startswith("_")))


def load(kind: str, name: str) -> Any:
    """Imports one plugin.

    Raises:
        PluginError: there is no such plugin, a package that it needs is missing, or its file has no PLUGIN.
    """
    known = names(kind)
    one = kind.removesuffix("s")
    if name not in known:
        close = difflib.get_close_matches(name, known, len(known) or 1, 0.5)
        listed = ", ".join([*close, *(other for other in known if other not in close)]) or "none"
        meant = f"Did you mean {close[0]}? " if close else ""
        raise PluginError(f"there is no {one} {name}", todo=f"{meant}The {kind} are: {listed}.")
    with needs(f"{one} {name}"):
        module = importlib.import_module(f"exportkit.{kind}.{name}")
    if not hasattr(module, "PLUGIN"):
        raise PluginError(f"the {one} {name} has no PLUGIN", where=f"exportkit/{kind}/{name}.py", todo="End the file in PLUGIN = ...")
    return module.PLUGIN


@contextlib.contextmanager
def needs(who: str, extra: str = "") -> Iterator[None]:
    """Names the package, or the extra of several, to install where an import in this block does not find one.

    Raises:
        PluginError: `who` ("backend onnxruntime") needs a package that is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module in ("", "exportkit"):  # a fault of ours, not of the user's environment
            raise
        package = _PACKAGES.get(module, module)
        todo = f"pip install '{extra}'" if extra else f"pip install {package}"
        raise PluginError(f"{who} needs the package {package}", todo=todo) from error
