"""How far apart two results may lie: limits from eager's own rounding error, and measurements against them.

Eager PyTorch's error to the float64 oracle is pooled per output over all cases and over runs whose inputs and weights are perturbed by
half an ulp. An artifact passes where its error to the same oracle stays within `RMS_FACTOR` (root mean square) and `MAX_FACTOR`
(maximum) times that. Elements are judged among elements of their own magnitude, so that a -1e9 beside logits hides nothing.
docs/architecture.md, "What a verdict means", has the rules and the measurements behind the numbers.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exportkit.messages import Band, Budget
from exportkit.spec import Measurement

Array = NDArray[Any]

RMS_FACTOR = 3.0
MAX_FACTOR = 5.0

_DECADES = 3.0  # one magnitude group spans a factor of 1e3
_FEWEST_FOR_RMS = 64
_LEVEL = 4.0  # cases whose error is so many times the median one's are weighed apart
_ZERO = -1  # the group of elements that the oracle says are exactly zero
_ODD = -2  # that of elements which are not finite
_SMALLEST = 12  # groups below 1e-36 of the largest element are one
_UNIT = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float64": 2.0**-53, "complex128": 2.0**-53}
_CAP, _CAP_NARROW = 1e-3, 2e-2  # of the values; the second where 16 bits are computed with
_TINY = {"float16": 2.0**-24, "bfloat16": 2.0**-133, "float64": 2.0**-1074, "complex128": 2.0**-1074}


@dataclass(frozen=True, slots=True)
class Sample:
    """One output of one case: eager's result, the oracle's, and eager's under perturbations of half an ulp."""

    case: str
    eager: Array
    oracle: Array
    perturbed: tuple[Array, ...]
    undetermined: Array | None = None


def widen(values: Array) -> Array:
    """Turns any numeric array into float64 (a complex one gets a trailing axis of 2)."""
    if np.iscomplexobj(values):
        return np.ascontiguousarray(values, dtype=np.complex128).view(np.float64).reshape(*values.shape, 2)
    return np.asarray(values, dtype=np.float64)


def is_exact(dtype: str) -> bool:
    """Says whether a dtype's values must be equal: integers and booleans."""
    return not dtype.startswith(("float", "bfloat", "complex"))


def least(dtype: str) -> float:
    """Returns the least positive number of an element type, a subnormal: what is smaller becomes nothing, or this."""
    return _TINY.get(dtype, 2.0**-149)


def cap(dtype: str, *, narrow: bool) -> float:
    """Returns the relative error above which eager's own result is no evidence.

    Args:
        dtype: numpy's name of the output's element type.
        narrow: True where the network computes in 16 bits, whatever it returns.
    """
    return _CAP_NARROW if narrow or dtype in ("float16", "bfloat16") else _CAP


def weigh(samples: Sequence[Sample], dtype: str, *, narrow: bool = False) -> Budget:
    """Weighs all cases of one output: how large eager's own error is, group by group.

    Args:
        samples: one per case inside the domain, or two where equal values can be taken in two orders; shapes may differ between cases.
        dtype: numpy's name of the output's element type.
        narrow: True where the network computes in 16 bits, whatever it returns.
    """
    most = cap(dtype, narrow=narrow)
    first = samples[0].eager if samples else np.zeros(0)
    constant = len(samples) > 1 and all(_same(s.eager, first) for s in samples[1:])
    all_nan = bool(samples) and not is_exact(dtype) and all(s.eager.size > 0 and bool(np.isnan(widen(s.eager)).all()) for s in samples)
    if is_exact(dtype):
        loose = [s.undetermined for s in samples if s.undetermined is not None]
        total = sum(s.eager.size for s in samples)
        share = float(sum(int(mask.sum()) for mask in loose)) / total if total else 0.0
        return Budget(True, dtype, (), {}, len(samples), share, constant, all_nan)
    dropped = {s.case: reason for s in samples if (reason := _no_evidence(s, most))}
    kept = [s for s in samples if s.case not in dropped]
    bands = tuple(band for cluster in _clusters(kept) for level in _levels(cluster, dtype) for band in _bands(level, dtype, most))
    return Budget(False, dtype, bands, dropped, len({s.case for s in kept}), 0.0, constant, all_nan)


def measure(
    name: str, budget: Budget, sample: Sample, result: Array, *, accepted: float | None = None
) -> tuple[list[Measurement], "Errors | None"]:
    """Measures one output of one case.

    Args:
        result: what the artifact gave.
        accepted: the user's own limit, as a multiple of eager's error, in place of `MAX_FACTOR`.

    Returns:
        The case's measurements, and for floats the errors from which `measure_all` takes the rms over all cases.
    """
    differs = float(result.shape != sample.eager.shape or str(result.dtype) != str(sample.eager.dtype))
    form = Measurement(sample.case, name, "shape and dtype", differs, 0.0)
    if differs:
        return [form], None
    if budget.exact:
        wrong = result != sample.eager
        if sample.undetermined is not None:
            wrong = wrong & ~sample.undetermined
        return [form, Measurement(sample.case, name, "unequal elements", float(wrong.sum()), 0.0)], None
    pattern = Measurement(sample.case, name, "NaN and infinity pattern", _pattern(result, sample.eager), 0.0)
    if sample.case in budget.dropped:
        return [form, pattern], None
    errors = _errors(budget, sample, result)
    value = max((worst for _, _, _, worst in errors.groups), default=0.0)
    return [form, pattern, Measurement(sample.case, name, "largest error / eager's", value, accepted or MAX_FACTOR)], errors


def measure_all(name: str, errors: Iterable["Errors"], *, accepted: float | None = None) -> list[Measurement]:
    """Measures the root mean square error over all cases of one output, as a multiple of eager's own.

    A band of few elements has no rms to speak of: two honest ones differ by 3x by chance. Its maximum is judged all the same.
    """
    sums: dict[Band | None, tuple[float, int]] = {}
    for case in errors:
        for band, squares, count, _ in case.groups:
            before = sums.get(band, (0.0, 0))
            sums[band] = (before[0] + squares, before[1] + count)
    ratios = [(squares / count) ** 0.5 for squares, count in sums.values() if count >= _FEWEST_FOR_RMS]
    if not ratios:
        return []
    value = max(ratios)
    return [Measurement("all cases", name, "rms error / eager's", value, accepted or RMS_FACTOR)]


@dataclass(frozen=True, slots=True)
class Errors:
    """One case's errors in units of eager's own: (band, sum of squares, elements, largest) for each band."""

    groups: tuple[tuple[Band | None, float, int, float], ...]


def difference(result: Array, eager: Array) -> tuple[float, float]:
    """Returns the largest absolute and relative difference over the elements that are finite in both."""
    a, b = widen(result), widen(eager)
    finite = np.isfinite(a) & np.isfinite(b)
    if not finite.any():
        return 0.0, 0.0
    gap = np.abs(a[finite] - b[finite])
    size = np.abs(b[finite])
    relative = np.divide(gap, size, out=np.where(gap > 0, np.inf, 0.0), where=size > 0)
    return float(gap.max()), float(relative.max())


def read_budget(data: Mapping[str, Any]) -> Budget:
    """Reads eager's own error back; infinite limits are text in JSON."""
    bands = tuple(
        Band(
            tuple(band["cases"]),
            tuple(band["groups"]),
            float(band["rms"]),
            float(band["max"]),
        )
        for band in data["bands"]
    )
    return Budget(**{**data, "bands": bands})


def _same(a: Array, b: Array) -> bool:
    return a.shape == b.shape and np.array_equal(widen(a), widen(b), equal_nan=True)


def _pattern(result: Array, eager: Array) -> float:
    a, b = widen(result), widen(eager)
    odd = ~np.isfinite(a) | ~np.isfinite(b)
    equal = (a == b) | (np.isnan(a) & np.isnan(b))
    return float((odd & ~equal).sum())


def _finite(sample: Sample) -> Array:
    finite: Array = np.isfinite(widen(sample.oracle)) & np.isfinite(widen(sample.eager))
    return finite


def _scale(sample: Sample) -> float:
    finite = _finite(sample)
    return float(np.abs(widen(sample.oracle)[finite]).max()) if finite.any() else 0.0


def _no_evidence(sample: Sample, most: float) -> str:
    """Says why a case cannot judge: eager itself is further from the oracle than any limit allows."""
    finite, oracle = _finite(sample), widen(sample.oracle)
    if not finite.any():
        return (
            "" if sample.eager.size == 0 or np.isnan(widen(sample.eager)).all() or np.isinf(widen(sample.eager)).any() else "nothing finite"
        )
    # All runs count: of eager alone, the lucky draws of an ill-conditioned network would be evidence, the others not.
    error, size = _error(sample, oracle, finite), _rms(oracle[finite])
    if error > most * size:
        return f"eager's own error is {error / max(size, 1e-300):.1e} of the output, above {most:g}"
    return ""


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if values.size else 0.0


def _clusters(samples: Sequence[Sample]) -> Iterable[list[Sample]]:
    """Splits cases whose largest elements differ by more than 1e3: their relative errors need not be alike."""
    cluster: list[Sample] = []
    for sample in sorted(samples, key=_scale):
        if cluster and _scale(sample) > 10**_DECADES * _scale(cluster[0]):
            yield cluster
            cluster = []
        cluster.append(sample)
    if cluster:
        yield cluster


def _levels(cluster: Sequence[Sample], dtype: str) -> Iterable[list[Sample]]:
    """Splits off the cases on which eager errs far more than on most: what they may differ by is no measure for the others."""
    levels = {id(sample): _level(sample, dtype) for sample in cluster}
    order = sorted(cluster, key=lambda sample: levels[id(sample)])
    limit = _LEVEL * levels[id(order[len(order) // 2])]
    part: list[Sample] = []
    for sample in order:
        if part and levels[id(sample)] > limit:
            yield part
            part, limit = [], _LEVEL * levels[id(sample)]
        part.append(sample)
    yield part


def _level(sample: Sample, dtype: str) -> float:
    """Returns eager's root mean square error relative to the case's scale, at least the rounding of the values."""
    oracle, finite, scale = widen(sample.oracle), _finite(sample), _scale(sample)
    return max(_error(sample, oracle, finite), _UNIT.get(dtype, 2.0**-24) * _rms(oracle[finite])) / (scale or 1.0)


def _error(sample: Sample, oracle: Array, finite: Array) -> float:
    """Returns the root mean square error to the oracle, over eager's run and those moved by half an ulp."""
    errors = [_rms(wide[shared] - oracle[shared]) for run in _runs(sample) if (shared := finite & np.isfinite(wide := widen(run))).any()]
    return _rms(np.asarray(errors))


def _runs(sample: Sample) -> list[Array]:
    return [run for run in (sample.eager, *sample.perturbed) if run.shape == sample.eager.shape]


def _groups(sample: Sample) -> Array:
    """Numbers each element's magnitude group; `_ZERO` where the oracle is exactly zero, `_ODD` where something is not finite."""
    oracle, finite, scale = np.abs(widen(sample.oracle)), _finite(sample), _scale(sample)
    groups = np.full(oracle.shape, _ODD)
    groups[finite & (oracle == 0)] = _ZERO
    sized = finite & (oracle > 0)
    with np.errstate(divide="ignore", over="ignore"):
        depth = np.floor(-(np.log10(oracle[sized]) - np.log10(scale)) / _DECADES)
    groups[sized] = np.clip(depth, 0, _SMALLEST)
    return groups


@dataclass(slots=True)
class _Pool:
    """Eager's relative errors and the relative values of the elements of some magnitude groups."""

    groups: tuple[int, ...]
    errors: list[Array]
    values: list[Array]

    def band(self, cases: tuple[str, ...], scale: float, dtype: str, top: "_Pool") -> Band:
        """Sums up; the rounding of the values of `top`, the magnitudes that these ones reach up to, is the floor."""
        unit, tiny = _UNIT.get(dtype, 2.0**-24), least(dtype) / max(scale, 1e-300)
        errors, values = np.concatenate(self.errors), np.concatenate(top.values)
        largest = float(values.max())
        return Band(
            cases,
            self.groups,
            max(_rms(errors), unit * (_rms(values) if top is self else largest), min(tiny, 1.0)),
            max(float(errors.max()), unit * largest, min(tiny, 1.0)),
        )


def _bands(cluster: Sequence[Sample], dtype: str, most: float) -> Iterable[Band]:
    """Pools a cluster's groups, from small magnitudes to large; a group that drowns in rounding joins the next larger one."""
    cases = tuple(sample.case for sample in cluster)
    pools: dict[int, _Pool] = {}
    for sample in cluster:
        groups, largest = _groups(sample), _scale(sample) or 1.0
        oracle = widen(sample.oracle)
        with np.errstate(invalid="ignore"):  # what is not finite is left out below
            runs = [np.abs(widen(run) - oracle) / largest for run in _runs(sample)]
        for group in np.unique(groups[groups != _ODD]):
            pool = pools.setdefault(int(group), _Pool((int(group),), [], []))
            inside = groups == group
            pool.errors += [run[inside][np.isfinite(run[inside])] for run in runs]
            pool.values.append(np.abs(oracle[inside]) / largest)
    zero = pools.pop(_ZERO, None)
    scale = min(map(_scale, cluster))
    yield from (pool.band(cases, scale, dtype, _reached(pools, pool)) for pool in _merged(pools, most))
    if zero is not None:
        # An exact zero has no magnitude of its own: it may lie as far off as eager's error (not the floor) among the smallest others.
        errors = np.concatenate(zero.errors)
        smallest = max(pools) if pools else None
        nearby = float(np.concatenate(pools[smallest].errors).max()) if smallest is not None else 0.0
        worst = max(float(errors.max()), nearby)
        yield Band(cases, (_ZERO,), worst, worst)


def _reached(pools: Mapping[int, _Pool], pool: _Pool) -> _Pool:
    """Returns the largest magnitudes that a pool's lead up to without a gap of a factor of 1e3.

    A runtime's sigmoid is exact to an ulp of one, not of the small result, and so is every difference of larger numbers: an element among
    neighbours of all sizes may be as far off as an ulp of the largest. Between a mask of -1e9 and the logits beside it lies a gap.
    """
    top = min(pool.groups)
    while top - 1 in pools:
        top -= 1
    return pools[top]


def _merged(pools: Mapping[int, _Pool], most: float) -> Iterable[_Pool]:
    for group in sorted(pools, reverse=True):
        pool = pools[group]
        errors, values = np.concatenate(pool.errors), np.concatenate(pool.values)
        drowned = RMS_FACTOR * _rms(errors) > most * _rms(values)
        if drowned and group - 1 in pools:
            larger = pools[group - 1]
            larger.groups += pool.groups
            larger.errors += pool.errors
            larger.values += pool.values
            continue
        yield pool


def _errors(budget: Budget, sample: Sample, result: Array) -> Errors:
    groups, largest = _groups(sample), _scale(sample)
    with np.errstate(invalid="ignore", over="ignore"):
        gap = np.abs(widen(result) - widen(sample.oracle)) / (largest or 1.0)
    found: list[tuple[Band | None, float, int, float]] = []
    for band in budget.bands:
        inside = np.isin(groups, band.groups) if sample.case in band.cases else np.zeros(groups.shape, bool)
        if inside.any():
            found.append((band, *_ratio(gap[inside], band)))
            groups = np.where(inside, _ODD, groups)
    if left := int((groups != _ODD).sum()):  # a case that was never weighed proves nothing
        found.append((None, np.inf, left, np.inf))
    return Errors(tuple(found))


def _ratio(gap: Array, band: Band) -> tuple[float, int, float]:
    """Returns the sum of squares, the count and the maximum of errors in units of eager's own."""
    if band.max == 0.0:
        wrong = float("inf") if gap.any() else 0.0
        return wrong, gap.size, wrong
    rms = band.rms or band.max
    return float(np.square(gap / rms).sum()), gap.size, float(gap.max()) / band.max
