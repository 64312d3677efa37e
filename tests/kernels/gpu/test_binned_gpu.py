"""Binned targets stay within the bound that they come with."""

import pytest
import torch
from interpreter import INTERPRETED, permuted_programs, poison

pytest.importorskip("triton", reason="needs Triton")

from fastplast_kernels.wasserstein import binned, gpu
from fastplast_kernels.wasserstein.reference import target

LAYERS, STRIDE, M = [(0, 300), (304, 9)], 320, 3


@pytest.fixture(autouse=True)
def small(monkeypatch):
    if INTERPRETED:
        for name, value in {"BLOCK": 128, "SHIFT": 22, "NUM_CELLS": 1024}.items():
            monkeypatch.setattr(gpu, name, value)
    monkeypatch.setattr(binned, "BINS", 40)


def rows(device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Gaussian, constant and heavy-tailed weights; sorted initial weights."""
    generator = torch.Generator().manual_seed(0)
    w, init = torch.randn(2, M, STRIDE, generator=generator)
    w[1] = 0.5
    w[2] = w[2] ** 7
    for offset, n in LAYERS:
        init[:, offset : offset + n] = init[:, offset : offset + n].sort(1).values
    return w.to(device), init.to(device)


@pytest.mark.parametrize("stale", [False, True], ids=["map of these weights", "map of other weights"])
def test_binned_targets_lie_within_the_bound_of_the_exact_ones(stale, device):
    w, init = rows(device)
    bins, q = binned.allocate(init, LAYERS), torch.empty_like(w)
    poison(q, bins.value, bins.bound)
    with permuted_programs(0):
        binned.warm_up(bins, w.flip(0) if stale else w)
        binned.count(bins, w)
        binned.scan(bins, init)
        binned.target(bins, w, q)
    assert bins.ranked.all()
    for layer, (offset, n) in enumerate(LAYERS):
        part = slice(offset, offset + n)
        error = (q[:, part] - target(w[:, part], init[:, part])).abs().amax(1)
        assert (error <= bins.bound[:, layer]).all()
        spread = init[:, offset + n - 1] - init[:, offset]
        assert torch.equal(bins.bound[1, layer], spread[1]), "equal weights share one bin"
        if not stale:
            assert bins.bound[0, layer] < 0.5 * spread[0]
            torch.testing.assert_close(q[:, part].mean(1), init[:, part].mean(1), rtol=0, atol=1e-5)


def test_a_row_that_is_not_finite_keeps_its_targets(device):
    w, init = rows(device)
    w[0, 5] = torch.inf
    bins, q = binned.allocate(init, LAYERS), torch.full_like(w, 7.0)
    binned.warm_up(bins, w)
    binned.count(bins, w)
    binned.scan(bins, init)
    binned.target(bins, w, q)
    assert bins.ranked.tolist() == [[0, 1], [1, 1], [1, 1]]
    assert (q[0, :300] == 7).all()
    assert (q[1, :300] != 7).all()
