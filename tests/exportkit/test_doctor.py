"""What doctor advises, from what it found."""

import json
from types import SimpleNamespace

import pytest

from exportkit import doctor

CPU, GPU = {"kind": "cpu", "name": "processor"}, {"kind": "cuda", "name": "H200"}
BRINGS = {
    "libcuda.so.1": "the NVIDIA driver",
    "libcublas.so.13": "pip install nvidia-cublas",
    "libcudnn.so.9": "pip install nvidia-cudnn-cu13",
}


def cuda(missing=(), driver="13.0"):
    libraries = {name: {"found": name not in missing, "version": "", "from": brings} for name, brings in BRINGS.items()}
    libraries["libcuda.so.1"]["version"] = driver if "libcuda.so.1" not in missing else ""
    return {"built_for": "13.0", "libraries": libraries}


def advice(why="", devices=(CPU, GPU), *, torch_has_cuda=True, **found):
    return doctor._advice({"CUDAExecutionProvider": why}, list(devices), cuda(**found), torch_has_cuda=torch_has_cuda)


def test_a_gpu_that_works_is_told_and_what_a_torch_without_cuda_cannot_do_on_it():
    assert advice() == ["CUDA is ready: --provider cuda and --provider auto take it."]
    assert advice(torch_has_cuda=False)[0].endswith("This torch has no CUDA: eager, .pt and .pt2 run on the CPU only.")


def test_what_is_missing_is_one_command():
    told = advice("libcublas.so.13 is not found", missing=("libcublas.so.13", "libcudnn.so.9"))
    assert told[0] == "There is a GPU, but onnxruntime cannot use it: libcublas.so.13 is not found."
    assert told[1:] == ["Install what is missing: pip install nvidia-cublas nvidia-cudnn-cu13"]


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"missing": ("libcuda.so.1",)}, "docker run --gpus all"),
        ({"driver": "12.8"}, "The driver knows CUDA up to 12.8, this onnxruntime needs 13.0"),
    ],
)
def test_a_driver_that_is_missing_or_too_old_is_told_as_such(found, words):
    assert words in advice("it does not load", **found)[1]


def test_a_machine_without_a_gpu_needs_no_packages(monkeypatch):
    monkeypatch.setattr(doctor, "_has_gpu", lambda devices: len(devices) > 1)
    assert advice("libcublas.so.13 is not found", [CPU], missing=tuple(BRINGS)) == [
        "There is no NVIDIA GPU for this process: ONNX runs on the CPU, and --provider cuda fails."
    ]


def test_a_gpu_that_the_driver_counts_and_torch_cannot_start_is_listed_with_the_reason():
    def refuse(_):
        raise RuntimeError("The NVIDIA driver on your system is too old\nmore")

    torch = SimpleNamespace(cuda=SimpleNamespace(get_device_properties=refuse))
    assert doctor._gpu(torch, 0) == "GPU 0, which torch cannot use: The NVIDIA driver on your system is too old"


def test_an_onnxruntime_without_cuda_is_told():
    assert "pip install onnxruntime-gpu" in doctor._advice({"CPUExecutionProvider": ""}, [CPU], None, torch_has_cuda=False)[0]


def test_libraries_are_looked_for_and_asked_for_their_versions(tmp_path, hollow_cuda):
    found = json.loads(hollow_cuda("import json; from exportkit import doctor; print(json.dumps(doctor.examine()))", tmp_path))
    libraries = found["cuda"]["libraries"]
    assert libraries["libcuda.so.1"]["found"]
    assert (libraries["libcudart.so.13"]["version"], libraries["libcudnn.so.9"]["version"]) == ("13.0", "9.19.0")
    assert found["providers"]["CUDAExecutionProvider"] == ""
