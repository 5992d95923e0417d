"""The gate itself: what it must pass, and what it must never pass."""

import numpy as np
import pytest

from exportkit import evidence
from exportkit.evidence import Sample

RNG = np.random.default_rng(0)


def eager_like(oracle, seed, dtype=np.float32):
    """An honest result: float32's own rounding, a few ulp of it."""
    rng = np.random.default_rng(seed)
    return (oracle * (1 + rng.uniform(-2, 2, oracle.shape) * 2.0**-24)).astype(dtype)


def samples(oracles, dtype=np.float32):
    return [
        Sample(f"case-{n}", eager_like(o, n, dtype), o, tuple(eager_like(o, 100 + 10 * n + k, dtype) for k in range(4)))
        for n, o in enumerate(oracles)
    ]


def judge(cases, results, accepted=None):
    """Returns whether all measurements of all cases pass."""
    budget = evidence.weigh(cases, str(cases[0].eager.dtype))
    measurements, errors = [], []
    for case, result in zip(cases, results, strict=True):
        found, error = evidence.measure("out", budget, case, result, accepted=accepted)
        measurements += found
        errors += [error] if error else []
    measurements += evidence.measure_all("out", errors, accepted=accepted)
    return all(one.passed for one in measurements)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e9])
def test_another_honest_rounding_passes_at_any_scale(scale):
    cases = samples([scale * RNG.standard_normal((8, 16)) for _ in range(5)])
    assert judge(cases, [eager_like(case.oracle, 77 + n) for n, case in enumerate(cases)])


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e9])
def test_an_error_of_one_in_ten_thousand_fails_at_any_scale(scale):
    cases = samples([scale * RNG.standard_normal((8, 16)) for _ in range(5)])
    results = [case.eager.copy() for case in cases]
    results[3] = (results[3] * 1.0001).astype(np.float32)
    assert not judge(cases, results)


def test_a_single_wrong_element_fails():
    cases = samples([RNG.standard_normal((64, 64)) for _ in range(3)])
    results = [case.eager.copy() for case in cases]
    results[1][5, 5] += 1e-4
    assert not judge(cases, results)


def test_a_huge_element_hides_nothing():
    oracle = RNG.standard_normal((4, 16))
    oracle[:, 0] = -1e9
    cases = samples([oracle, oracle * 1.5, oracle * 0.5])
    results = [case.eager.copy() for case in cases]
    results[0][0, 1] += 1e-3
    assert not judge(cases, results)


def test_an_exact_zero_of_a_mask_stays_zero():
    oracle = np.where(RNG.random((4, 16)) < 0.5, 0.0, -1e9)
    exact = oracle.astype(np.float32)
    cases = [Sample(f"case-{n}", exact, oracle, (exact,) * 4) for n in range(3)]
    results = [case.eager.copy() for case in cases]
    results[0][results[0] == 0] = 1.0
    assert not judge(cases, results)


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_nan_and_infinity_where_eager_has_numbers_fail(odd):
    cases = samples([RNG.standard_normal((4, 4)) for _ in range(3)])
    results = [case.eager.copy() for case in cases]
    results[0][0, 0] = odd
    assert not judge(cases, results)


def test_nan_instead_of_infinity_fails():
    oracle = RNG.standard_normal((4, 4))
    oracle[0, 0] = np.inf
    cases = samples([oracle] * 3)
    results = [case.eager.copy() for case in cases]
    assert judge(cases, results)
    results[0][0, 0] = np.nan
    assert not judge(cases, results)


@pytest.mark.parametrize("change", [lambda x: x.astype(np.float64), lambda x: x[:-1], lambda x: x[None], np.zeros_like])
def test_another_dtype_shape_or_all_zeros_fail(change):
    cases = samples([RNG.standard_normal((4, 4)) for _ in range(3)])
    assert not judge(cases, [change(case.eager) for case in cases])


@pytest.mark.parametrize("dtype", ["int64", "bool"])
def test_integers_and_booleans_must_be_equal(dtype):
    values = [RNG.integers(0, 2, 50).astype(dtype) for _ in range(3)]
    cases = [Sample(f"case-{n}", v, v, ()) for n, v in enumerate(values)]
    assert judge(cases, values)
    wrong = [v.copy() for v in values]
    wrong[2][7] = 1 - wrong[2][7]
    assert not judge(cases, wrong)


def test_an_integer_that_eager_itself_changes_may_differ_and_too_many_are_undetermined():
    value = np.arange(1000)
    loose = np.zeros(1000, bool)
    loose[3] = True
    cases = [Sample(f"case-{n}", value, value, (), loose) for n in range(3)]
    other = value.copy()
    other[3] = 7
    assert judge(cases, [other] * 3)
    assert evidence.weigh(cases, "int64").shortfalls("out", 3) == []
    loose[:100] = True
    assert evidence.weigh(cases, "int64").shortfalls("out", 3)


def test_a_case_on_which_eager_is_far_off_is_no_evidence():
    oracle = RNG.standard_normal((8, 8))
    far = Sample("far", (oracle * 1.1).astype(np.float32), oracle, ())
    budget = evidence.weigh([far, far, far], "float32")
    assert budget.cases == 0
    assert budget.shortfalls("out", 3)


def test_a_case_on_which_eager_is_right_by_luck_is_no_evidence():
    cases = samples([RNG.standard_normal(2) for _ in range(4)])
    far = tuple((cases[2].oracle * (1 + 5e-3 * k)).astype(np.float32) for k in range(-2, 2))
    cases[2] = Sample("case-2", cases[2].eager, cases[2].oracle, far)
    assert list(evidence.weigh(cases, "float32").dropped) == ["case-2"]


def test_constant_and_all_nan_outputs_are_told():
    same = np.ones((3, 3), np.float32)
    constant = [Sample(f"case-{n}", same, same.astype(float), ()) for n in range(3)]
    assert evidence.weigh(constant, "float32").constant
    nan = [Sample(f"case-{n}", same * np.nan, same * np.nan, ()) for n in range(3)]
    assert evidence.weigh(nan, "float32").all_nan


def test_a_users_own_limit_replaces_ours():
    cases = samples([RNG.standard_normal((8, 16)) for _ in range(3)])
    results = [(case.oracle * (1 + 1e-5)).astype(np.float32) for case in cases]
    assert not judge(cases, results)
    assert judge(cases, results, accepted=1000.0)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_the_limits_follow_the_dtype(dtype):
    unit = {"float16": 2.0**-11, "float64": 2.0**-53}[dtype]
    oracles = [RNG.standard_normal((8, 16)) for _ in range(3)]
    cases = [Sample(f"case-{n}", o.astype(dtype), o, (o.astype(dtype),) * 4) for n, o in enumerate(oracles)]
    near, far = ([(o * (1 + k * unit)).astype(dtype) for o in oracles] for k in (1, 64))
    assert judge(cases, near)
    assert not judge(cases, far)


def test_a_case_on_which_eager_errs_much_loosens_nothing_for_the_others():
    oracles = [RNG.standard_normal((8, 16)) for _ in range(6)]
    cases = samples(oracles)
    wild = [(oracles[5] * (1 + 1e-4 * np.random.default_rng(n).standard_normal((8, 16)))).astype(np.float32) for n in range(6)]
    cases[5] = Sample("case-5", wild[0], oracles[5], tuple(wild[1:5]))
    honest = [case.eager for case in cases]
    assert judge(cases, [*honest[:5], wild[5]])
    assert not judge(cases, [(oracles[0] * (1 + 1e-5)).astype(np.float32), *honest[1:]])
    assert not judge(cases, [*honest[:5], (oracles[5] * 1.01).astype(np.float32)])


def test_a_case_that_was_never_weighed_fails():
    cases = samples([RNG.standard_normal((4, 4)) for _ in range(3)])
    budget = evidence.weigh(cases, "float32")
    stranger = Sample("stranger", cases[0].eager, cases[0].oracle, ())
    measurements, _ = evidence.measure("out", budget, stranger, cases[0].eager)
    assert not all(one.passed for one in measurements)


@pytest.mark.parametrize("narrow", [False, True])
def test_sixteen_bits_inside_are_evidence_where_the_network_is_known_to_compute_so(narrow):
    oracles = [RNG.standard_normal(200) for _ in range(4)]
    coarse = [Sample(f"case-{n}", o.astype(np.float16).astype(np.float32) * 1.002, o, ()) for n, o in enumerate(oracles)]
    assert bool(evidence.weigh(coarse, "float32", narrow=narrow).dropped) is not narrow


def test_small_values_among_neighbours_of_all_sizes_may_be_off_by_an_ulp_of_the_largest():
    spread = 10.0 ** -RNG.uniform(0, 8, (16, 32))
    cases = samples([spread * RNG.standard_normal((16, 32)) for _ in range(3)])
    for count, right in ((2, True), (20, False)):
        off = [np.where(np.abs(case.oracle) < 1e-3, count * 2.0**-24 * np.abs(case.oracle).max(), 0.0) for case in cases]
        assert judge(cases, [(case.eager + shift).astype(np.float32) for case, shift in zip(cases, off, strict=True)]) == right


def test_uncertain_logits_beside_a_mask_are_not_judged_by_the_masks_rounding():
    oracle = RNG.standard_normal((8, 16))
    oracle[:, 0] = -1e9
    runs = [(oracle * (1 + 4e-4 * np.random.default_rng(n).standard_normal((8, 16)))).astype(np.float32) for n in range(6)]
    cases = [Sample(f"case-{n}", np.where(oracle < -1e8, oracle, runs[0]).astype(np.float32), oracle, tuple(runs[1:5])) for n in range(3)]
    results = [case.eager.copy() for case in cases]
    results[1][0, 1] += 1.0
    assert not judge(cases, results)
