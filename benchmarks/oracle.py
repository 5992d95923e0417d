"""The float64 oracle: how many networks have one, whether `.double()` agrees, and its time and memory over eager's.

    python benchmarks/oracle.py NET_OR_FOLDER ...

Each network is loaded in a process of its own. "time" is the oracle's second run over eager's, "MiB" the oracle's peak above that of
eager, beside the weights. ".double()" is torch's own conversion of the whole network: its largest difference from the oracle,
relative to the largest element, or why it cannot be had.
"""

import argparse
import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from exportkit import float64, state
from exportkit.errors import ExportKitError
from exportkit.load import Live
from exportkit.results import flatten, to_numpy
from exportkit.worker import Host, Limits

_AGREES = 1e-9


def measure(live: Live) -> dict[str, Any]:
    """Runs one network in eager, in the oracle and as `.double()`; in a fork of its holder."""
    torch.set_num_threads(1)
    with torch.no_grad(), state.preserved(live.module):
        live.call(live.example)
        _, seconds, peak = _watched(lambda: live.call(live.example))
    try:
        with state.preserved(live.module):
            float64.compute(lambda: live.call(live.example))
            outcome, oracle_seconds, oracle_peak = _watched(lambda: float64.compute(lambda: live.call(live.example)))
    except Exception as error:  # noqa: BLE001 - what stands in the way is the result
        return {"oracle": f"{type(error).__name__}: {str(error).splitlines()[0][:80]}"}
    weights = sum(one.numel() * one.element_size() for one in live.module.parameters()) / 2**20
    told = {"oracle": "", "narrow": sorted(outcome.fallbacks), "time": oracle_seconds / seconds, "mib": (oracle_peak - peak) / 2**20}
    return told | {"weights": weights} | {"double": _double(live, _arrays(outcome.value))}


def _watched(run: Callable[[], Any]) -> tuple[Any, float, int]:
    """Returns a run's result, its seconds and its peak of resident memory in bytes."""
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to what is resident now
    started = time.perf_counter()
    result = run()
    seconds = time.perf_counter() - started
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return result, seconds, int(line.split()[1]) << 10


def _double(live: Live, oracle: dict[str, Any]) -> float | str:
    inputs = {name: value.double() if value.is_floating_point() else value for name, value in live.example.items()}
    try:
        module = copy.deepcopy(live.module).double()
        args, kwargs = live.arguments(inputs)
        with torch.no_grad():
            result = _arrays(module(*args, **kwargs))
    except Exception as error:  # noqa: BLE001 - torch's conversion fails in many ways
        return f"{type(error).__name__}: {str(error).splitlines()[0][:60] if str(error) else ''}"
    floats = [name for name, value in oracle.items() if value.dtype.kind in "fc" and value.size and np.isfinite(value).all()]
    gaps = [float(np.abs(result[name] - oracle[name]).max() / (np.abs(oracle[name]).max() or 1.0)) for name in floats]
    return max(gaps, default=0.0)


def _arrays(result: Any) -> dict[str, Any]:
    return {name: to_numpy(value) for name, value in flatten(result, frozenset())[1].items()}


def _row(name: str, told: dict[str, Any]) -> str:
    if told["oracle"]:
        return f"{name:<32} none: {told['oracle']}"
    double = told["double"] if isinstance(told["double"], str) else f"{told['double']:.0e}"
    narrow = f"  in eager's dtype: {', '.join(told['narrow'])}" if told["narrow"] else ""
    return f"{name:<32} {told['time']:6.1f}x {told['mib']:8.1f} {told['weights']:8.1f}  {double}{narrow}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nets", nargs="+", type=Path)
    nets = [file for path in parser.parse_args().nets for file in (sorted(path.glob("*.py")) if path.is_dir() else [path])]
    print(f"{'network':<32}    time      MiB  weights  .double()")
    rows = []
    with Host.start(("torch", "torch._dynamo", "exportkit.load")) as server:
        for net in nets:
            limits = Limits(300.0)
            try:
                _, holder = server.hold("exportkit.load:hold", str(net), limits=limits, stage=f"loading {net.name}")
                with holder:
                    rows.append(holder.run("oracle:measure", limits=limits, stage="measuring"))
            except ExportKitError as error:
                print(f"{net.stem:<32} not measured: {error.what}")
                continue
            print(_row(net.stem, rows[-1]), flush=True)
    has = [one for one in rows if not one["oracle"]]
    agrees = [one for one in has if not isinstance(one["double"], str) and one["double"] <= _AGREES]
    fails = [one for one in has if isinstance(one["double"], str)]
    print(f"\n{len(has)} of {len(rows)} networks have an oracle; time over eager: median {np.median([one['time'] for one in has]):.1f}x")
    print(f".double() agrees on {len(agrees)}, differs on {len(has) - len(agrees) - len(fails)}, fails on {len(fails)}")


if __name__ == "__main__":
    main()
