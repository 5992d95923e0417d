"""Networks on a GPU: parity, placement, determinism and speed.

    python benchmarks/cuda.py [NET.py ...] [--only parity,speed,roofline] [--dtypes float32,float16,bfloat16] [--batches 1,16,256]
        [--device cuda] [--limit 300] [--json benchmarks/results/cuda.json] [--page docs/cuda.md]

Without a file, the reference networks. Each step has a process of its own, which ends after `--limit` seconds, then the row says so.
- parity: each format judged on CUDA, by element type; TF32 and, for fixed shapes, CUDA graphs beside it; where the nodes ran; whether
  ten runs give the same bits; and what the same artifacts give on the CPU, where that is another verdict.
- speed: milliseconds of a run (median, synchronised, after warm-up, without TF32) of eager, frozen TorchScript, torch.compile as it comes
  and with max-autotune, and of the ONNX: plain (arrays of the host in and out), bound (all on the GPU), graph (captured). "wrong" is
  beside a way whose result is not eager's.
- roofline, of the two networks with most weights: operations and bytes that eager counts, and the share of the ceiling, which a copy and
  a product measured here set, that the fastest ONNX reaches.
The goal: an ONNX is the fastest of all at batch 1, and within a tenth of the fastest at the largest; a row that misses it names the
operators that take longest. Exits with 1 where the goal is missed, or a format is not proven. `--device cpu` rehearses all but CUDA
graphs.
"""

import argparse
import json
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

from cuda_page import Row, page, parity_cells, speed_cells, write
from cuda_parity import parity
from cuda_speed import roofline, speed
from cuda_steps import apart, export, load

ROOT = Path(__file__).parents[1]
PARTS = ("parity", "speed", "roofline")


def machine(device: str) -> Row:
    """Describes where this ran."""
    import onnxruntime
    import torch

    from exportkit import doctor

    found = doctor.examine()
    gpu = next((one["name"] for one in found["devices"] if one["kind"] == "cuda"), "none")
    driver = Path("/proc/driver/nvidia/version")
    versions = {"torch": torch.__version__, "onnxruntime": onnxruntime.__version__, "python": platform.python_version()}
    libraries = {name: one["version"] for name, one in ((found["cuda"] or {}).get("libraries", {})).items() if one["version"]}
    text = driver.read_text().splitlines()[0] if driver.exists() else "none"
    return {"device": device, "gpu": gpu, "driver": text, "processor": found["devices"][0]["name"], "versions": versions | libraries}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nets", nargs="*", type=Path)
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--dtypes", default="float32,float16,bfloat16")
    parser.add_argument("--batches", default="1,16,256")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--limit", type=float, default=300.0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--page", type=Path)
    asked = parser.parse_args()
    nets = asked.nets or sorted((ROOT / "layers" / "networks").glob("[a-z]*.py"))
    data: dict[str, Any] = {"machine": apart(asked.limit, machine, asked.device)}
    print(json.dumps(data["machine"]))
    parts, bad = asked.only.split(","), False
    if "parity" in parts:
        data["parity"] = []
        for file in nets:
            for dtype in asked.dtypes.split(","):
                found = apart(4 * asked.limit, parity, file, dtype, asked.device)
                rows = (
                    found
                    if isinstance(found, list)
                    else [{"network": file.stem, "dtype": dtype, "format": "-", "outcome": "-", "why": found}]
                )
                data["parity"] += rows
                print("\n".join(" ".join(parity_cells(row)) for row in rows), flush=True)
        bad = any(not row["outcome"].startswith("passed") for row in data["parity"])
    if "speed" in parts or "roofline" in parts:
        with tempfile.TemporaryDirectory() as scratch:
            folders = {file: apart(4 * asked.limit, _published, file, Path(scratch)) for file in nets}
            made = {file: folder for file, folder in folders.items() if isinstance(folder, Path)}
            data["speed"] = []
            for file, folder in made.items():
                for row in speed(file, folder, [int(one) for one in asked.batches.split(",")], asked.device, asked.limit):
                    data["speed"].append(row)
                    print(" ".join(speed_cells(row)), flush=True)
            if "roofline" in parts:
                data["roofline"] = roofline(made, data["speed"], asked.device, asked.limit)
        bad |= len(made) < len(nets) or any("costs" in row for row in data["speed"])
    if asked.json:
        asked.json.write_text(json.dumps(data, indent=1) + "\n")
    if asked.page:
        write(page(data), asked.page)
    return int(bad)


def _published(file: Path, to: Path) -> Path:
    """Exports a network on the CPU, and returns its folder."""
    verdict = export(load(file), to, "cpu")
    if verdict.folder is None or verdict.exit_code:
        raise RuntimeError(f"{file.name} is not proven: {verdict.outcome}")
    return Path(verdict.folder)


if __name__ == "__main__":
    sys.exit(main())
