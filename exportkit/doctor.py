"""What this machine has: versions, devices, and which execution providers load. Runs in a child, as a broken driver may crash it."""

import contextlib
import ctypes
import json
from pathlib import Path
from typing import Any

from exportkit import manifest

_PROVIDERS = {
    "CUDAExecutionProvider": "libonnxruntime_providers_cuda.so",
    "TensorrtExecutionProvider": "libonnxruntime_providers_tensorrt.so",
}
# What the CUDA provider loads, and the pip package that brings it; {} is the major version of CUDA that onnxruntime is built for.
_DRIVER = "libcuda.so.1"
_PLAIN_NAMES = 13  # from this version of CUDA on, NVIDIA's packages have no suffix
_LIBRARIES = {
    "libcudart.so.{}": "nvidia-cuda-runtime",
    "libcublas.so.{}": "nvidia-cublas",
    "libcublasLt.so.{}": "nvidia-cublas",
    "libcurand.so.10": "nvidia-curand",
    "libnvrtc.so.{}": "nvidia-cuda-nvrtc",
    "libcudnn.so.9": "nvidia-cudnn",
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
    if found["cuda"]:
        lines += ["", f"CUDA {found['cuda']['built_for']}, for which this onnxruntime is built"]
        for name, one in found["cuda"]["libraries"].items():
            state = one["version"] or "found" if one["found"] else f"not found; {one['from']} brings it"
            lines.append(f"  {name:<20} {state}")
    lines += ["", *(f"  {one}" for one in found["advice"])]
    return "\n".join(lines).rstrip()


def examine() -> dict[str, Any]:
    """Examines the machine.

    Returns:
        Plain JSON values: versions; devices; providers, name -> why it does not load, "" where it does; cuda, what the CUDA provider loads
        (None where this onnxruntime has none); advice.
    """
    import onnxruntime
    import torch

    devices = [{"kind": "cpu", "name": _processor()}]
    devices += [{"kind": "cuda", "name": _gpu(torch, number)} for number in range(torch.cuda.device_count())]
    with contextlib.redirect_stdout(None):
        onnxruntime.preload_dlls()
    cuda = _cuda(onnxruntime.cuda_version) if onnxruntime.cuda_version else None
    there = {device.ep_name for device in onnxruntime.get_ep_devices()}
    providers = {}
    for name in onnxruntime.get_available_providers():
        why = "" if name == "CPUExecutionProvider" else _why_not(onnxruntime, name)
        providers[name] = why or ("" if name in there or name not in _PROVIDERS else "its libraries load, but there is no device for it")
    advice = _advice(providers, devices, cuda, torch_has_cuda=torch.version.cuda is not None)
    return {"versions": manifest.versions(), "devices": devices, "providers": providers, "cuda": cuda, "advice": advice}


def _gpu(torch: Any, number: int) -> str:
    try:
        known = torch.cuda.get_device_properties(number)
    except (RuntimeError, AssertionError) as error:  # the driver counts it, and CUDA does not start
        return f"GPU {number}, which torch cannot use: {str(error).strip().splitlines()[0]}"
    return f"{known.name}, {known.total_memory / 2**30:.0f} GiB, compute capability {known.major}.{known.minor}"


def _cuda(built_for: str) -> dict[str, Any]:
    """Looks for the libraries of the version of CUDA that onnxruntime is built for, those that its `preload_dlls` found included."""
    major = built_for.partition(".")[0]
    suffix = "" if int(major) >= _PLAIN_NAMES else f"-cu{major}"
    wanted = {_DRIVER: "the NVIDIA driver"}
    for name, package in _LIBRARIES.items():
        wanted[name.format(major)] = f"pip install {package}{f'-cu{major}' if package == 'nvidia-cudnn' else suffix}"
    libraries = {}
    for name, brings in wanted.items():
        try:
            library = ctypes.CDLL(name)
        except OSError:
            libraries[name] = {"found": False, "version": "", "from": brings}
        else:
            libraries[name] = {"found": True, "version": _version(name, library), "from": brings}
    return {"built_for": built_for, "libraries": libraries}


def _version(name: str, library: Any) -> str:
    """Asks a library for its version; "" where it does not say."""
    number = ctypes.c_int()
    with contextlib.suppress(AttributeError):
        if name.startswith("libcudnn"):
            library.cudnnGetVersion.restype = ctypes.c_size_t
            major, rest = divmod(library.cudnnGetVersion(), 10_000)
            return f"{major}.{rest // 100}.{rest % 100}"
        ask = library.cuDriverGetVersion if name == _DRIVER else library.cudaRuntimeGetVersion
        if ask(ctypes.byref(number)) == 0:
            return f"{number.value // 1000}.{number.value % 1000 // 10}"
    return ""


def _why_not(onnxruntime: Any, provider: str) -> str:
    """Loads a provider's library, and says which library of its own is missing."""
    if provider not in _PROVIDERS:
        return ""
    library = Path(onnxruntime.__file__).parent / "capi" / _PROVIDERS[provider]
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


def _advice(providers: dict[str, str], devices: list[dict[str, str]], cuda: dict[str, Any] | None, *, torch_has_cuda: bool) -> list[str]:
    why = providers.get("CUDAExecutionProvider")
    if why is None or cuda is None:
        return ["This onnxruntime has no CUDA provider: ONNX runs on the CPU. For a GPU: pip install onnxruntime-gpu (x86-64 Linux)."]
    there = _has_gpu(devices)
    if not why:
        ready = "CUDA is ready: --provider cuda and --provider auto take it."
        return [ready if torch_has_cuda else f"{ready} This torch has no CUDA: eager, .pt and .pt2 run on the CPU only."]
    if not there:
        return ["There is no NVIDIA GPU for this process: ONNX runs on the CPU, and --provider cuda fails."]
    missing = dict.fromkeys(one["from"] for one in cuda["libraries"].values() if not one["found"])
    driver = cuda["libraries"][_DRIVER]
    told = [f"There is a GPU, but onnxruntime cannot use it: {why}."]
    if not driver["found"]:
        told.append("Install the NVIDIA driver; in a container, start it with the GPU (docker run --gpus all).")
    elif driver["version"] and float(driver["version"]) < float(cuda["built_for"]):
        told.append(f"The driver knows CUDA up to {driver['version']}, this onnxruntime needs {cuda['built_for']}: install a newer driver.")
    if packages := " ".join(one.removeprefix("pip install ") for one in missing if one.startswith("pip")):
        told.append(f"Install what is missing: pip install {packages}")
    return told


def _has_gpu(devices: list[dict[str, str]]) -> bool:
    """Says whether there is a GPU, for torch or for the driver alone."""
    return len(devices) > 1 or Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidia0").exists()


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return "processor"
