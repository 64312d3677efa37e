"""The CPU kernels rank rows of any values exactly, whatever the neighbours, the threads and the scratch."""

import numpy as np
import pytest
import torch
from fastplast_kernels.compilation import compiled
from fastplast_kernels.wasserstein import cpu_rows, wasserstein_penalty
from fastplast_kernels.wasserstein.cpu import SOME, WIDE, rank_target, scratch_size
from fastplast_kernels.wasserstein.streams import PAUSE, SHORTEST, SIZE, STATE, TABLE, WAIT
from fastplast_kernels.workers import flush_denormals, restore_denormals
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from wasserstein_rows import KINDS, SIZES, row, stable_rank


def ranks(w: np.ndarray, scratch: np.ndarray | None = None) -> np.ndarray:
    """The kernel's ranks, read from targets that count up."""
    q = np.full(w.size, -1, np.float32)
    scratch = np.empty(scratch_size(w.size), np.int32) if scratch is None else scratch
    assert rank_target(w, np.arange(w.size, dtype=np.float32), q, scratch)
    return q.astype(np.int64)


@pytest.mark.parametrize("kind", KINDS)
def test_ranks_equal_a_stable_argsort_at_every_size(kind):
    for n in SIZES:
        w = row(kind, n)
        np.testing.assert_array_equal(ranks(w), stable_rank(w), err_msg=f"n = {n}")


def test_ranks_equal_a_stable_argsort_at_all_small_sizes():
    rng = np.random.default_rng(0)
    for n in [*range(1, 2 * WIDE + 8), *range(SOME - 9, SOME + 9)]:
        w = rng.integers(-n, n, n).astype(np.float32)
        np.testing.assert_array_equal(ranks(w), stable_rank(w))


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_ranks_equal_a_stable_argsort_of_whatever_comes(data):
    """Few numbers, drawn from all floats, dealt out to a row long enough for buckets."""
    finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
    values = data.draw(arrays.arrays(np.float32, st.integers(1, 40), elements=finite))
    n, seed = data.draw(st.integers(1, 3000)), data.draw(st.integers(0, 2**32))
    rng = np.random.default_rng(seed)
    w = values[(values.size * rng.random(n) ** data.draw(st.sampled_from([0.2, 1, 5]))).astype(np.int64)]
    with np.errstate(over="ignore", invalid="ignore"):
        close = w * (
            1 + np.float32(data.draw(st.sampled_from([0, 1e-7, 1e-3]))) * rng.standard_normal(n).astype(np.float32)
        )
    w = np.where(np.isfinite(close), close, w).astype(np.float32)
    np.testing.assert_array_equal(ranks(w), stable_rank(w))


def test_more_equal_neighbours_than_sixteen_bits_count():
    rng = np.random.default_rng(0)
    for equal in (65_535, 65_536, 65_537, 140_000):
        w = np.full(150_000, np.float32(0.1))
        w[equal:] = rng.standard_normal(w.size - equal)
        rng.shuffle(w)
        np.testing.assert_array_equal(ranks(w), stable_rank(w))


@compiled
def _flushed(w, sorted_init, q, scratch):
    control = flush_denormals()
    ok = rank_target(w, sorted_init, q, scratch)
    restore_denormals(control)
    return ok


@pytest.mark.parametrize("n", [40, 700, 5000, 20_001])
def test_denormal_numbers_are_ranked_also_where_arithmetic_takes_them_for_zero(n):
    w, q = row("denormal", n), np.empty(n, np.float32)
    assert _flushed(w, np.arange(n, dtype=np.float32), q, np.empty(scratch_size(n), np.int32))
    np.testing.assert_array_equal(q, stable_rank(w))


@pytest.mark.parametrize("n", [40, 500, 5000, 20_001])
def test_nothing_is_written_outside_the_row_and_its_scratch(n):
    for kind in KINDS:
        size = scratch_size(n)
        q, scratch = np.full(n + 2, 7, np.float32), np.full(size + 64, 7, np.int32)
        assert rank_target(row(kind, n), np.arange(n, dtype=np.float32), q[1:-1], scratch[32:-32])
        assert q[0] == q[-1] == 7
        assert (scratch[:32] == 7).all()
        assert (scratch[-32:] == 7).all()


def test_rows_of_different_layers_share_scratch_and_what_it_holds_does_not_matter():
    scratch = np.empty(scratch_size(100_352), np.int32)
    for filling in (0, -1, 2**31 - 1, -(2**31)):
        scratch[:] = filling
        for n in (100_352, 320, 8192, 60, 2048, 100_352):
            w = row("gaussian", n)
            np.testing.assert_array_equal(ranks(w, scratch), stable_rank(w))


@pytest.mark.parametrize("n", [SHORTEST, 20_001, 100_352])
def test_a_map_of_an_earlier_row_changes_no_rank(n):
    """Whether it fits, is worn, lets a bucket overflow or lies beside the row; some rows have no map at all."""
    scratch, gauss = np.empty(scratch_size(n), np.int32), row("gaussian", n)
    for kind in KINDS:
        for w in (gauss, gauss + np.float32(0.01), gauss * np.float32(1.3), row(kind, n), gauss, gauss[::-1].copy()):
            np.testing.assert_array_equal(ranks(w, scratch), stable_rank(w), err_msg=kind)


def test_a_map_serves_alike_rows_and_is_made_anew_where_one_differs():
    n = 30_000
    state, scratch = np.empty(0), np.empty(scratch_size(n), np.int32)
    maps = []
    rows = [row("gaussian", n), row("gaussian", n)[::-1].copy(), row("uniform", n) * 9, row("two-valued", n)]
    for w in rows:
        ranks(w, scratch)
        state = scratch[:STATE]
        maps.append(state[TABLE:].tobytes())
    assert maps[0] == maps[1] != maps[2]
    assert state[SIZE] == n
    assert state[WAIT] == PAUSE
    ranks(rows[0], scratch)
    assert state[WAIT] == PAUSE - 1


@pytest.mark.parametrize("members", [1, 3, 30])
def test_rows_of_different_kinds_are_each_as_if_alone(members):
    n, kinds = 3001, list(KINDS)
    w = np.stack([row(kinds[m % len(kinds)], n) for m in range(members)])
    initial = np.stack([np.sort(row("gaussian", n) * (m + 1)) for m in range(members)])
    q = cpu_rows.target(torch.from_numpy(w), torch.from_numpy(initial)).numpy()
    for m in range(members):
        np.testing.assert_array_equal(q[m], initial[m][stable_rank(w[m])])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_gradient_is_within_one_ulp_of_the_formula(kind, reduction):
    for n in (1, 300, 3001):
        w, initial = row(kind, n), np.sort(row("gaussian", n))
        found = wasserstein_penalty(torch.from_numpy(w)[None], torch.from_numpy(initial), reduction)
        penalty, gradient = (x[0].numpy() for x in found)
        away = w.astype(np.float64) - initial[stable_rank(w)]
        c = 1 / n if reduction == "mean" else 1.0
        with np.errstate(over="ignore"):  # the penalty of huge weights is beyond float32
            formulas = np.float32(c * (away**2).sum()), (2 * c * away).astype(np.float32)
        for value, formula in zip((penalty, gradient), formulas):  # n roundings in float64 are far below one of these
            np.testing.assert_array_max_ulp(value, formula, maxulp=1)


@pytest.mark.parametrize("members", [1, 5])
def test_bits_do_not_depend_on_the_number_of_threads(members):
    rng = np.random.default_rng(0)
    w = torch.from_numpy(rng.standard_normal((members, 60_001)).astype(np.float32))
    initial = torch.from_numpy(np.sort(rng.standard_normal(60_001).astype(np.float32)))
    for kernel in (
        lambda n: (cpu_rows.target(w, initial, n),),
        lambda n: cpu_rows.penalty_and_gradient(w, initial, 0.1, n),
    ):
        one, two = ([x.numpy().tobytes() for x in kernel(threads)] for threads in (1, 2))
        assert one == two


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("n", [1, 60, 700, 5000, 20_001])
def test_a_row_that_is_not_finite_is_flagged_and_others_are_as_without_it(n, bad):
    w = torch.from_numpy(np.stack([row(kind, n) for kind in ("gaussian", "uniform", "two-valued")]))
    initial, spoilt = w.flip(0).sort().values, w.clone()
    spoilt[1, n - 1] = bad
    q, spoilt_q = cpu_rows.target(w, initial), cpu_rows.target(spoilt, initial)
    assert spoilt_q[1].isnan().all()
    assert torch.equal(spoilt_q[[0, 2]], q[[0, 2]])
    clean, (penalty, gradient) = wasserstein_penalty(w, initial), wasserstein_penalty(spoilt, initial)
    assert penalty.isnan().tolist() == [False, True, False]
    assert gradient[1].isnan().all()
    for found, expected in zip((penalty, gradient), clean):
        assert torch.equal(found[[0, 2]], expected[[0, 2]])
