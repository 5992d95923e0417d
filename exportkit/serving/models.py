"""A model that is served: a loaded .onnx, what it takes, and along which axis requests may share a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from exportkit import manifest
from exportkit.backends import onnxruntime as runtime
from exportkit.errors import RunError, StoreError
from exportkit.serving import contract
from exportkit.serving.answers import RequestError
from exportkit.serving.contract import Contract
from exportkit.serving.tensors import Array
from exportkit.spec import Runtime
from exportkit.store import MANIFEST

VERSION = "1"  # a folder holds one version
# Operators that do as much as a value says. An If does one of two things, a Scan as many as its input has.
_BY_VALUE = {"Loop", "Range", "ConstantOfShape", "Expand", "Tile", "Pad", "Resize", "OneHot"}
_MEMORY = "Failed to allocate memory"


@dataclass(frozen=True, slots=True)
class Model:
    """A loaded artifact.

    Attributes:
        rows: the symbol that is axis 0 of all inputs and outputs and along which no row touches another; "" where that is not proven.
        session: onnxruntime's; many threads may run it at once, each run on one core.
        data: the folder's manifest.
        steady: how long a run takes follows from the sizes of its inputs: no value says how often something is done, or how large it gets.
        by_value: runs on OrtValues: for element types that numpy lacks.
        types: input -> onnxruntime's name of its element type.
    """

    name: str
    contract: Contract
    rows: str
    session: Any
    device: str
    folder: Path
    data: Mapping[str, Any]
    steady: bool = True
    by_value: bool = False
    types: Mapping[str, str] = field(default_factory=dict)

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str], options: Any = None) -> list[Array]:
        """Runs the network once.

        Args:
            options: onnxruntime's RunOptions; its `terminate` ends the run.

        Raises:
            RequestError: it does not run on these inputs, was ended, or has no memory for them.
        """
        try:
            with runtime.translated():
                if self.device == "cpu" and not self.by_value:
                    found: list[Array] = self.session.run(outputs, inputs, options)
                    return found
                values = {name: runtime.to_value(array, self.types[name]) for name, array in inputs.items()}
                if self.device == "cpu":
                    results = self.session.run_with_ort_values(list(outputs), values, options)
                else:  # each result is copied to the host once, when the run is over
                    results = runtime.run_bound(self.session, values, outputs, self.device, options)
                return [runtime.to_array(value) for value in results]
        except RunError as error:
            if _MEMORY in error.what:
                raise RequestError(503, "there is no memory for a run of this size", retry=1) from error
            if options is not None and options.terminate:
                raise RequestError(504, "the run took longer than a request may take") from error
            raise RequestError(400, f"the network does not run on these inputs: {error.what}") from error


def load(folder: Path, data: Mapping[str, Any], where: Runtime) -> Model:
    """Loads the .onnx of a folder that was checked.

    Args:
        data: its manifest.

    Raises:
        StoreError: the folder has no .onnx, or one with element types that the protocol lacks.
        RunError: it does not load.
    """
    if "onnx" not in data["formats"]:
        raise StoreError("has no .onnx, and only that is served", where=str(folder), todo="Export the network with --format onnx.")
    network, artifact = manifest.read_network(data["network"]), manifest.read_artifact(data["formats"]["onnx"]["artifact"])
    try:
        taken = contract.read(artifact, network)
    except StoreError as error:
        raise StoreError(error.what, where=str(folder / MANIFEST)) from error
    session = runtime.OnnxRuntime(ort_library=where.ort_library).load(folder, artifact, network, where.device).session
    types = {one.name: one.type for one in session.get_inputs()}
    exotic = any(one.type in runtime.UNKNOWN_TO_NUMPY for one in (*session.get_inputs(), *session.get_outputs()))
    steady = "operators" in artifact.facts and not _BY_VALUE & set(artifact.facts["operators"])
    return Model(network.name, taken, artifact.rows, session, where.device, folder, data, steady, exotic, types)
