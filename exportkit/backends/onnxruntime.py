"""Runs ONNX in onnxruntime, the runtime that serves it. Needs no torch."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from exportkit.errors import RunError
from exportkit.spec import Artifact, Network

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_LARGE = 1 << 30


def devices() -> tuple[str, ...]:
    """Lists the devices that really exist: "cpu", and "cuda" where onnxruntime sees one."""
    found = {_name(one.ep_name) for one in onnxruntime.get_ep_devices()}
    return tuple(name for name in _PROVIDERS if name in found or name == "cpu")


@dataclass(eq=False, slots=True)
class Session:
    """A loaded model; calling it runs one case."""

    session: Any
    names: tuple[str, ...]
    facts: dict[str, Any] = field(default_factory=dict)

    def __call__(self, inputs: Mapping[str, Any]) -> list[Any]:
        feed = {one.name: _value(inputs[one.name]) for one in self.session.get_inputs()}
        try:
            outputs = self.session.run_with_ort_values(list(self.names), feed)
        except Exception as error:
            raise RunError(_in_words(error)) from error
        return [_array(one) for one in outputs]


@dataclass(frozen=True, slots=True)
class OnnxRuntime:
    """Options: `ort_library` is an onnxruntime custom-operator library to load first."""

    formats: tuple[str, ...] = ("onnx",)
    ort_library: str | None = None

    def load(self, folder: Path, artifact: Artifact, network: Network, device: str) -> Session:
        """Makes a session with the provider asked for, and no other.

        Raises:
            RunError: onnxruntime refuses the model, the provider does not run, or the graph's inputs or outputs are not the network's.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.use_deterministic_compute = True
        if sum((folder / name).stat().st_size for name in artifact.files) > _LARGE:
            # Prepacking holds every weight a second time.
            options.add_session_config_entry("session.disable_prepacking", "1")
        if self.ort_library:
            options.register_custom_ops_library(self.ort_library)
        try:
            session = onnxruntime.InferenceSession(folder / artifact.files[0], options, providers=_providers(device))
        except Exception as error:
            raise RunError(f"onnxruntime does not load it: {_in_words(error)}") from error
        ran = session.get_providers()
        if _PROVIDERS[device] not in ran:
            raise RunError(f"{_PROVIDERS[device]} was asked for, but {ran[0]} runs", todo="`exportkit doctor` says what is missing.")
        wrong = {one.name for one in session.get_inputs()} ^ {spec.name for spec in network.inputs}
        if wrong:
            raise RunError(f"the graph and the network disagree about the inputs {', '.join(sorted(wrong))}")
        if len(session.get_outputs()) != len(network.outputs):
            raise RunError(f"the graph has {len(session.get_outputs())} outputs, the network {len(network.outputs)}")
        return Session(session, tuple(one.name for one in session.get_outputs()), {"provider": ran[0]})


def _providers(device: str) -> list[Any]:
    if device == "cpu":
        return ["CPUExecutionProvider"]
    onnxruntime.preload_dlls()
    # TF32 rounds to 10 bits: parity is measured without it.
    return [("CUDAExecutionProvider", {"use_tf32": "0"}), "CPUExecutionProvider"]


def _name(provider: str) -> str:
    return next((name for name, one in _PROVIDERS.items() if one == provider), provider)


def _value(array: Any) -> Any:
    if str(array.dtype) == "bfloat16":
        import onnx

        return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(np.ascontiguousarray(array).view(np.uint16), onnx.TensorProto.BFLOAT16)
    return onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array).reshape(array.shape))


def _array(value: Any) -> Any:
    if value.data_type() == "tensor(bfloat16)":
        import ml_dtypes

        return value.numpy().view(ml_dtypes.bfloat16)
    return value.numpy()


def _in_words(error: Exception) -> str:
    """Takes the addresses and file names of onnxruntime's own source out of its text."""
    text = " ".join(str(error).split())
    text = re.sub(r"\[ONNXRuntimeError\] : \d+ : (\w+) : ", r"\1: ", text)
    return re.sub(r"/[\w/.+-]+\.(cc|h):\d+ [^ ]*(\([^)]*\))? ?", "", text)[:300]


PLUGIN = OnnxRuntime()
