"""Which onnxruntime loads which ONNX file."""

import re

from exportkit.errors import ExportError

# onnxruntime -> (largest opset, largest IR version): https://onnxruntime.ai/docs/reference/compatibility.html and its release notes.
_RUNTIMES = {
    (1, 17): (20, 9),
    (1, 18): (21, 10),
    (1, 19): (21, 10),
    (1, 20): (21, 10),
    (1, 21): (22, 10),
    (1, 22): (23, 11),
    (1, 23): (23, 11),
}
_NEWEST = (1, 24)


def oldest(opset: int, version: int = 0) -> str:
    """Returns the oldest onnxruntime, as "1.20", that loads this opset and IR version."""
    able = (release for release, (most_opset, most_version) in sorted(_RUNTIMES.items()) if opset <= most_opset and version <= most_version)
    return ".".join(map(str, next(able, _NEWEST)))


def refuse_target(target: str | None, opset: int | None, version: int = 0) -> None:
    """Refuses a target that does not load an opset and IR version; None: not known yet.

    Args:
        target: "onnxruntime==1.20", or None for any.

    Raises:
        ExportError: the target is too old, or not understood.
    """
    if target is None:
        return
    match = re.fullmatch(r"onnxruntime==(\d+)\.(\d+)(\.\d+)?", target)
    if not match:
        raise ExportError(f"--target {target!r} is not understood", todo='Write --target "onnxruntime==1.20".')
    needed = oldest(opset or 0, version)
    if (int(match[1]), int(match[2])) < tuple(map(int, needed.split("."))):
        what = f"opset {opset}" + (f" and IR version {version}" if version else "")
        raise ExportError(
            f"{what} needs onnxruntime {needed}, the target is {target}" if opset else f"{target} is older than {needed}, the oldest known",
            todo="Ask for an older opset with --opset, or serve with a newer onnxruntime.",
        )
