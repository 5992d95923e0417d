"""Read by every Python that starts with the hollow CUDA: onnxruntime has a GPU, and looks for no other CUDA."""

from types import SimpleNamespace

import onnxruntime

_devices = onnxruntime.get_ep_devices
onnxruntime.get_ep_devices = lambda: [*_devices(), SimpleNamespace(ep_name="CUDAExecutionProvider")]
onnxruntime.preload_dlls = lambda: None  # a torch with CUDA brings the real one
