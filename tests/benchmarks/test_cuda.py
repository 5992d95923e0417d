"""The benchmark of the GPU: when its goal is missed, and the page that it writes; on the CPU it runs as far as that goes."""

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import cuda_page
import cuda_speed

BENCHMARKS = Path(cuda_page.__file__).parent
MACHINE = {"gpu": "H200", "driver": "580", "versions": {"torch": "2.11"}}


def row(batch, wrong=(), **ms):
    return {"network": "net", "batch": batch, "ms": ms, "wrong": list(wrong)}


def test_the_onnx_must_be_the_fastest_of_all_alone_and_nearly_so_in_large_batches():
    assert cuda_speed.missed(row(1, eager=1.0, bound=1.05), last=False)
    assert not cuda_speed.missed(row(1, eager=1.0, bound=2.0, graph=0.9), last=False)
    assert not cuda_speed.missed(row(16, eager=1.0, bound=2.0), last=False)
    assert not cuda_speed.missed(row(256, eager=1.0, bound=1.09), last=True)
    assert cuda_speed.missed(row(256, eager=1.0, bound=1.2), last=True)


def test_a_way_that_is_wrong_or_does_not_run_wins_nothing():
    assert not cuda_speed.missed(row(1, wrong=["compile"], compile=0.1, eager=1.0, bound=0.9, **{"max-autotune": "> 300 s"}), last=True)
    assert cuda_speed.missed(row(1, eager=1.0, bound="RuntimeError: no memory"), last=True)


def test_the_tables_are_written_between_their_marks(tmp_path):
    file = tmp_path / "page.md"
    file.write_text(f"before\n{cuda_page.BEGIN}\nold\n{cuda_page.END}\nafter\n")
    parity = {
        "network": "net", "dtype": "float16", "format": "onnx", "outcome": "failed", "why": "a|b", "error": 1.5,
        "ways": {"TF32": 412.0, "CUDA graph": "refused: a loop"}, "nodes": {"CUDAExecutionProvider": 7, "CPUExecutionProvider": 2},
        "same bits": False, "on the CPU": "passed",
    }  # fmt: skip
    data = {"machine": MACHINE, "parity": [parity], "speed": [row(1, wrong=["compile"], eager=1.0, compile=0.5, bound=0.25)]}
    cuda_page.write(cuda_page.page(data), file)
    text = file.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| net | float16 | onnx | failed | 1.5x | 412x | refused: a loop | 7, 2 | no | a/b; passed on the CPU |" in text
    assert "| net | 1 | 1 | - | 0.5 | - | - | 0.25 | - | bound | compile wrong |" in text


@pytest.mark.slow
def test_it_can_be_rehearsed_without_a_gpu(tmp_path):
    net = BENCHMARKS.parent / "layers" / "networks" / "my_linear_net.py"
    options = ["--device", "cpu", "--dtypes", "float32", "--batches", "1,4", "--json", tmp_path / "cuda.json"]
    done = subprocess.run([sys.executable, BENCHMARKS / "cuda.py", net, *options], capture_output=True, text=True, check=False)
    assert (tmp_path / "cuda.json").exists(), done.stderr
    assert "my_linear_net float32 onnx passed" in done.stdout
