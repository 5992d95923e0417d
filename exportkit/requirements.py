"""The exact versions, installed here, of what a server of ONNX artifacts needs: exportkit's requirements but for those of exports."""

from collections.abc import Iterator
from importlib import metadata

from exportkit.errors import PluginError
from exportkit.plugins import needs

_EXPORTS_ONLY = ("torch", "onnxscript")  # checking and serving an ONNX artifact imports neither


def pinned(extra: str) -> list[str]:
    """Lists "NAME==VERSION" of each package, so that pip needs to resolve nothing.

    Raises:
        PluginError: a package of the extra is not installed here.
    """
    with needs("a list of requirements"):
        from packaging.utils import canonicalize_name
    found: dict[str, str] = {}
    asked = {("exportkit", extra)}
    done: set[tuple[str, str]] = set()
    while new := asked - done:
        done |= new
        for package, chosen in sorted(new):
            for name, extras in _required(package, chosen):
                key = canonicalize_name(name)
                if key in _EXPORTS_ONLY:
                    continue
                try:
                    found[key] = metadata.version(name)
                except metadata.PackageNotFoundError as error:
                    text = f"{package} needs {name}, which is not installed here: its version is unknown"
                    raise PluginError(text, todo=f"pip install {name}") from error
                asked |= {(key, one) for one in ("", *extras)}
    return [f"{name}=={version}" for name, version in sorted(found.items())]


def _required(package: str, extra: str) -> Iterator[tuple[str, set[str]]]:
    """Yields the packages, and their extras, that one needs on this machine."""
    from packaging.requirements import Requirement

    for line in metadata.requires(package) or ():
        one = Requirement(line)
        if one.marker is None or one.marker.evaluate({"extra": extra}):
            yield one.name, one.extras
