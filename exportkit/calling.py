"""Calls a torch artifact as eager is called: arrays in by name, the leaves of its result out as arrays."""

import importlib
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils import _pytree as pytree

from exportkit.errors import RunError
from exportkit.results import to_numpy
from exportkit.spec import Network, fill

Array = NDArray[Any]

# numpy has none of these: ml_dtypes' arrays pass as the integers of their bits.
_BITS = {
    "bfloat16": np.uint16,
    "float8_e4m3fn": np.uint8,
    "float8_e4m3fnuz": np.uint8,
    "float8_e5m2": np.uint8,
    "float8_e5m2fnuz": np.uint8,
}
_NUMBERS = {bool: np.bool_, int: np.int64, float: np.float64, complex: np.complex128}
_SCRIPTED = re.compile(r'^ *File "([^"]+)", line (\d+)', re.MULTILINE)  # innermost last
_TRACED = re.compile(r"^(/?[^\s(]+)\((\d+)\): ", re.MULTILINE)  # innermost first
_TORCH = re.compile(r"(^|/)torch/")
_UNKNOWN = re.compile(r"Unknown builtin op: ([\w:]+)")
_OPERATORS = re.compile(rb"\bops\.([A-Za-z]\w*)\.")
_RAISED = re.compile(r"^(?:[\w.]+\.)?(\w*(?:Error|Exception|Interrupt)): (.*)", re.MULTILINE)


@dataclass(frozen=True)
class TorchSession:
    """A loaded .pt or .pt2.

    Attributes:
        function: takes forward's own arguments and gives forward's own result.
        facts: what ran it, plain JSON values.
        tf32: on CUDA, multiply and convolve float32 in TF32; torch does so by default in cuDNN's convolutions and recurrent layers.
    """

    function: Callable[..., Any]
    network: Network
    device: str
    facts: Mapping[str, Any]
    tf32: bool = False

    def __call__(self, inputs: Mapping[str, Array]) -> list[Array]:
        """Runs one case on copies of its inputs.

        Returns:
            One array for each of `network.outputs`; a Python number is a 0-d array (int64, float64, bool), None is left out.

        Raises:
            RunError: it does not run on these inputs, or returns another number of outputs than eager.
        """
        tensors = {spec.name: to_tensor(inputs[spec.name]).to(self.device) for spec in self.network.inputs}
        arguments = fill(self.network.input_tree, tensors)
        try:
            if self.device != "cpu":
                allow_tf32(on=self.tf32)
            with torch.no_grad():
                result = self.function(*arguments["args"], **arguments["kwargs"])
        except Exception as error:
            raise translate(error) from error
        leaves = [_to_array(leaf) for leaf in pytree.tree_leaves(result) if leaf is not None]
        if len(leaves) != len(self.network.outputs):
            names = ", ".join(spec.name for spec in self.network.outputs)
            raise RunError(f"returns {len(leaves)} output(s), eager returns {len(self.network.outputs)}: {names}")
        return leaves


def prepare(device: str, file: Path) -> dict[str, Any]:
    """Makes torch ready for a .pt or .pt2: it computes as the reference did, and has the operators of the packages that the file uses.

    Returns:
        What a reader should know of it: versions, device, "packages".

    Raises:
        RunError: the device is not there, or a package cannot be imported.
    """
    torch.set_num_threads(1)
    facts: dict[str, Any] = {"provider": f"torch on {device}", "versions": {"torch": str(torch.__version__)}}
    if packages := _packages(file):
        facts["packages"] = packages
    for name in packages:
        try:
            importlib.import_module(name)
        except Exception as error:
            raise RunError(f"uses operators of {name}, which cannot be imported: {error}", todo=f"pip install {name}") from error
    if device == "cpu":
        return facts
    if not torch.cuda.is_available():
        build = f"this torch ({torch.__version__}) is built without CUDA" if torch.version.cuda is None else "torch finds no usable GPU"
        raise RunError(f"the device cuda was asked for, and {build}", todo="Check on the CPU, or on a machine with a GPU.")
    return {**facts, "gpu": torch.cuda.get_device_name(), "tf32": False}


def allow_tf32(*, on: bool) -> None:
    """Says whether CUDA may round float32 to TF32, 1e-3 off, where it multiplies and convolves."""
    torch.backends.cuda.matmul.allow_tf32 = on
    torch.backends.cudnn.allow_tf32 = on  # which torch has on by default


def _packages(file: Path) -> list[str]:
    """Lists the installed packages, such as torchvision, after which operators of the file are named that torch itself has not."""
    try:
        with zipfile.ZipFile(file) as archive:
            texts = [archive.read(name) for name in archive.namelist() if name.endswith((".py", ".json"))]
    except (OSError, zipfile.BadZipFile):
        return []  # the loader says what is wrong with it
    used = {name.decode() for text in texts for name in _OPERATORS.findall(text)}
    own = {name.partition("::")[0] for name in torch._C._dispatch_get_all_op_names()}  # noqa: SLF001 - torch has no public list
    return sorted(used & metadata.packages_distributions().keys()) if (used := used - own) else []


def to_tensor(array: Array) -> torch.Tensor:
    """Copies an array to a tensor of the same element type and shape."""
    copied = np.array(array, order="C")
    kind = str(copied.dtype)
    if kind in _BITS:
        bits: torch.Tensor = torch.from_numpy(copied.view(_BITS[kind])).view(getattr(torch, kind))
        return bits
    return torch.from_numpy(copied)


def translate(error: BaseException) -> RunError:
    """Turns torch's exception into one line and the place in the network file; TorchScript hides both in a traceback of its own."""
    text = str(error)
    if unknown := _UNKNOWN.search(text):
        return RunError(f"uses the operator {unknown[1]}, which torch has not: install the package that brings it")
    _, marker, original = text.partition("TorchScript, original code")
    raised = _RAISED.findall(text) if marker else []
    kind, what = raised[-1] if raised else (type(error).__name__, next(iter(text.strip().splitlines()), ""))
    frames = [*_TRACED.findall(original), *reversed(_SCRIPTED.findall(original))]
    places = (f"{Path(file).name}:{line}" for file, line in frames if not _TORCH.search(file))
    return RunError(f"{kind}: {what}"[:400].rstrip(": "), where=next(places, ""))


def _to_array(leaf: Any) -> Array:
    if isinstance(leaf, torch.Tensor):
        return to_numpy(leaf)
    if type(leaf) in _NUMBERS:
        return np.asarray(leaf, dtype=_NUMBERS[type(leaf)])
    raise RunError(f"returns a {type(leaf).__name__}, where eager returns tensors")
