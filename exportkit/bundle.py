"""What of an artifact folder goes to a server: its ONNX artifact, its golden cases and its manifest, in a folder that `check` takes."""

import contextlib
import copy
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from exportkit import manifest, store
from exportkit.errors import LoadError, StoreError
from exportkit.manifest import GOLDEN
from exportkit.spec import Artifact, Network

MODEL = "model.onnx"
_NAME = re.compile(r"[A-Za-z0-9]([\w.-]*[A-Za-z0-9])?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Bundle:
    """The ONNX part of a published folder.

    Attributes:
        data: the folder's manifest.
        digest: its SHA-256.
        name: what the server shall call it.
    """

    folder: Path
    data: Mapping[str, Any]
    digest: str
    name: str
    network: Network
    artifact: Artifact

    def publish(self, staging: store.Staging) -> Path:
        """Publishes the files as an artifact folder, the graph as model.onnx; external data keeps the name by which the graph calls it.

        Raises:
            StoreError: a copy is not what the manifest says, or it cannot be written.
        """
        for old, new in self._names().items():
            shutil.copyfile(self.folder / old, staging.folder / new)
            if store.describe(staging.folder / new)["sha256"] != self.data["files"][old]["sha256"]:
                raise StoreError("was changed while it was copied", where=str(self.folder / old), todo="Run the command again.")
        return staging.publish(self.content("server"), {"host": manifest.host()})

    @contextlib.contextmanager
    def stage(self, to: Path, target: str) -> Iterator[store.Staging]:
        """Stages TO/NAME; only what the same target wrote there before is replaced, never an artifact folder.

        Raises:
            StoreError: another folder stands there, or it cannot be written.
        """
        standing = to / self.name
        if (standing / store.MANIFEST).is_file() and store.read_manifest(standing).get("origin", {}).get("target") != target:
            todo = "Name another parent with --to."
            raise StoreError(f"is an artifact folder, and nothing that was deployed to {target}", where=str(standing), todo=todo)
        with store.stage(to, self.name) as staging:
            yield staging

    def content(self, target: str, within: str = "") -> dict[str, Any]:
        """Returns what a folder's manifest says where the published files lie in its subfolder WITHIN, "a/b/"."""
        names = self._names(within)
        content = copy.deepcopy({key: value for key, value in self.data.items() if key not in ("schema", "files")})
        content["formats"] = {"onnx": content["formats"]["onnx"]}
        content["formats"]["onnx"]["artifact"]["files"] = [names[one] for one in self.artifact.files]
        content["evidence"]["file"] = within + GOLDEN
        content["network"]["name"] = self.name
        content["origin"] = {"manifest": self.digest, "network": self.network.name, "target": target}
        return content

    def _names(self, within: str = "") -> dict[str, str]:
        names = {one: within + (MODEL if place == 0 else one) for place, one in enumerate(self.artifact.files)}
        return names | {self.data["evidence"]["file"]: within + GOLDEN}


class Target(Protocol):
    """Where an artifact is deployed to; its settings are the fields of a frozen dataclass."""

    def deploy(self, bundle: Bundle, to: Path) -> tuple[str, ...]:
        """Writes below a folder, whole or not at all; returns what the user should know, the path first."""
        ...


def read(folder: Path, name: str | None) -> Bundle:
    """Reads what of a folder can be deployed.

    Raises:
        StoreError: the folder is not what its manifest says.
        LoadError: it has no ONNX artifact, or one that no server can run.
    """
    data = store.verify(folder)
    if name is not None and not _NAME.fullmatch(name):
        raise LoadError("is no name that every server takes: letters, digits, and . _ - between them", where=f"--name {name}")
    if "onnx" not in data["formats"]:
        listed = ", ".join(data["formats"])
        raise LoadError(f"has no ONNX artifact, only {listed}", where=str(folder), todo="Export it with --format onnx, or all formats.")
    network, artifact = manifest.read_network(data["network"]), manifest.read_artifact(data["formats"]["onnx"]["artifact"])
    if library := artifact.facts.get("ort_library"):
        raise LoadError(f"needs {library}, a library of custom operators: native code is not deployed", where=str(folder))
    if any("/" in one for one in artifact.files):  # one that was deployed already
        artifact_files = ", ".join(artifact.files)
        raise LoadError(f"keeps its files elsewhere ({artifact_files})", where=str(folder), todo="Name a folder that an export wrote.")
    if not _NAME.fullmatch(name or network.name):
        raise LoadError(f"is called {network.name!r}, which not every server takes", where=str(folder), todo="Give it another with --name.")
    digest = store.describe(folder / store.MANIFEST)["sha256"]
    return Bundle(folder, data, digest, name or network.name, network, artifact)


def deploy(target: Target, folder: Path, digest: str, name: str | None, to: Path) -> tuple[str, ...]:
    """Deploys a folder that was checked, in a child.

    Args:
        digest: of the manifest that was checked.

    Raises:
        StoreError: the folder is another one by now, or the target cannot be written.
    """
    bundle = read(folder, name)
    if bundle.digest != digest:
        raise StoreError("was replaced after it was checked", where=str(folder), todo="Run the command again.")
    return target.deploy(bundle, to)
