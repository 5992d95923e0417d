"""How long one run of an artifact takes, in a unit that a slower machine stretches alike."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from exportkit import judge, plugins
from exportkit.spec import Artifact, Network, Runtime

_ROUNDS, _SECONDS = 200, 0.5  # the most runs, and the time after which no further one starts
_WARM = 3


def measure(folder: Path, artifact: Artifact, network: Network, runtime: Runtime, data: Mapping[str, Any]) -> float:
    """Times an artifact on the largest golden case.

    Args:
        data: the manifest's "evidence".

    Returns:
        The fastest run as a multiple of the fastest run of `_workload` on the same machine, both taken in turn.

    Raises:
        RunError: the artifact does not load or run.
    """
    backend = next(name for name in plugins.names("backends") if artifact.format in plugins.load("backends", name).formats)
    session = judge.load(folder, artifact, network, backend, runtime)
    trial = judge.golden_trial(folder, data)
    cases = [case for case in trial.cases if case.domain == "inside" and case.name not in trial.raising]
    arrays = max((judge.read(trial.arrays, case.name) for case in cases), key=lambda one: sum(value.nbytes for value in one.values()))
    inputs = {spec.name: arrays[f"input/{spec.name}"] for spec in network.inputs}
    ours, reference = _fastest(lambda: session(inputs), _workload())
    return ours / reference


def _fastest(first: Callable[[], Any], second: Callable[[], Any]) -> tuple[float, float]:
    """Returns the least seconds that each took: what else the machine does only adds to them."""
    best = [np.inf, np.inf]
    for _ in range(_WARM):
        first()
        second()
    until = time.perf_counter() + _SECONDS
    for _ in range(_ROUNDS):
        for place, call in enumerate((first, second)):
            started = time.perf_counter()
            call()
            best[place] = min(best[place], time.perf_counter() - started)
        if time.perf_counter() > until:
            break
    return best[0], best[1]


def _workload() -> Callable[[], Any]:
    """Makes a fixed piece of work on one thread: about a fifth of a millisecond on a processor of 2023."""
    values = np.random.default_rng(0).standard_normal(20_000).astype(np.float32)
    return lambda: np.exp(np.cumsum(np.tanh(values)) * np.float32(1e-3)).sum()
