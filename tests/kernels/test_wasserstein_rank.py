"""Ranks on the CPU equal a stable argsort on whatever a row of weights may look like."""

import numpy as np
import pytest
import torch
from fastplast_kernels.wasserstein.cpu import rank_target, scratch_size
from fastplast_kernels.wasserstein.reference import penalty, rank, target
from wasserstein_rows import rows

SIZES = (1, 2, 3, 31, 257, 2048, 10_007)


@pytest.mark.parametrize("n", SIZES)
def test_ranks_equal_a_stable_argsort(n):
    anchor = np.sort(np.random.default_rng(0).standard_normal(n).astype(np.float32))
    for name, values in rows(n).items():
        w, q = values.astype(np.float32), np.full(n, np.nan, np.float32)
        assert rank_target(w, anchor, q, np.empty(scratch_size(n), np.int32)), name
        expected = np.empty(n, np.float32)
        expected[np.argsort(w, kind="stable")] = anchor
        np.testing.assert_array_equal(q, expected, err_msg=name)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_is_flagged_and_nothing_is_written(bad):
    w = np.linspace(-1, 1, 100, dtype=np.float32)
    w[63] = bad
    q = np.full(100, 7, np.float32)
    assert not rank_target(w, np.sort(np.arange(100, dtype=np.float32)), q, np.empty(scratch_size(100), np.int32))
    assert (q == 7).all()


def test_the_definition_sorts_both_sides():
    torch.manual_seed(0)
    w, init = torch.randn(3, 50, dtype=torch.float64), torch.randn(3, 50, dtype=torch.float64).sort().values
    expected = (w.sort(dim=1).values - init).square()
    torch.testing.assert_close(penalty(w, init), expected.mean(1))
    torch.testing.assert_close(penalty(w, init, "sum"), expected.sum(1))
    torch.testing.assert_close(target(w, init).sort(dim=1).values, init)
    assert (rank(torch.tensor([2.0, -0.0, 0.0, -1.0])) == torch.tensor([3, 1, 2, 0])).all()


def test_the_gradient_equals_autograd_through_the_sort():
    torch.manual_seed(1)
    w = torch.randn(2, 40, dtype=torch.float64, requires_grad=True)
    init = torch.randn(2, 40, dtype=torch.float64).sort().values
    ((w.sort(dim=1).values - init).square().mean(1)).sum().backward()
    torch.testing.assert_close(w.grad, 2 / 40 * (w.detach() - target(w.detach(), init)))
