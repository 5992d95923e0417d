"""Peak memory of exporting and proving a large network, over its weights.

    python benchmarks/memory.py [--layers 64] [--width 4096]

The goal: at most 1.25x the weights plus 600 MiB in any one process, the float64 oracle included; no second copy on disk.
Needs psutil. Shared pages count fully in every process that maps them, as the kernel reports them.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import psutil

NET = """
import torch
from torch import nn
torch.manual_seed(0)
with torch.no_grad():
    model = nn.Sequential(*[nn.Linear({width}, {width}, bias=False) for _ in range({layers})])
example_inputs = torch.randn(2, {width})
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=64)
    parser.add_argument("--width", type=int, default=4096)
    args = parser.parse_args()
    weights = args.layers * args.width**2 * 4
    with tempfile.TemporaryDirectory() as scratch:
        net = Path(scratch, "large.py")
        net.write_text(NET.format(layers=args.layers, width=args.width))
        exportkit = str(Path(sys.executable).with_name("exportkit"))
        command = [exportkit, "export", str(net), "--to", f"{scratch}/out", "--format", "onnx", "--timeout", "1800"]
        process = psutil.Popen(command)
        peak: dict[int, int] = {}
        disk = 0
        while process.poll() is None:
            for child in [process, *process.children(recursive=True)]:
                try:
                    peak[child.pid] = max(peak.get(child.pid, 0), child.memory_info().rss)
                except psutil.NoSuchProcess:
                    continue
            disk = max(disk, sum(path.stat().st_size for path in Path(scratch).rglob("*") if path.is_file()))
            time.sleep(0.1)
        limit = 1.25 * weights + (600 << 20)
        most = max(peak.values())
        print(f"weights {weights / 2**30:.2f} GiB; exit code {process.returncode}")
        print(f"largest process {most / 2**30:.2f} GiB = {most / limit:.2f} of the limit (1.25x the weights + 600 MiB)")
        print(f"most on disk at once {disk / weights:.2f}x the weights")


if __name__ == "__main__":
    main()
