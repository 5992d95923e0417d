"""What this machine has: versions, devices, and which execution providers load. Runs in a child, as a broken driver may crash it."""

import contextlib
import ctypes
import json
from pathlib import Path
from typing import Any

from exportkit import manifest

_LIBRARY = {
    "CUDAExecutionProvider": "libonnxruntime_providers_cuda.so",
    "TensorrtExecutionProvider": "libonnxruntime_providers_tensorrt.so",
}


def report(as_json: bool) -> str:
    """Examines the machine and returns the text, or JSON, to print."""
    found = examine()
    if as_json:
        return json.dumps(found, indent=1, sort_keys=True)
    lines = ["versions"]
    lines += [f"  {name:<16} {version}" for name, version in found["versions"].items()]
    lines += ["", "devices"]
    lines += [f"  {one['kind']:<6} {one['name']}" for one in found["devices"]]
    lines += ["", "onnxruntime's execution providers"]
    for name, why in found["providers"].items():
        lines.append(f"  {name:<28} {'loads' if not why else 'does not load: ' + why}")
    lines += ["", *(f"  {one}" for one in found["advice"])]
    return "\n".join(lines).rstrip()


def examine() -> dict[str, Any]:
    """Returns versions, devices, providers (name -> why it does not load, "" where it does) and advice, as plain JSON values."""
    import onnxruntime
    import torch

    devices = [{"kind": "cpu", "name": _processor()}]
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    devices += [{"kind": "cuda", "name": torch.cuda.get_device_name(number)} for number in range(count)]
    with contextlib.redirect_stdout(None):
        if len(devices) > 1:
            onnxruntime.preload_dlls()
    there = {device.ep_name for device in onnxruntime.get_ep_devices()}
    providers = {}
    for name in onnxruntime.get_available_providers():
        why = "" if name == "CPUExecutionProvider" else _why_not(onnxruntime, name)
        providers[name] = why or ("" if name in there or name not in _LIBRARY else "its libraries load, but there is no device for it")
    return {"versions": manifest.versions(), "devices": devices, "providers": providers, "advice": _advice(providers, devices)}


def _why_not(onnxruntime: Any, provider: str) -> str:
    """Loads a provider's library, and says which library of its own is missing."""
    if provider not in _LIBRARY:
        return ""
    library = Path(onnxruntime.__file__).parent / "capi" / _LIBRARY[provider]
    if not library.exists():
        return f"this onnxruntime has no {library.name}"
    try:
        # The provider's symbols come from this one, which only onnxruntime itself opens.
        ctypes.CDLL(str(library.with_name("libonnxruntime_providers_shared.so")), mode=ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(library))
    except OSError as error:
        missing = str(error).partition(":")[0]
        return f"{missing} is not found" if "cannot open shared object" in str(error) else str(error)
    return ""


def _advice(providers: dict[str, str], devices: list[dict[str, str]]) -> list[str]:
    why = providers.get("CUDAExecutionProvider")
    if why is None:
        return ["This onnxruntime has no CUDA provider: ONNX runs on the CPU. For a GPU: pip install onnxruntime-gpu (x86-64 Linux)."]
    if not why:
        return ["CUDA is ready: --provider cuda and --provider auto take it."]
    if len(devices) == 1:
        return ["There is no NVIDIA GPU that torch can use: ONNX runs on the CPU, and --provider cuda fails."]
    return [
        f"There is a GPU, but onnxruntime cannot use it: {why}.",
        "Install the CUDA and cuDNN libraries it is built for: pip install 'onnxruntime-gpu[cuda,cudnn]'.",
    ]


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return "processor"
