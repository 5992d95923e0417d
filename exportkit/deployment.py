"""Deploys a folder that passes `check`: what `exportkit deploy` does with each target."""

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from exportkit import bundle, inspection, plugins, store
from exportkit.errors import LoadError
from exportkit.inspection import Question
from exportkit.pipeline import Listener, Verdict
from exportkit.spec import Finding
from exportkit.worker import Host, Limits

KIND = "targets"


def deploy(target: str, folder: Path, to: Path, name: str | None, settings: Sequence[str], server: Host, listen: Listener) -> Verdict:
    """Checks a folder, and deploys it where it passes.

    Args:
        name: what the server shall call it; None for the network's name.
        settings: "NAME=VALUE" of the target's own fields.

    Returns:
        The verdict on the folder; where it passes, its last findings say what was written, the path first.

    Raises:
        PluginError: there is no such target, or a package is missing.
        LoadError: a setting or the folder does not suit the target.
        StoreError: the folder is not what its manifest says, or the target cannot be written.
    """
    plugin = configure(target, settings)
    bundle.read(folder, name)  # what cannot be deployed is said before it is checked
    digest = store.describe(folder / store.MANIFEST)["sha256"]
    found = inspection.check(folder, server, Question(expect_digest=digest), listen)
    assert isinstance(found, Verdict)
    if found.exit_code:
        return found
    listen(f"writing {to}")
    lines = server.run("exportkit.bundle:deploy", plugin, folder, digest, name, to, limits=Limits(), stage=f"deploying to {target}")
    return replace(found, findings=(*found.findings, *(Finding("note", "deployed", line) for line in lines)))


def configure(target: str, settings: Sequence[str]) -> Any:
    """Loads a target with the settings that were given."""
    plugin = plugins.load(KIND, target)
    kinds = {one.name.replace("_", "-"): one for one in fields(plugin)}
    for text in settings:
        name, equals, value = text.partition("=")
        if not equals or name not in kinds:
            usual = ", ".join(f"{one}={getattr(plugin, kinds[one].name)}" for one in kinds) or "none"
            raise LoadError(f"{target} has no such setting", where=f"--set {text}", todo=f"Its settings, as they are: {usual}.")
        field = kinds[name]
        try:
            plugin = replace(plugin, **{field.name: int(value) if field.type in (int, "int") else value})
        except ValueError as error:
            raise LoadError(f"{name} is a whole number", where=f"--set {text}") from error
    return plugin
