"""Cold wall time of `exportkit export` (three formats, proven) over a process that only calls torch.onnx.export(dynamo=True).

    python benchmarks/cold.py [--runs 5] [--networks 20]

The two commands run in turn, so that a machine whose speed drifts slows both. With --networks N also N networks in one
`exportkit export`, per network. Prints medians and their ratio; absolute seconds are this machine's.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NET = Path(__file__).parents[1] / "layers" / "networks" / "centered_net.py"
PEER = """
import runpy, sys, torch
net = runpy.run_path(sys.argv[1])
torch.onnx.export(net["model"].eval(), (net["example_inputs"],), sys.argv[2], dynamo=True)
"""


def timed(command: list[str]) -> float:
    started = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.monotonic() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--networks", type=int, default=20)
    args = parser.parse_args()
    exportkit = str(Path(sys.executable).with_name("exportkit"))
    with tempfile.TemporaryDirectory() as scratch:
        peer = [sys.executable, "-c", PEER, str(NET), f"{scratch}/peer.onnx"]
        ours = [exportkit, "export", str(NET), "--to", f"{scratch}/one"]
        nets = [shutil.copy(NET, f"{scratch}/net_{number}.py") for number in range(args.networks)]
        many = [exportkit, "export", *nets, "--to", f"{scratch}/many", "--jobs", "2"]
        timed(peer)
        timed(ours)  # both once, so that bytecode and the page cache are warm for all
        rows = [(timed(peer), timed(ours)) for _ in range(args.runs)]
        base, own = (statistics.median(column) for column in zip(*rows, strict=True))
        print(f"torch.onnx.export(dynamo=True), one process: {base:.2f} s")
        print(f"exportkit export, three formats, proven:     {own:.2f} s = {own / base:.2f}x (goal: at most 1.5x)")
        each = timed(many) / args.networks
        print(f"{args.networks} networks in one command, each:           {each:.2f} s = {each / base:.2f}x (goal: at most 0.25x)")


if __name__ == "__main__":
    main()
