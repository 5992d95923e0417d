"""How far one value lies from what it should be, in units of eager's own rounding error there."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exportkit import evidence
from exportkit.evidence import Sample
from exportkit.messages import Gap

Array = NDArray[Any]
TIED = "tied/"  # of the arrays of a run of eager that took equal values in their order


def gap(sample: Sample, result: Array) -> Gap:
    """Measures one value against its local truth, in units of eager's own local error."""
    eager, truth = sample.eager, sample.oracle
    if result.shape != eager.shape or str(result.dtype) != str(eager.dtype):
        return Gap(np.inf, text=f"is {result.dtype}{list(result.shape)} where eager has {eager.dtype}{list(eager.shape)}")
    if evidence.is_exact(str(eager.dtype)):
        wrong = (result != eager) & (truth == eager)
        return Gap(np.inf if wrong.any() else 0.0, text=f"{int(wrong.sum())} of {wrong.size} elements differ" if wrong.any() else "")
    a, b, c = evidence.widen(result), evidence.widen(truth), evidence.widen(eager)
    odd = ~np.isfinite(a) | ~np.isfinite(c)
    strange = odd & ~((a == c) | (np.isnan(a) & np.isnan(c)))
    if strange.any():
        return Gap(np.inf, text=f"{int(strange.sum())} of {a.size} elements are NaN or infinite in one of the two only")
    fine = ~odd & np.isfinite(b)
    if not fine.any():
        return Gap(0.0)
    error, size = np.abs(a[fine] - b[fine]), np.abs(b[fine])
    relative = rms(error) / max(rms(size), 1e-300)
    return Gap(_times(sample, result), relative, float(error.max()), float(size.max()))


def _times(sample: Sample, result: Array) -> float:
    budget = evidence.weigh([sample], str(sample.eager.dtype))
    found, errors = evidence.measure("", budget, sample, result)
    found += evidence.measure_all("", [errors] if errors else [])
    if not budget.dropped:
        return max((one.value for one in found if one.metric.endswith("eager's")), default=0.0)
    # Eager itself is far off here: a value that cancels. Its own error is the only scale.
    truth = evidence.widen(sample.oracle)
    with np.errstate(invalid="ignore"):
        own = max(float(np.nanmax(np.abs(evidence.widen(run) - truth))) for run in (sample.eager, *sample.perturbed))
        return float(np.nanmax(np.abs(evidence.widen(result) - truth))) / max(own, 1e-300)


def nearest(arrays: Mapping[str, Array], results: Mapping[str, Array]) -> tuple[Mapping[str, Array], bool]:
    """Chooses the run of eager, as it is or with equal values taken in their order (ties.py), that all outputs together lie nearer to.

    Args:
        arrays: of one case: "eager/OUTPUT", "oracle/OUTPUT", and where the other run differs "tied/eager/OUTPUT", "tied/oracle/OUTPUT".
        results: output -> what the artifact gave.

    Returns:
        The arrays with those of the chosen run in eager's place, and whether it is the other run.
    """
    other = {key.removeprefix(TIED): value for key, value in arrays.items() if key.startswith(TIED)}
    if other and _distance({**arrays, **other}, results) < _distance(arrays, results):
        return {**arrays, **other}, True
    return arrays, False


def _distance(arrays: Mapping[str, Array], results: Mapping[str, Array]) -> float:
    """Sums over the outputs the share of elements that differ, or the error as a share of the values."""
    total = 0.0
    for name, result in results.items():
        eager = arrays[f"eager/{name}"]
        if result.shape != eager.shape:
            return np.inf
        if evidence.is_exact(str(eager.dtype)):
            total += float(np.mean(result != eager)) if eager.size else 0.0
            continue
        a, b = evidence.widen(result), evidence.widen(eager)
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        fine = np.isfinite(a) & np.isfinite(b)
        total += min(1.0, rms(np.abs(a[fine] - b[fine])) / max(rms(np.abs(b[fine])), 1e-300))
        total += float(np.mean(~fine & ~same)) if same.size else 0.0
    return total


def as_truth(eager: Array) -> Sample:
    """Takes a value for the truth itself."""
    return Sample("", eager, eager, ())


def rms(values: Array) -> float:
    """Returns the root mean square, 0 of nothing."""
    return float(np.sqrt(np.mean(np.square(values)))) if values.size else 0.0
