"""What verification costs beside the export itself, from exportkit's own timings (run.json).

    python benchmarks/cost.py [--format onnx] [--limit 1.0] [NETWORK_OR_FOLDER ...]

Verification is computing the references (eager, the oracle, perturbed runs, of all cases) and judging the artifact on them; export is
making the artifact. The goal: on the median of the networks at most as long as the export. Finding the dimensions is told beside them.
The steps of one network overlap on several cores; each is timed by itself. Exits with 1 where the median exceeds the limit.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import gate


def seconds_of(file: str, form: str) -> dict[str, float] | None:
    """Exports one network and reads its timings; None where it is not exported."""
    exportkit = str(Path(sys.executable).with_name("exportkit"))
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run([exportkit, "export", file, "--to", scratch, "--format", form], check=False, capture_output=True)
        runs = list(Path(scratch).glob("*/run.json"))
        return json.loads(runs[0].read_text())["seconds"] if runs else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=[str(Path(__file__).parent / "networks")], help="files or folders")
    parser.add_argument("--format", default="onnx")
    parser.add_argument("--limit", type=float, default=1.0)
    args = parser.parse_args()
    ratios = []
    print(f"{'network':32} {'survey':>8} {'references':>11} {'judging':>8} {'making':>8} {'verify/export':>14}")
    for file in gate.networks(args.networks):
        seconds = seconds_of(file, args.format)
        if seconds is None:
            print(f"{Path(file).stem:32} not exported")
            continue
        making, judging = (sum(value for key, value in seconds.items() if key.startswith(step)) for step in ("making", "judging"))
        ratios.append((seconds["references"] + judging) / making)
        times = f"{seconds['survey']:7.2f}s {seconds['references']:10.2f}s {judging:7.2f}s {making:7.2f}s"
        print(f"{Path(file).stem:32} {times} {ratios[-1]:13.2f}x", flush=True)
    median = statistics.median(ratios)
    print(f"median of {len(ratios)} networks: verification takes {median:.2f}x the export (goal: at most {args.limit:g}x)")
    sys.exit(median > args.limit)


if __name__ == "__main__":
    main()
