"""Arrays of cases in safetensors files. Keys are "{case}/input/{name}", "{case}/eager/{output}", "{case}/oracle/{output}".

Where torch leaves open how equal values are ordered, and it shows: "{case}/tied/eager/{output}" and so on, of eager with them in order.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

LIMIT = 64 << 20  # bytes of arrays in one file of golden cases

# What safetensors' numpy side does not take: stored as these, and named in the metadata.
_STORED_AS = {"bfloat16": "uint16", "complex128": "float64"}


def write(path: Path, arrays: "Mapping[str, NDArray[Any]]") -> None:
    """Writes arrays; the same arrays give the same bytes.

    Raises:
        OSError: the disk does not take the file.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    stored = {key: _stored(value) for key, value in sorted(arrays.items())}
    types = {key: str(value.dtype) for key, value in arrays.items() if str(value.dtype) in _STORED_AS}
    try:
        save_file(stored, path, metadata={"types": json.dumps(types, sort_keys=True)})
    except SafetensorError as error:
        code = re.search(r"os error (\d+)", str(error))
        if not code:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from error
    path.chmod(0o644)  # safetensors writes for the owner only


class Reader:
    """Reads arrays one by one."""

    def __init__(self, path: Path) -> None:
        from safetensors import safe_open

        self._file = safe_open(path, framework="np")
        self._types: dict[str, str] = json.loads((self._file.metadata() or {}).get("types", "{}"))

    def names(self) -> list[str]:
        return sorted(self._file.keys())

    def read(self, key: str) -> "NDArray[Any]":
        """Returns one array as it was written."""
        value: NDArray[Any] = self._file.get_tensor(key)
        kind = self._types.get(key)
        if kind == "bfloat16":
            import ml_dtypes

            return value.view(ml_dtypes.bfloat16)
        return value[..., 0] + 1j * value[..., 1] if kind == "complex128" else value


def collect(folder: Path, cases: Sequence[tuple[str, int]], path: Path) -> dict[str, dict[str, Any]]:
    """Gathers `{case}.safetensors` files into one, smallest first, up to `LIMIT` bytes.

    Args:
        cases: (name, seed) of each case.

    Returns:
        The cases left out: name -> {"seed", "sha256" of the case's arrays}.
    """
    kept: dict[str, NDArray[Any]] = {}
    left_out: dict[str, dict[str, Any]] = {}
    room = LIMIT
    for name, seed in sorted(cases, key=lambda case: ((folder / f"{case[0]}.safetensors").stat().st_size, case[0])):
        file = folder / f"{name}.safetensors"
        reader = Reader(file)
        arrays = {key: reader.read(key) for key in reader.names() if not key.startswith(f"{name}/perturbed/")}  # weighed already
        room -= sum(value.nbytes for value in arrays.values())
        if room < 0:
            with file.open("rb") as stream:
                left_out[name] = {"seed": seed, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}
            continue
        kept |= arrays
    write(path, kept)
    return left_out


def _stored(value: "NDArray[Any]") -> "NDArray[Any]":
    import numpy as np

    value = np.ascontiguousarray(value).reshape(value.shape)
    if str(value.dtype) == "bfloat16":
        return value.view(np.uint16)
    if str(value.dtype) == "complex128":
        return np.stack([value.real, value.imag], -1)
    return value
